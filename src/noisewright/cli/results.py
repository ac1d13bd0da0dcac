"""What a run came to, for people: its result, its table, its curve. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from noisewright.cli import output, terminal
from noisewright.evaluate.numbers import decimals, gained, written
from noisewright.evaluate.words import cost_lines, lineage_text, plural, status_text, why_lines

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-=+*#@"


def print_result(summary: Mapping[str, Any], judges: Sequence[str]) -> None:
    """Baseline beside best, why it won, what it cost, why it stopped, and the folder where all of it is."""
    best, baseline = summary["best"], summary["baseline"]
    pair = (baseline, best)
    rows = [["seed", "", *("-" if one["seed"] is None else str(one["seed"]) for one in pair), ""]]
    if len(summary.get("verifiers", ())) > 1:
        values = baseline.get("value"), best.get("value")
        places = decimals(values)
        rows.append([summary["value_name"], "value", *(written(one, places) for one in values),
                     gained(*values, places)])  # fmt: skip
    for name in dict.fromkeys([*best["scores"], *baseline["scores"]]):
        scores = baseline["scores"].get(name), best["scores"].get(name)
        places = decimals(scores)
        role = "judge" if name in judges else "verifier"
        rows.append([name, role, *(written(one, places) for one in scores), gained(*scores, places)])
    console = terminal.out()
    console.print(terminal.table(["", "", "baseline", "best", "change"], rows, right=(2, 3, 4)))
    for name, text in _named_lines(summary):
        console.print(terminal.shown(f"{name:<9}{text}"))
    console.print(Text(""))
    output.stream().write(f"{summary['run']}\n")


def _named_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [("why" if number == 0 else "", text) for number, text in enumerate(why_lines(summary.get("why")))]
    kept = summary.get("kept", ())
    if kept:
        lines.append(("kept", f"the best {len(kept)} in kept/" if len(kept) > 1 else "the best in kept/"))
    return [*lines, *cost_lines(summary)]


def overview_view(found: Mapping[str, Any], top: int) -> RenderableType:
    """A run for people: status, top candidates, curve, lineage, cost, how to go on."""
    budget = ", ".join(f"{value:g} {unit}" for unit, value in found["budget"].items())
    searched = f"{found['search']}, seed {found['seed']}, budget {budget}"
    parts: list[RenderableType] = [
        _line(name, text)
        for name, text in (("run", found["run"]), ("prompt", found["prompt"]), ("model", found["model"]),
                           ("search", searched), ("status", status_text(found)))
    ]  # fmt: skip
    if found["candidates"]:
        parts += [_candidates(found, top), *_curve(found)]
        parts += [_line("why" if number == 0 else "", text) for number, text in enumerate(why_lines(found["why"]))]
        parts.append(_line("lineage", f"{lineage_text(found['best']['lineage'])} (the best)"))
    else:
        parts.append(Text("no scored candidate yet"))
    parts += [_line(name, text) for name, text in cost_lines({**found, "stopped": None})]
    parts.append(_line("continue", found["resume"]))
    return Group(*parts)


def _line(name: str, text: object) -> Text:
    return terminal.shown(f"{name:<9}{text}")


def changed_line(found: Mapping[str, Any]) -> str:
    """Where a run stands, in one line."""
    best = found["best"]
    said = f"{plural(found['images'], 'image')}, {found['nfe']} NFE, {found['seconds']['total']:.1f} s"
    if best is None:
        return f"{status_text(found)}: {said}"
    places = {name: decimals(one["scores"].get(name) for one in found["candidates"]) for name in best["scores"]}
    scores = ", ".join(f"{name} {written(value, places[name])}" for name, value in best["scores"].items())
    seed = best["id"][:8] if best["seed"] is None else f"seed {best['seed']}"
    return f"{status_text(found)}: {said}, best {scores} ({seed})"


def _candidates(found: Mapping[str, Any], top: int) -> Table:
    names = [*found["verifiers"], *(f"{name} (judge)" for name in found["judges"])]
    marks = {found["best"]["id"]: "best"}
    if found["baseline"]:
        base = found["baseline"]["id"]
        marks[base] = "best, baseline" if base in marks else "baseline"
    every = found["candidates"]
    mixed = len({one["steps"] for one in every}) > 1
    several = len(found["verifiers"]) > 1
    keys = [name.removesuffix(" (judge)") for name in names]
    places = {key: decimals(one["scores"].get(key) for one in every) for key in keys}
    of_values = decimals(one["value"] for one in every)
    rows = []
    for place, one in enumerate(every, start=1):
        if place <= top or one["id"] in marks:
            cells = [written(one["scores"][key], places[key]) if key in one["scores"] else "" for key in keys]
            value = [written(one["value"], of_values)] if several else []
            seed = "-" if one["seed"] is None else str(one["seed"])
            steps = [str(one["steps"])] if mixed else []
            rows.append([str(place), one["id"][:8], seed, *steps, *value, *cells,
                         marks.get(one["id"], "draft" if "draft" in one else "")])  # fmt: skip
    more = [*(["steps"] if mixed else []), *([found["value_name"]] if several else [])]
    headers = ["#", "id", "seed", *more, *names, ""]
    return terminal.table(headers, rows, right=(0, *range(2, len(headers) - 1)))


def _curve(found: Mapping[str, Any]) -> list[Text]:
    values = [point["value"] for point in found["curve"]]
    if not values:
        return []
    places = decimals(values)
    ends = f"{written(values[0], places)} {sparkline(values)} {written(values[-1], places)}"
    return [_line("curve", f"{ends} (best {found['value_name']} so far, {plural(len(values), 'candidate')})")]


def sparkline(values: Sequence[float], width: int = 48) -> str:
    """The values as a row of bars, at most ``width`` of them; the last value is always shown."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    if len(values) > width:
        values = [values[round(n * (len(values) - 1) / (width - 1))] for n in range(width)]
    low, high = min(finite), max(finite)
    bars = BARS if (output.stream().encoding or "").lower().startswith("utf") else PLAIN_BARS
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] if math.isfinite(value) else " " for value in values)


