"""The command line. torch and diffusers are imported inside the commands: ``--help`` must not wait for them.

A file a command; :mod:`~noisewright.cli.options` has what they share, :mod:`~noisewright.cli.entry` the exit codes.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["app", "main"]

if TYPE_CHECKING:
    from noisewright.cli.entry import app, main


def __getattr__(name: str) -> Any:
    # the commands import each other's options through this package: it loads none of them itself
    if name in __all__:
        from noisewright.cli import entry

        return getattr(entry, name)
    raise AttributeError(f"module 'noisewright.cli' has no attribute {name!r}")
