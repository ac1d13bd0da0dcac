"""The families of pipelines that the tests go through cell by cell, and what they found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MATRIX = Path(__file__).with_name("families.json")

CELLS = {
    "parity": "the plain image",
    "splits": "ways cut anywhere",
    "batch": "batches",
    "previews": "previews",
    "gradient": "gradients",
    "reproducible": "the same again",
    "cost": "cost counted",
    "zero-order": "`zero-order`, resumed",
    "paths": "`paths`, resumed",
    "replay": "replay",
}
"""What is asked of each family, in a few words."""


def pipeline_families() -> list[dict[str, Any]]:
    """Every family: name, title, pipeline classes, hub ids, the first release of diffusers that has it, and its cells.

    A cell is ``holds``, ``refused: REASON``, ``wrong: REASON``, or ``-`` where there is nothing to ask.
    """
    found: list[dict[str, Any]] = json.loads(MATRIX.read_text(encoding="utf-8"))["families"]
    return found


def release() -> str:
    """The release of diffusers that the cells are of, as in ``0.42``."""
    return str(json.loads(MATRIX.read_text(encoding="utf-8"))["diffusers"])
