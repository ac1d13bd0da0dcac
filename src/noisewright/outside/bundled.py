"""What lies in the package beside its code: the bundled models."""

from __future__ import annotations

import re
from pathlib import Path

OWNER = "noisewright"
MODELS = Path(__file__).parents[1] / "models"


def bundled(name: str | Path) -> Path | None:
    """The directory of a bundled model such as ``noisewright/shapes``, or None.

    No directory of the same name stands in for it.
    """
    owner, _, rest = str(name).partition("/")
    plain = re.fullmatch(r"\w[\w.-]*", rest) is not None  # no "..", no further folder
    return MODELS / rest if owner == OWNER and plain and (MODELS / rest).is_dir() else None


def is_own(name: str | Path) -> bool:
    """Whether a name is one of the package's own, ``noisewright/...``: there or not, nothing is fetched for it."""
    return str(name).partition("/")[0] == OWNER and "/" in str(name)
