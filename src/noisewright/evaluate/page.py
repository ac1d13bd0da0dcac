"""A run as HTML: a card of baseline and best, for notebooks and as the head of a page, and the page.

Nothing in them asks for anything outside: pictures are data URIs, read and written again, and every text is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from noisewright.evaluate.chart import curve_svg
from noisewright.evaluate.numbers import decimals, gained, written
from noisewright.evaluate.report import fit
from noisewright.evaluate.words import cost_lines, lineage_text, status_text, why_lines
from noisewright.images.metadata import public, public_name
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


def picture_inside(root: Path, file: str, side: int, alt: str = "") -> str:
    """An image of a run as an ``<img>``; nothing where it is gone, cannot be read, or lies outside of the run."""
    try:
        name = Path(file)
        place = inside(root, name.relative_to(root) if name.is_absolute() else name)
        return picture(Image.fromarray(read_image(place)[0]), side, alt)
    except ValueError:
        return ""


def picture(image: Image.Image, side: int, alt: str = "") -> str:
    """An image as an ``<img>`` whose longer side is at most ``side`` pixels; a small one is shown enlarged.

    Args:
        image: of any size.
        side: pixels.
        alt: what it shows, for those who do not see it; any text.
    """
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
    said = f'alt="{escaped(alt)}" src="data:image/{kind};base64,{data}"'
    return f'<img{mark} width="{width}" height="{height}" {said}>'


# The page

THUMB_SIDE, MOST_THUMBS, MOST_ROWS = 96, 200, 2000
"""Pixels of a candidate's picture in the table, how many of the best have one, and how many are in the table."""

PAGE_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;
background:Canvas;color:CanvasText}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse}
th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid rgba(128,128,128,.35);vertical-align:middle}
td.text,th.text{text-align:left;overflow-wrap:anywhere}
th button{font:inherit;font-weight:bold;background:none;border:0;padding:0;color:inherit;cursor:pointer}
th[aria-sort=ascending] button::after{content:" \\25b2"}th[aria-sort=descending] button::after{content:" \\25bc"}
img.nw-exact{image-rendering:pixelated}
.faint{opacity:.75}
"""

SORTING = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentNode, column = head.cellIndex, body = head.closest("table").tBodies[0];
  const down = head.getAttribute("aria-sort") !== "descending";
  for (const one of head.parentNode.cells) one.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const number = (row) => parseFloat(row.cells[column].dataset.value);
  const value = (row) => isNaN(number(row)) ? -Infinity : number(row);
  const rows = [...body.rows].sort((one, other) => {
    const a = value(one), b = value(other);
    return a === b ? 0 : (a < b) === down ? 1 : -1;
  });
  body.append(...rows);
};
"""


def run_page(found: Mapping[str, Any]) -> str:
    """A run as one file of HTML, in light and dark, which opens without any other and asks for nothing.

    Args:
        found: what :func:`noisewright.evaluate.overview.overview` says of it.
    """
    digest = base64.b64encode(hashlib.sha256(SORTING.encode()).digest()).decode()
    allowed = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    model = public_name(found["model"]) if isinstance(found["model"], str) else "a sampler"
    title = escaped(found["prompt"] or Path(found["run"]).resolve().name)
    best = found["best"]
    said = f"{found['search']} on {model}, seed {found['seed']}: {status_text(found)}"
    parts = [f"<h1>{title}</h1>", f'<p class="faint">{escaped(said)}</p>', run_card({**found, "prompt": None})]
    why = why_lines(found["why"])
    if why:
        parts += ["<h2>Why it won</h2>", "".join(f"<p>{escaped(line)}</p>" for line in why)]
    curve = curve_svg(found["curve"], found["value_name"], _level(found))
    parts += ["<h2>Best so far</h2>", curve] if curve else []
    if found["candidates"]:
        parts += ["<h2>Candidates</h2>", _candidates(found)]
    if best:
        parts += ["<h2>How the best was made</h2>", f"<p>{escaped(lineage_text(best['lineage']))}</p>"]
    parts += ["<h2>Cost</h2>", _named(cost_lines(found)), "<h2>Settings</h2>", _named(_settings(found))]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{html.escape(allowed)}"><meta name="viewport" content="width=device-width"><title>{title}</title>'
        f"<style>{PAGE_STYLE}</style></head><body>{''.join(parts)}<script>{SORTING}</script></body></html>\n"
    )


def _level(found: Mapping[str, Any]) -> float | None:
    """The baseline's value, where it is among those of the curve."""
    base = found["baseline"]
    alike = base is not None and len({(one["steps"], one.get("draft")) for one in found["candidates"]}) == 1
    return base["value"] if alike else None


def _candidates(found: Mapping[str, Any]) -> str:
    """The table of candidates, with pictures of the best; its columns are sorted by a click."""
    root, every = Path(found["run"]), found["candidates"]
    names = [*found["verifiers"], *found["judges"]]
    places = {name: decimals(one["scores"].get(name) for one in every) for name in names}
    several, of_values = len(found["verifiers"]) > 1, decimals(one["value"] for one in every)
    marks: dict[str, list[str]] = {one["id"]: [] for one in every}
    for mark in ("best", "baseline"):
        if found[mark]:
            marks[found[mark]["id"]].append(mark)
    for one in every:
        if "draft" in one:
            marks[one["id"]].append("draft")
    heads = ["place", "seed", "steps", *([found["value_name"]] if several else []),
             *found["verifiers"], *(f"{name} (judge)" for name in found["judges"])]  # fmt: skip
    rows = []
    for place, one in enumerate(every[:MOST_ROWS], 1):
        shown = picture_inside(root, one["file"], THUMB_SIDE) if place <= MOST_THUMBS else ""
        cells = [(place, str(place)), (one["seed"], one["id"][:8] if one["seed"] is None else str(one["seed"])),
                 (one["steps"], str(one["steps"]))]  # fmt: skip
        cells += [(one["value"], written(one["value"], of_values))] if several else []
        cells += [(one["scores"].get(name), written(one["scores"][name], places[name]) if name in one["scores"] else "")
                  for name in names]  # fmt: skip
        data = "".join(f'<td data-value="{_value(value)}">{escaped(text)}</td>' for value, text in cells)
        rows.append(f'<tr><td>{shown}</td>{data}<td class="text">{", ".join(marks[one["id"]])}</td></tr>')
    head = "".join(f"<th><button>{escaped(name)}</button></th>" for name in heads)
    left = len(every) - MOST_ROWS
    more = f'<p class="faint">and {left} more, with lower values</p>' if left > 0 else ""
    return (f'<div class="scroll"><table><thead><tr><th></th>{head}<th></th></tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>{more}")  # fmt: skip


def _value(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else repr(float(value))


def _settings(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run was asked for, without the places of files on this machine: a page is sent around."""
    budget = ", ".join(f"{value:g} {unit}" for unit, value in found["budget"].items())
    named = {"run": Path(found["run"]).resolve().name, "created": found["created"], "ensemble": found["ensemble"]}
    named["budget"] = budget
    settings = public({"sampler": found["settings"]})["sampler"]
    named |= {name: value for name, value in settings.items() if value is not None}
    return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in named.items()]


def _named(lines: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th class="text">{escaped(name)}</th><td class="text">{escaped(text)}</td></tr>'
                   for name, text in lines)  # fmt: skip
    return f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'
