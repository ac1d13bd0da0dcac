"""What the command line draws: the progress bar, the tables, the sparkline. Imports nothing heavy."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from noisewright.cli import output
from noisewright.outside import texts
from noisewright.outside.streams import Spared

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-=+*#@"
WIDE = 160
"""Columns of a table that goes to a file or a pipe, where nothing needs wrapping."""

LONGEST_LINE = 3000
"""Characters of a message."""

UNPRINTED = re.compile(
    r"[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""What a terminal may obey, or nobody sees, of what JSON leaves as it is."""

LINEAGE_WORDS = {
    "noise": "noise of seed {seed}",
    "vary": "varied",
    "denoise": "denoised to step {to}",
    "renoise": "noised back to step {to}",
}


def out() -> Console:
    """Standard output: colours and width of the terminal, plain text elsewhere."""
    own = output.stream()
    return Console(file=own, highlight=False, soft_wrap=False, width=None if own.isatty() else WIDE)


def err() -> Console:
    """Standard error, where a bar or a spinner is drawn; the work goes on without it."""
    file: Any = Spared(sys.stderr)
    return Console(file=file, highlight=False)


def say(text: str) -> None:
    """One line on standard error, after the program's name."""
    Spared(sys.stderr).write(f"noisewright: {one_line(text)}\n")


def one_line(text: object) -> str:
    return texts.clean(text, LONGEST_LINE)


def shown(text: str) -> Text:
    """One line for people of what may come from a file or a server; its spaces stay."""
    return Text(texts.clean(text, texts.LONGEST, lines=True).replace("\n", " "))


def print_json(found: Any) -> None:
    """One JSON value on standard output; numbers that JSON has not are null."""
    text = json.dumps(clean(found), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(output.stream().encoding or "utf-8")
    except UnicodeError:  # an old terminal, or the name of a file that is no UTF-8
        text = json.dumps(clean(found), indent=1, allow_nan=False)
    output.stream().write(UNPRINTED.sub(lambda mark: json.dumps(mark[0])[1:-1], text) + "\n")


def clean(value: Any) -> Any:
    """``value`` with null for every number that JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): clean(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(one) for one in value]
    return value


def number(value: float | None) -> str:
    """A score for people."""
    if value is None or math.isnan(value):
        return "nan"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.2f}"


def seconds(value: float) -> str:
    """A duration for people."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


# Tables


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), title: str = "") -> Table:
    """A plain table; ``right`` are the columns that are aligned to the right."""
    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column, header in enumerate(headers):
        made.add_column(header, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(shown(cell) for cell in row))
    return made


def print_result(summary: Mapping[str, Any], judges: Sequence[str]) -> None:
    """Baseline beside best, what it cost, why it stopped, and where the pictures are."""
    best, baseline = summary["best"], summary["baseline"]
    rows = [["seed", "", *(("-" if one["seed"] is None else str(one["seed"])) for one in (baseline, best)), ""]]
    for name in dict.fromkeys([*best["scores"], *baseline["scores"]]):
        before, after = baseline["scores"].get(name), best["scores"].get(name)
        gain = f"{after - before:+.4f}" if before is not None and after is not None else ""
        role = "judge" if name in judges else "verifier"
        rows.append([name, role, number(before), number(after), gain])
    console = out()
    console.print(table(["", "", "baseline", "best", "change"], rows, right=(2, 3, 4)))
    for name, text in cost_lines(summary):
        console.print(shown(f"{name:<9}{text}"))
    root = summary["run"]
    console.print(Text(""))
    for name in ("before-after.png", "best.png", "baseline.png", "contact-sheet.png", "curve.png"):
        output.stream().write(f"{root}/{name}\n")


