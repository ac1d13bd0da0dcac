"""What ``noisewright schedule`` prints and draws: schedules, error tables, comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.cli.output import print_line, stream
from noisewright.outside.files import write_picture
from noisewright.outside.texts import clean

if TYPE_CHECKING:
    from noisewright.trajectory.errors import ErrorTable
    from noisewright.trajectory.metrics import Metric


def cell(found: Mapping[str, Any], samples: int) -> str:
    """A metric's value with its interval, its change, and how many images have none."""
    low, high = found["interval"]
    text = f"{found['value']:.4g} [{low:.4g}, {high:.4g}]"
    if "change" in found:
        low, high = found["change_interval"]
        text += f"  change {found['change']:+.3g} [{low:+.3g}, {high:+.3g}]"
    if found["missing"]:
        text += f"  ({found['missing']} of {samples} images without)"
    return text


def print_comparison(
    rows: Sequence[Mapping[str, Any]], by: Sequence[Metric], about: Mapping[str, Any], keep_ends: bool
) -> None:
    """The table of ``compare``, and what it rests on."""
    from noisewright.cli import terminal

    wanted = [f"{one.name} ({'lower' if one.lower else 'higher'} is better)" for one in by]
    cells = [
        [row["schedule"], row["solver"], str(row["steps"]), str(row["nfe"]),
         *(cell(row["metrics"][one.name], about["samples"]) for one in by)]
        for row in rows
    ]  # fmt: skip
    terminal.out().print(terminal.table(["schedule", "solver", "steps", "NFE", *wanted], cells, right=(2, 3)))
    print_line(
        f"{about['samples']} noises of {terminal.plural(about['prompts'], 'prompt')} from seed {about['seed']}; 95 % "
        f"intervals, over {about['intervals_over']}; changes are paired, against {rows[0]['schedule']}"
    )
    if len({row["nfe"] for row in rows}) > 1:
        print_line("the rows differ in NFE, the network calls of an image: compare at equal cost")
    for row in rows:
        name, end = row["schedule"], row["end_as_made"]
        if end > 0:
            told = "ends" if keep_ends else "was brought to the clean image; as made it ends"
            print_line(f"{name} {told} at s = {end:.4g}" + ("" if keep_ends else " (--keep-ends leaves it there)"))


def plot(rows: Sequence[Mapping[str, Any]], by: Sequence[Metric], file: Path) -> None:
    """A panel a metric: a point and its interval for each schedule."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(by), 0.5 * len(rows) + 1.4), layout="constrained")
    for place, one in enumerate(by):
        axes = figure.add_subplot(1, len(by), place + 1)
        for n, row in enumerate(rows):
            held = row["metrics"][one.name]
            low, high = held["interval"]
            axes.plot([low, high], [n, n], color="#6a737d")
            axes.plot([held["value"]], [n], "o", color="#d9480f")
        axes.set_yticks(range(len(rows)), [row["schedule"] for row in rows] if place == 0 else [""] * len(rows))
        axes.invert_yaxis()
        axes.set_title(f"{one.name} ({'lower' if one.lower else 'higher'} is better)")
    write_picture(figure, file)


def table_json(table: ErrorTable) -> dict[str, Any]:
    from dataclasses import asdict

    rows = [{**asdict(one), "abar": one.abar, "verdict": one.verdict()} for one in table.levels]
    return {
        **table.identity,
        "images": table.images,
        "source": table.source,
        "settings": table.settings,
        "levels": rows,
    }


def print_errors(table: ErrorTable) -> None:
    from noisewright.cli import terminal

    rows = []
    for one in table.levels:
        rows.append([
            f"{one.t:.0f}", f"{one.s:.4g}", f"{one.abar:.4g}", f"{one.mean_square:.4g}", f"{one.mean_square_se:.1g}",
            f"{one.bias:+.4f} ({one.bias_se:.4f})", f"{one.skew:+.2f} ({one.skew_se:.2f})",
            f"{one.kurtosis:+.2f} ({one.kurtosis_se:.2f})", one.verdict(),
        ])  # fmt: skip
    headers = ["t", "s", "abar", "E", "s.e.", "bias (s.e.)", "skew (s.e.)", "kurtosis (s.e.)", "zero-mean Gaussian?"]
    terminal.out().print(terminal.table(headers, rows, right=range(5)))
    odd = sum(one.departs for one in table.levels)
    print_line(
        f"{terminal.plural(table.images, 'image')} ({table.source}); the error departs from a zero-mean Gaussian "
        f"at {odd} of {len(table.levels)} levels"
    )


def schedule(made: Any, file: Path, as_json: bool) -> None:
    """A schedule for people, or as the JSON of its file."""
    from noisewright.cli import terminal
    from noisewright.trajectory.files import diffusers_arguments

    one = made.schedule
    diffusers = diffusers_arguments(one)
    if as_json:
        terminal.print_json({
            "file": str(file), **made.identity, "solver": made.solver, "steps": one.steps, "t": one.t,
            "alpha": one.alpha, "sigma": one.sigma, "start": one.start, "made": made.made, "figures": made.figures,
            "diffusers": diffusers,
        })  # fmt: skip
        return
    pairs = list(zip(one.alpha, one.sigma, strict=True))
    logs = [math.log(sigma / alpha) if alpha > 0 and sigma > 0 else math.nan for alpha, sigma in pairs]
    rows = [
        [str(n), f"{one.t[n]:.1f}" if n < one.steps else "", f"{alpha:.5f}", f"{sigma:.5f}",
         f"{sigma / alpha:.5g}" if alpha > 0 else "inf", "" if math.isnan(log) else f"{-log:+.3f}", _bar(alpha, sigma)]
        for n, ((alpha, sigma), log) in enumerate(zip(pairs, logs, strict=True))
    ]  # fmt: skip
    console = terminal.out()
    console.print(terminal.table(["#", "t", "alpha", "sigma", "s", "half log-SNR", "noise"], rows, right=range(6)))
    settings = ", ".join(f"{key} {value}" for key, value in made.made.items() if value is not None)
    figures = ", ".join(f"{key} {_short(value)}" for key, value in made.figures.items())
    for name, text in (("model", made.identity.get("model")), ("solver", f"{made.solver}, {one.steps} steps"),
                       ("made", settings), ("figures", figures or "none"), ("file", file)):  # fmt: skip
        print_line(f"{name:<9}{clean(text, 3000)}")
    for name, values in diffusers.items():
        print_line(f"{name:<10}= [{', '.join(f'{value:.6g}' for value in values)}]")


def _bar(alpha: float, sigma: float, width: int = 40) -> str:
    """The share of noise, sigma / (alpha + sigma), as a bar."""
    mark = "█" if (stream().encoding or "").lower().startswith("utf") else "#"
    return mark * max(1, round(width * sigma / (alpha + sigma))) if sigma > 0 else ""


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return "[" + ", ".join(_short(one) for one in value) + "]" if isinstance(value, (list, tuple)) else str(value)
