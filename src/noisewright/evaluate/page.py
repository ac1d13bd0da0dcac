"""A run as HTML: a card of baseline and best, for notebooks and as the head of a page.

Nothing in it asks for anything outside: pictures are data URIs, read and written again, and every text is escaped.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from noisewright.evaluate.numbers import decimals, gained, written
from noisewright.evaluate.report import fit
from noisewright.images.reading import read_image
from noisewright.outside.inside import inside
from noisewright.outside.texts import LONGEST, clean

if TYPE_CHECKING:
    from noisewright.result import Result

CARD_SIDE, SHEET_SIDE = 320, 1200
"""Pixels of the longer side of a picture in a card, and of its contact sheet."""

EXACT_SIDE = 128
"""Pictures whose longer side has no more pixels are kept exactly, and enlarged by whole pixels."""

MOST_BYTES = 200_000
"""Of a picture: a notebook holds three of a run, and every character of them again each time it is saved."""

CARD_STYLE = """
.nw-card{font:14px/1.5 system-ui,sans-serif;max-width:60rem}
.nw-card .nw-pair{display:flex;flex-wrap:wrap;gap:1rem;margin:.5rem 0}
.nw-card figure{margin:0}
.nw-card figcaption{opacity:.75}
.nw-card img{display:block;max-width:100%;height:auto}
.nw-card img.nw-exact{image-rendering:pixelated}
.nw-card table{border-collapse:collapse;margin:.5rem 0}
.nw-card th,.nw-card td{padding:.15rem .7rem;text-align:right;border-bottom:1px solid rgba(128,128,128,.35)}
.nw-card th:first-child,.nw-card td:first-child{text-align:left;padding-left:0}
.nw-card .nw-faint{opacity:.75}
.nw-card .nw-warning{color:#d9480f}
.nw-card p{margin:.3rem 0}
"""


def run_card(found: Result | Mapping[str, Any]) -> str:
    """Baseline beside best, their scores, the cost, and the contact sheet folded in, as a piece of HTML.

    Args:
        found: a result, or what :func:`noisewright.evaluate.overview.overview` says of a run; it may be at its start.
    """
    facts = found if isinstance(found, Mapping) else found.to_json()
    root = Path(facts["run"])
    best, baseline = facts.get("best"), facts.get("baseline")
    parts = [f"<style>{CARD_STYLE}</style>"]
    if facts.get("prompt"):
        parts.append(f"<p><b>{escaped(facts['prompt'])}</b></p>")
    pair = [(name, one) for name, one in (("baseline", baseline), ("best", best)) if one]
    if pair:
        parts.append(f'<div class="nw-pair">{"".join(_figure(root, name, one) for name, one in pair)}</div>')
        parts.append(_scores(facts, baseline, best))
    else:
        parts.append("<p>no scored candidate yet</p>")
    parts.append(f'<p class="nw-faint">{escaped(_cost(facts))}</p>')
    parts += [f'<p class="nw-warning">{escaped(text)}</p>' for text in facts.get("warnings", ())]
    sheet = picture_inside(root, "contact-sheet.png", SHEET_SIDE)
    if sheet:
        parts.append(f"<details><summary>contact sheet, best first</summary>{sheet}</details>")
    return f'<div class="nw-card">{"".join(parts)}</div>'


def escaped(text: object) -> str:
    """A text from outside as HTML shows it: nothing in it is markup, and nothing invisible is left."""
    return html.escape(clean(text, LONGEST))


def _figure(root: Path, name: str, one: Mapping[str, Any]) -> str:
    seed = one["id"][:8] if one["seed"] is None else f"seed {one['seed']}"
    shown = picture_inside(root, one["file"], CARD_SIDE) or "<p>its file is gone</p>"
    return f"<figure>{shown}<figcaption>{name}, {escaped(seed)}</figcaption></figure>"


def _scores(facts: Mapping[str, Any], baseline: Mapping[str, Any] | None, best: Mapping[str, Any] | None) -> str:
    """The scores of both; of an ensemble the value that the best was chosen by as well."""
    before, after = (baseline or {}).get("scores", {}), (best or {}).get("scores", {})
    every = [one["scores"] for one in facts.get("candidates", ())]
    rows = []
    for name in dict.fromkeys([*after, *before]):
        values = (before.get(name), after.get(name))
        places = decimals([*values, *(one.get(name) for one in every)])
        role = "judge" if name in facts.get("judges", ()) else "verifier"
        rows.append((name, role, *(written(one, places) for one in values), gained(*values, places)))
    if len(facts.get("verifiers", ())) > 1:
        values = ((baseline or {}).get("value"), (best or {}).get("value"))
        places = decimals(values)
        rows.append((facts["value_name"], "", *(written(one, places) for one in values), gained(*values, places)))
    return table(("", "", "baseline", "best", "change"), rows)


def table(headers: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A plain table of texts."""
    head = "".join(f"<th>{escaped(one)}</th>" for one in headers)
    body = "".join("<tr>" + "".join(f"<td>{escaped(one)}</td>" for one in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cost(facts: Mapping[str, Any]) -> str:
    total = facts["seconds"]["total"]
    images = facts["images"]
    cost = f"{images} image{'s' * (images != 1)}, {facts['nfe']} NFE, {facts['forwards']} forwards, {total:.1f} s"
    return f"{cost}; stopped: {facts['stopped']}" if facts.get("stopped") else cost


def picture_inside(root: Path, file: str, side: int) -> str:
    """An image of a run as an ``<img>``; nothing where it is gone, cannot be read, or lies outside of the run."""
    try:
        name = Path(file)
        place = inside(root, name.relative_to(root) if name.is_absolute() else name)
        return picture(Image.fromarray(read_image(place)[0]), side)
    except ValueError:
        return ""


def picture(image: Image.Image, side: int) -> str:
    """An image as an ``<img>`` whose longer side is at most ``side`` pixels; a small one is shown enlarged."""
    exact = max(image.size) <= min(EXACT_SIDE, side)
    shown = image if max(image.size) <= side else fit(image, side)
    scale = max(1, math.floor(side / max(shown.size))) if exact else 1
    buffer = io.BytesIO()
    if exact:
        shown.save(buffer, "png")
    else:
        for quality in (90, 75, 60, 45, 30, 15):
            buffer = io.BytesIO()
            shown.convert("RGB").save(buffer, "jpeg", quality=quality, subsampling=0 if quality == 90 else 2)
            if buffer.tell() <= MOST_BYTES:
                break
    kind = "png" if exact else "jpeg"
    data = base64.b64encode(buffer.getvalue()).decode()
    width, height = shown.width * scale, shown.height * scale
    mark = ' class="nw-exact"' if exact else ""
    return f'<img{mark} width="{width}" height="{height}" alt="" src="data:image/{kind};base64,{data}">'
