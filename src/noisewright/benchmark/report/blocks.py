"""What a report is made of: headings, sentences, tables, drawings; the same for HTML and for Markdown."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from noisewright.evaluate.page import escaped
from noisewright.outside.texts import clean

SPECIAL = re.compile(r"([\\`*_|~#]|\[(?![-+]?\d)|(?<!\d)\]|\](?=[(\[:]))")
"""What means something in a line of Markdown, besides what HTML says. Brackets of intervals mean nothing."""

LONG = 40
"""Rows of a table that scrolls inside of itself: more would hide what comes after it."""

LONGEST = 2000
"""Characters of a text of Markdown."""


@dataclass(frozen=True)
class Entry:
    """A cell of a table.

    Attributes:
        text: any.
        value: what its column is sorted by; None where there is no number.
        small: a second line, such as an interval; may be empty.
        mark: beside the text; may be empty.
        drawing: HTML in place of the text where there is HTML; may be empty.
    """

    text: str
    value: float | None = None
    small: str = ""
    mark: str = ""
    drawing: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose columns are sorted by a click.

    Attributes:
        heads: of the columns; what stands under an empty one is not sorted.
        rows: as many entries each as there are heads; the first is the row's name.
        shaded: places of rows that stand out.
        texts: places of columns that hold texts, beside the first: they are wrapped, and not sorted.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    shaded: frozenset[int] = frozenset()
    texts: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Said:
    """A paragraph. ``faint`` where it explains."""

    text: str
    faint: bool = False


@dataclass(frozen=True)
class Typed:
    """A command."""

    text: str


@dataclass(frozen=True)
class Drawn:
    """HTML that was made from escaped texts, and what stands in its place in Markdown (made likewise)."""

    html: str
    markdown: str = ""


@dataclass(frozen=True)
class Folded:
    """What is seen after a click on its title."""

    title: str
    blocks: tuple[Block, ...]


Block = Table | Said | Typed | Drawn | Folded


@dataclass(frozen=True)
class Section:
    """A heading and what is below it.

    Attributes:
        title: one of our own texts.
        blocks: in order; a section without any is left out.
    """

    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """The title as an id."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


# As HTML


def html_of(block: Block) -> str:
    """A block as HTML, every text of it escaped."""
    match block:
        case Table():
            return _html_table(block)
        case Said():
            return f'<p class="faint">{escaped(block.text)}</p>' if block.faint else f"<p>{escaped(block.text)}</p>"
        case Typed():
            return f"<pre>{escaped(block.text)}</pre>"
        case Drawn():
            return block.html
        case Folded():
            inner = "".join(html_of(one) for one in block.blocks)
            return f"<details><summary>{escaped(block.title)}</summary>{inner}</details>"


def _html_table(table: Table) -> str:
    heads = []
    for place, head in enumerate(table.heads):
        text = place in table.texts or place == 0
        button = f"<button>{escaped(head)}</button>" if head and place not in table.texts else escaped(head)
        heads.append(f'<th scope="col"{" class=text" if text else ""}>{button}</th>')
    rows = "".join(_html_row(table, place) for place in range(len(table.rows)))
    long = " long" if len(table.rows) > LONG else ""
    return (f'<div class="scroll{long}"><table><thead><tr>{"".join(heads)}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>")  # fmt: skip


def _html_row(table: Table, place: int) -> str:
    parts = []
    for column, one in enumerate(table.rows[place]):
        value = "" if one.value is None or not math.isfinite(one.value) else repr(float(one.value))
        # An empty mark takes its room too, so that numbers stand below each other.
        marked = any(row[column].mark for row in table.rows)
        mark = f'<span class="mark">{escaped(one.mark)}</span>' if marked else ""
        small = f"<small>{escaped(one.small)}</small>" if one.small else ""
        inner = f"{one.drawing or escaped(one.text)}{mark}{small}"
        if column == 0:
            parts.append(f'<th scope="row" class="text" data-value="{value}">{inner}</th>')
        else:
            parts.append(f'<td{" class=text" if column in table.texts else ""} data-value="{value}">{inner}</td>')
    return f"<tr{' class=reference' if place in table.shaded else ''}>{''.join(parts)}</tr>"


# As Markdown


def marked_down(text: object) -> str:
    """A text from outside as one line of Markdown shows it: nothing in it is markup, of HTML neither."""
    return SPECIAL.sub(r"\\\1", html.escape(clean(text, LONGEST), quote=False))


def markdown_of(block: Block) -> str:
    """A block as Markdown; empty where there is nothing to say without a picture."""
    match block:
        case Table():
            return _markdown_table(block)
        case Said():
            return marked_down(block.text)
        case Typed():
            return "\n".join(f"    {line}" for line in clean(block.text, LONGEST).splitlines())
        case Drawn():
            return block.markdown
        case Folded():
            inner = [found for one in block.blocks if (found := markdown_of(one))]
            return "\n\n".join([f"**{marked_down(block.title)}**", *inner]) if inner else ""


def _markdown_table(table: Table) -> str:
    # What is a picture only has no column.
    columns = [place for place in range(len(table.heads)) if place == 0 or any(row[place].text for row in table.rows)]
    left = [place == 0 or place in table.texts for place in columns]
    lines = ["| " + " | ".join(marked_down(table.heads[place]) or " " for place in columns) + " |",
             "|" + "|".join(":--" if one else "--:" for one in left) + "|"]  # fmt: skip
    lines += ["| " + " | ".join(_markdown_entry(row[place]) for place in columns) + " |" for row in table.rows]
    return "\n".join(lines)


def _markdown_entry(entry: Entry) -> str:
    return " ".join(marked_down(one) for one in (entry.text, entry.small, entry.mark) if one)


def pieces(parts: Sequence[Block | None]) -> tuple[Block, ...]:
    """Blocks without those that are not there."""
    return tuple(one for one in parts if one is not None)
