"""How a command ends, where that is not simply done.

Exit codes: 0 done; 2 wrong use (one line); 1 failure (one line that names the run directory); 130 after Ctrl-C.
"""

from __future__ import annotations

from dataclasses import dataclass


class Interrupted(Exception):
    """Ctrl-C, with the line to print; exit code 130. (typer keeps KeyboardInterrupt for itself.)"""


class Failure(Exception):
    """A failure that is already one line; exit code 1."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, where that is not simply done."""

    code: int
