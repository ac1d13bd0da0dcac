"""What the command line draws: the progress bar, tables, JSON. Imports nothing heavy."""

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
from noisewright.evaluate.words import duration as seconds
from noisewright.evaluate.words import plural
from noisewright.outside import texts
from noisewright.outside.streams import Spared

WIDE = 160
"""Columns of a table that goes to a file or a pipe, where nothing needs wrapping."""

LONGEST_LINE = 3000
"""Characters of a message."""

UNPRINTED = re.compile(
    r"[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""What a terminal may obey, or nobody sees, of what JSON leaves as it is."""


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


def say_address(before: str, address: str, after: str = "") -> None:
    """The same of an address that we made, in whose text nothing is hidden."""
    Spared(sys.stderr).write(f"noisewright: {one_line(before)} {address}{after}\n")


def one_line(text: object) -> str:
    return texts.clean(text, LONGEST_LINE)


def shown(text: str) -> Text:
    """One line for people of what may come from a file or a server; its spaces stay."""
    return Text(texts.clean(text, texts.LONGEST, lines=True).replace("\n", " "))


def print_json(found: Any, *, line: bool = False) -> None:
    """One JSON value on standard output, at once; numbers that JSON has not are null.

    Args:
        found: the value.
        line: in one line, of which there will be others.
    """
    indent = None if line else 1
    text = json.dumps(clean(found), indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(output.stream().encoding or "utf-8")
    except UnicodeError:  # an old terminal, or the name of a file that is no UTF-8
        text = json.dumps(clean(found), indent=indent, allow_nan=False)
    output.stream().write(UNPRINTED.sub(lambda mark: json.dumps(mark[0])[1:-1], text) + "\n")
    if line:
        output.stream().flush()


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


# Tables


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), title: str = "") -> Table:
    """A plain table; ``right`` are the columns that are aligned to the right."""
    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column, header in enumerate(headers):
        made.add_column(header, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(shown(cell) for cell in row))
    return made


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
    ended = "ended by the search itself" if found["limit"] == "search" else f"limited by {found['limit']}"
    counts = f"{about}{plural(found['candidates'], 'candidate')} by {found['search']}, {ended}"
    kept = f"{plural(reserve['images'], 'image')} ({reserve['nfe']} NFE) for the baseline and the final rendering"
    cost = f"{about}{plural(found['images'], 'image')}, {found['nfe']} NFE, {found['forwards']} forwards"
    least = found["least"]
    if (least["images"], least["nfe"]) != (found["images"], found["nfe"]):
        cost += f"; as the scores turn out, down to {plural(least['images'], 'image')} and {least['nfe']} NFE"
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


# While it runs


@contextmanager
def waiting(text: str, show: bool) -> Iterator[Callable[[str], None]]:
    """A spinner on standard error, where that is a terminal; gives what changes its text."""
    with err().status(text) if show else nullcontext() as status:

        def tell(other: str) -> None:
            if status is not None:
                status.update(other)

        yield tell
