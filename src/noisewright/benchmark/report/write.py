"""A report, written: one file of HTML, one of Markdown, and a picture of the grid where there is one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noisewright.benchmark.compared import Compared
from noisewright.benchmark.report.blocks import Section, html_of, markdown_of, marked_down
from noisewright.benchmark.report.grid_picture import grid_picture
from noisewright.benchmark.report.look import page
from noisewright.benchmark.report.sections import GRID, sections_of
from noisewright.benchmark.report.sheets import sheets_of
from noisewright.benchmark.report.words import amiss, first_words
from noisewright.benchmark.spec import Spec
from noisewright.benchmark.spec_files import builtin_specs, read_spec
from noisewright.benchmark.store import Results, read_benchmark
from noisewright.evaluate.page import escaped
from noisewright.outside.files import write_atomically, write_picture

HTML, MARKDOWN = "report.html", "report.md"


def write_report(
    results: Results, compared: Compared, out: str | Path, *, command: str | None = None
) -> list[Path]:
    """Write ``report.html``, ``report.md`` and, for few axes and prompts, ``grid.png``.

    The HTML holds everything: no request leaves it. Its size is bounded (see the ``MOST_`` of each module), and what is
    left out is said where it would stand.

    Args:
        results: rows, and the directory whose pictures are shown. A picture that is gone, or lies elsewhere, is said
            to be.
        compared: what came of them.
        out: the directory to write to, which is there: as a rule the benchmark's own.
        command: what makes the benchmark again; by default that of a built-in spec as it is. Of others nobody knows
            what was typed, and ``benchmark.json`` is named, which holds all of it.

    Returns:
        The files, in this order.

    Raises:
        OSError: where they cannot be written.
    """
    root, out = Path(results.root), Path(out)
    spec = results.spec
    sheets = sheets_of(spec, results.rows)
    written = [out / HTML, out / MARKDOWN]
    if sheets.sheets:
        title = spec.prompts[0].text if len(spec.prompts) == 1 else spec.title
        write_picture(grid_picture(root, title, sheets.sheets), out / GRID)
        written.append(out / GRID)
    command = command or _command(spec)
    sections = sections_of(root, spec, results.rows, compared, sheets, held=_held(root), command=command)
    wrong, verdicts = amiss(compared, results.warnings), first_words(compared)
    text = page(compared.title, _html(compared, wrong, verdicts, sections))
    write_atomically(out / HTML, text.encode(), sync=False)
    write_atomically(out / MARKDOWN, _markdown(compared, wrong, verdicts, sections).encode(), sync=False)
    return written


def _command(spec: Spec) -> str | None:
    """What makes a built-in spec's benchmark again; None of any other spec, and of one that was changed when typed."""
    if spec.name not in builtin_specs():
        return None
    words = f"noisewright benchmark {shlex.quote(spec.name)}"
    model = str(spec.base.get("model", ""))
    for other, more in ((None, ""), (model, f" --model {shlex.quote(model)}")):
        try:
            same = read_spec(spec.name, model=other) == spec
        except (ValueError, TypeError, OSError):
            continue
        if same:
            return f"{words}{more} --out DIR"
    return None


def _held(root: Path) -> Mapping[str, Any]:
    """``benchmark.json``, as far as it can be read: a report needs only the rows."""
    try:
        return read_benchmark(root)[0]
    except (ValueError, OSError):
        return {}


def _html(compared: Compared, wrong: Sequence[str], verdicts: Sequence[str], sections: Sequence[Section]) -> str:
    parts = [f'<header><p class="faint">noisewright benchmark {escaped(compared.name)}</p>'
             f"<h1>{escaped(compared.title)}</h1></header>"]  # fmt: skip
    for kind, said in (("alarm", wrong), ("verdict", verdicts)):
        if said:
            parts.append(f'<div class="{kind}">{"".join(f"<p>{escaped(one)}</p>" for one in said)}</div>')
    links = "".join(f'<a href="#{one.anchor}">{escaped(one.title)}</a>' for one in sections)
    parts.append(f'<nav aria-label="sections">{links}</nav><main>')
    for one in sections:
        blocks = "".join(html_of(block) for block in one.blocks)
        parts.append(f'<section id="{one.anchor}"><h2>{escaped(one.title)}</h2>{blocks}</section>')
    return "".join([*parts, "</main>"])


def _markdown(compared: Compared, wrong: Sequence[str], verdicts: Sequence[str], sections: Sequence[Section]) -> str:
    parts = [f"# {marked_down(compared.title)}"]
    parts += [f"> {marked_down(one)}" for one in wrong]
    if verdicts:
        parts.append("\n".join(f"- {marked_down(one)}" for one in verdicts))
    for one in sections:
        blocks = [found for block in one.blocks if (found := markdown_of(block))]
        parts += [f"## {marked_down(one.title)}", *blocks] if blocks else []
    return "\n\n".join(parts) + "\n"