def cost_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a run cost and why it stopped, as (name, text)."""
    took = summary["seconds"]
    phases = {name: value for name, value in took.items() if name != "total"}
    rest = max(0.0, took["total"] - sum(phases.values()))
    shares = ", ".join(f"{name} {value:.1f}" for name, value in {**phases, "saving and the rest": rest}.items())
    cost = f"{plural(summary['images'], 'image')}, {summary['nfe']} NFE, {summary['forwards']} forwards"
    lines = [("cost", cost), ("time", f"{seconds(took['total'])} ({shares})")]
    return [*lines, ("stopped", str(summary["stopped"]))] if summary.get("stopped") else lines


def print_overview(found: Mapping[str, Any], top: int) -> None:
    """A run for people: status, top candidates, curve, lineage, cost, how to go on."""
    console = out()
    budget = ", ".join(f"{value:g} {unit}" for unit, value in found["budget"].items())
    searched = f"{found['search']}, seed {found['seed']}, budget {budget}"
    for name, text in (("run", found["run"]), ("prompt", found["prompt"]), ("model", found["model"]),
                       ("search", searched), ("status", _status(found))):  # fmt: skip
        console.print(shown(f"{name:<9}{text}"))
    if found["candidates"]:
        console.print(_candidates(found, top))
        _print_curve(console, found)
        console.print(shown(f"{'lineage':<9}{lineage_text(found['best']['lineage'])} (the best)"))
    else:
        console.print(Text("no scored candidate yet"))
    for name, text in cost_lines({**found, "stopped": None}):
        console.print(shown(f"{name:<9}{text}"))
    console.print(shown(f"{'continue':<9}{found['resume']}"))


def _status(found: Mapping[str, Any]) -> str:
    why = found["stopped"] if found["stopped"] != found["status"] else None
    return found["status"] + (f" ({why})" if why else "")


def _candidates(found: Mapping[str, Any], top: int) -> Table:
    names = [*found["verifiers"], *(f"{name} (judge)" for name in found["judges"])]
    marks = {found["best"]["id"]: "best"}
    if found["baseline"]:
        base = found["baseline"]["id"]
        marks[base] = "best, baseline" if base in marks else "baseline"
    mixed = len({one["steps"] for one in found["candidates"]}) > 1
    rows = []
    for place, one in enumerate(found["candidates"], start=1):
        if place <= top or one["id"] in marks:
            scores = [one["scores"].get(name.removesuffix(" (judge)")) for name in names]
            cells = ["" if value is None else number(value) for value in scores]
            seed = "-" if one["seed"] is None else str(one["seed"])
            steps = [str(one["steps"])] if mixed else []
            rows.append([str(place), one["id"][:8], seed, *steps, *cells, marks.get(one["id"], "")])
    headers = ["#", "id", "seed", *(["steps"] if mixed else []), *names, ""]
    return table(headers, rows, right=(0, *range(2, len(headers) - 1)))


def _print_curve(console: Console, found: Mapping[str, Any]) -> None:
    values = [point["value"] for point in found["curve"]]
    if values:
        ends = f"{number(values[0])} {sparkline(values)} {number(values[-1])}"
        console.print(shown(f"{'curve':<9}{ends} (best so far, {plural(len(values), 'candidate')})"))


def print_metrics(found: Mapping[str, Any]) -> None:
    """What ``noisewright evaluate`` measured: a line for each value, and of what."""
    rows = [
        [name.replace("_", " "), " .. ".join(f"{one:.6g}" for one in value) if isinstance(value, list) else
         "-" if value is None else f"{value:.6g}"]
        for name, value in found["metrics"].items()
    ]  # fmt: skip
    sets = plural(found["images"], "image")
    if found["reference_images"]:
        sets += f" against {found['reference_images']}"
    if rows:
        out().print(table(["metric", "value"], rows, right=[1]))
    out().print(f"{sets}, {found['features']} features of network {found['network']}")
    if found["statistics"]:
        out().print(f"statistics in {found['statistics']}")


def print_entries(found: Sequence[Mapping[str, Any]]) -> None:
    """What ``list`` found: a name, its line, and its details below."""
    console = out()
    for one in found:
        console.print(shown(f"{one['name']:<20}{one['summary']}"))
        details = {key: value for key, value in one.items() if key not in ("name", "summary", "arguments")}
        if "arguments" in one:
            texts = [key if value is None else f"{key}={value}" for key, value in one["arguments"].items()]
            details["arguments"] = ", ".join(texts) or "none"
        for key, value in details.items():
            console.print(shown(f"{'':<20}{key}: {value}"), style="dim")


def print_forecast(found: Mapping[str, Any]) -> None:
    """The planned cost for people."""
    budget = ", ".join(f"{value:g} {unit}" for unit, value in found["budget"].items())
    reserve = found["reserve"]
    steps = str(found["steps"])
    if found["search_steps"] != found["steps"]:
        steps = f"{found['search_steps']} to search, {found['steps']} to render"
    about = "about " if found["limit"] == "seconds" else ""
    counts = f"{about}{plural(found['candidates'], 'candidate')} by {found['search']}, limited by {found['limit']}"
    kept = f"{plural(reserve['images'], 'image')} ({reserve['nfe']} NFE) for the baseline and the final rendering"
    cost = f"{about}{plural(found['images'], 'image')}, {found['nfe']} NFE, {found['forwards']} forwards"
    lines = [
        ("prompt", found["prompt"]), ("model", found["model"]), ("budget", budget), ("search", counts),
        ("verifier", ", ".join(found["verifiers"])), ("judge", ", ".join(found["judges"]) or "none"),
        ("steps", steps), ("batch", plural(found["batch_size"], "image") + " at once"),
        ("reserve", kept if reserve["images"] else "none: candidate 0 is the baseline"),
        ("cost", f"{cost} ({found['forwards_per_nfe']:g} forwards per NFE, measured)"),
        ("time", f"about {seconds(found['seconds'])} (timed: {found['timed']})"),
    ]  # fmt: skip
    console = out()
    for name, text in lines:
        console.print(shown(f"{name:<9}{text}"))
    console.print(Text("dry run: nothing was generated"))


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


def lineage_text(lineage: Sequence[Mapping[str, Any]]) -> str:
    """The verbs from the noise to a candidate, in words."""
    parts = []
    for step in lineage:
        words = LINEAGE_WORDS.get(step["verb"], step["verb"])
        parts.append(words.format(**{"seed": "?", "to": "?", **step["args"]}))
    return " -> ".join(parts)


# While it runs


@contextmanager
def waiting(text: str, show: bool) -> Iterator[Callable[[str], None]]:
    """A spinner on standard error, where that is a terminal; gives what changes its text."""
    with err().status(text) if show else nullcontext() as status:

        def tell(other: str) -> None:
            if status is not None:
                status.update(other)

        yield tell
