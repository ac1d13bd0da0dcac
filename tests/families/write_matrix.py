"""Runs every cell of every family, or of those that are named, and writes what came of them into package and page.

What is wrong then belongs mended, or into ``known.py`` with the reason.

    PYTHONPATH=src:tests python tests/families/write_matrix.py [FAMILY ...]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from noisewright.registry.families import MATRIX


def row_of(family: Any, known: dict[tuple[str, str], str]) -> dict[str, Any]:
    """A family as it is written: what it is, and its cells."""
    from families.cells import CELLS, outcome

    cells = {}
    for cell in CELLS:
        with tempfile.TemporaryDirectory() as place:
            try:
                cells[cell] = outcome(family, cell, Path(place))
            except Exception as error:
                first = (str(error).splitlines() or [""])[0]
                said = first if isinstance(error, AssertionError) else f"{type(error).__name__}: {first}"
                cells[cell] = f"wrong: {known.get((family.name, cell), said[:200])}"
    return described(family, cells)


def described(family: Any, cells: dict[str, str]) -> dict[str, Any]:
    """A family and its cells, as JSON."""
    return {
        "name": family.name, "title": family.title, "classes": list(family.classes), "models": list(family.models),
        "since": family.since, "cells": cells,
    }  # fmt: skip


def main(names: list[str]) -> None:
    import diffusers
    import transformers

    from families.family import families
    from families.known import KNOWN
    from families.page import write

    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    for family in families():
        if family.there() and (not names or family.name in names):
            row = row_of(family, KNOWN)
            print(family.name, *(f"{cell}: {text};" for cell, text in row["cells"].items()), flush=True)
            put(row, [one.name for one in families()])
    write()


def put(row: dict[str, Any], order: list[str]) -> None:
    """Write a family's row in its place; rows of families that are no more go."""
    import diffusers

    rows = json.loads(MATRIX.read_text(encoding="utf-8"))["families"] if MATRIX.exists() else []
    held = {**{one["name"]: one for one in rows}, row["name"]: row}
    release = ".".join(diffusers.__version__.split(".")[:2])
    found = {"diffusers": release, "families": [held[name] for name in order if name in held]}
    MATRIX.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()
    main(sys.argv[1:])
