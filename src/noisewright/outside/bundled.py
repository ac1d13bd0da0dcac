"""What lies in the package beside its code: the bundled models."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

OWNER = "noisewright"
MODELS = Path(__file__).parents[1] / "models"
LENDERS = {"shapes-small": "shapes"}
"""Bundled models whose directory has some parts only, with the bundled model that has the others. It stands in the
code: no file of a model may say where parts of it lie."""


def bundled(name: str | Path) -> Path | None:
    """The directory of a bundled model such as ``noisewright/shapes``, or None.

    No directory of the same name stands in for it.
    """
    owner, _, rest = str(name).partition("/")
    plain = re.fullmatch(r"\w[\w.-]*", rest) is not None  # no "..", no further folder
    return MODELS / rest if owner == OWNER and plain and (MODELS / rest).is_dir() else None


def lender(folder: str | Path) -> Path | None:
    """The directory of the bundled model that has the parts which a bundled model's own directory lacks.

    None for all others, copies of such a directory among them.
    """
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # no place on disk: a hub id, or anything
        here = Path(folder).resolve()
        if here.parent == MODELS.resolve() and here.name in LENDERS:
            return MODELS / LENDERS[here.name]
    return None


def is_own(name: str | Path) -> bool:
    """Whether a name is one of the package's own, ``noisewright/...``: there or not, nothing is fetched for it."""
    return str(name).partition("/")[0] == OWNER and "/" in str(name)


def is_server(name: object) -> bool:
    """Whether a name is the address of a server, and of nothing on this machine's disk."""
    return isinstance(name, str) and name.lower().startswith(("http://", "https://"))
