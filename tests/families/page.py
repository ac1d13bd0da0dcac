"""The table of families as docs/pipelines.md has it, made of what the package says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisewright.registry.families import CELLS, pipeline_families, release

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"
BEGIN, END = "<!-- families: written by tests/families/write_matrix.py -->", "<!-- families: end -->"
SIGNS = {"holds": "yes", "refused": "no", "wrong": "**wrong**", "-": "-"}


def table() -> str:
    """The table, and below it why a cell does not hold."""
    lines = [
        f"With diffusers {release()}:", "",
        "| family | " + " | ".join(CELLS.values()) + " |", "|---" * (len(CELLS) + 1) + "|",
    ]  # fmt: skip
    rows = pipeline_families()
    for row in rows:
        signs = [SIGNS[row["cells"][cell].partition(":")[0]] for cell in CELLS]
        lines.append(f"| {row['title']} | " + " | ".join(signs) + " |")
    lines += ["", "Their pipelines, models of the hub that are of them, and why not where it says no:", ""]
    for row in rows:
        lines += described(row)
    return "\n".join(lines)


def described(row: dict[str, Any]) -> list[str]:
    """A family in a line, and a line for each reason."""
    cells = row["cells"]
    classes = ", ".join(f"`{one}`" for one in row["classes"])
    models = f": {', '.join(row['models'])}" if row["models"] else ""
    since = f" (diffusers {row['since']})" if row["since"] != "0.40" else ""
    lines = [f"- **{row['title']}**{since}, {classes}{models}"]
    for said in dict.fromkeys(text for text in cells.values() if ": " in text):
        where = [CELLS[cell] for cell, text in cells.items() if text == said]
        every = "everything" if len(where) == len(cells) else ", ".join(where)
        lines.append(f"  - {every}: {said.partition(': ')[2]}")
    return lines


def parts() -> tuple[str, str, str]:
    """The page before the table, the table, and what follows."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    inner, _, after = rest.partition(f"\n{END}\n")
    return before, inner, after


def write() -> None:
    """Put the table of now into the page."""
    before, _, after = parts()
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}\n{after}", encoding="utf-8")
