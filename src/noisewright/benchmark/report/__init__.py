"""The report of a benchmark: ``report.html``, one file that asks for nothing, ``report.md``, and ``grid.png``.

:func:`write_report` writes them. ``sections`` says what they hold (of ``tables``, ``drawings``, ``wall``, ``sheets``
and ``words``); ``blocks`` turns it into HTML and Markdown; ``plots`` (on ``scales`` and ``marks``) and ``bars`` draw.
"""

from noisewright.benchmark.report.write import write_report

__all__ = ["write_report"]
