"""Files with a prompt a line."""

from __future__ import annotations

from pathlib import Path

from noisewright.outside.bounds import MOST_PROMPTS, no_longer
from noisewright.outside.reading import read_text, shown

MOST_BYTES = 100 * 2**20


def read_prompts(path: str | Path, *, comments: bool = False, distinct: bool = False) -> list[str]:
    r"""The prompts of a file in UTF-8, a line each; blank lines and spaces around a prompt do not count.

    Args:
        path: the file.
        comments: whether a line that begins with ``#`` is none; a prompt that does is written ``\#...``.
        distinct: whether a prompt may stand there only once.

    Raises:
        ValueError: in one line, with the line's number where it is about one: on a file that is not there or no text,
            holds no prompt, too many, one that is too long, or one twice.
    """
    found: dict[int, str] = {}
    for number, line in enumerate(read_text(path, "a file with a prompt a line", most=MOST_BYTES).split("\n"), start=1):
        text = line.strip()
        if not text or (comments and text.startswith("#")):
            continue
        found[number] = text[1:] if comments and text.startswith("\\#") else text
        if len(found) > MOST_PROMPTS:
            raise ValueError(f"expected at most {MOST_PROMPTS} prompts in {shown(path)}, got more")
        try:
            no_longer(prompt=found[number])
        except ValueError as error:
            raise ValueError(f"{error} in line {number} of {shown(path)}") from None
    if not found:
        raise ValueError(f"expected a prompt a line in {shown(path)}, got an empty file")
    if distinct:
        _check_distinct(found, path)
    return list(found.values())


def _check_distinct(found: dict[int, str], path: str | Path) -> None:
    first: dict[str, int] = {}
    for number, text in found.items():
        before = first.setdefault(text, number)
        if before != number:
            cut = text if len(text) <= 60 else text[:57] + "..."
            raise ValueError(f"expected each prompt once in {shown(path)}, got {cut!r} in lines {before} and {number}")
