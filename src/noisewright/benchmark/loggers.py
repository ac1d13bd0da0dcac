"""A finished benchmark, handed to a logger that people know: wandb, trackio or tensorboard.

Each gets the same: the configuration; a value a point for the mean of every score, its gain over the plain baseline and
the seconds, as curves whose step is the NFE; a table of the points; and the wall's images, baseline beside best. A
logger that fails loses nothing: the results are in the directory, and what it said is a warning.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from noisewright.benchmark.compared import COSTS, Compared, Point
from noisewright.benchmark.store import Results
from noisewright.benchmark.verdicts import verdicts, warnings_of
from noisewright.images.metadata import public
from noisewright.images.reading import read_image
from noisewright.outside.inside import inside
from noisewright.outside.messages import unknown
from noisewright.outside.texts import clean
from noisewright.verifiers.guarded import Escaped, call, said

log = logging.getLogger("noisewright")

PROJECT = "noisewright"
MOST_IMAGES = 60
"""Of the wall; of a large grid those of its first points."""

TEXT_COLUMNS = ("point", "cells", "failed")


@dataclass(frozen=True)
class Table:
    """Rows that a logger shows as a table.

    Attributes:
        columns: their headers.
        rows: texts and numbers; None where there is none.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


@dataclass(frozen=True)
class Picture:
    """An image with what is said under it.

    Attributes:
        pixels: (height, width, 3) uint8.
        caption: one line.
    """

    pixels: np.ndarray
    caption: str


class Log(Protocol):
    """What a logger does with a step: ``log(metrics, images, step)``; steps never fall."""

    def __call__(self, metrics: Mapping[str, float | Table], images: Mapping[str, Picture], step: int) -> None: ...


Opened = Callable[[Results, Mapping[str, Any]], Any]


def check_loggers(names: Sequence[str]) -> None:
    """Refuse a logger that there is not, before anything is computed.

    Raises:
        ValueError: in one line, on another name, or where its package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise ValueError(unknown("logger", name, list(LOGGERS)))
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a directory of that name, such as wandb makes where it works
            raise ValueError(f"logging to {name} needs its package: pip install 'noisewright[{name}]'")


def log_results(results: Results, compared: Compared, names: Sequence[str]) -> tuple[str, ...]:
    """Hand a benchmark to loggers, one after the other.

    Args:
        results: of a benchmark.
        compared: what may be said of it.
        names: of :data:`LOGGERS`.

    Returns:
        A line for each that failed, which is also in the log as a warning. What was logged before it failed may be
        there.

    Raises:
        ValueError: as :func:`check_loggers`.
    """
    check_loggers(names)
    failed = []
    steps = _steps(compared)
    last = max(steps, default=0)
    wall = _wall(results, compared) if names else {}
    for name in dict.fromkeys(names):

        def hand_over(logger: Opened = LOGGERS[name]) -> None:
            with logger(results, _config(results, compared)) as write:
                for step, metrics in sorted(steps.items()):
                    write(metrics, {}, step)
                write({"points": points_table(compared)}, wall, last)

        try:
            call(hand_over)
        except (Exception, Escaped) as error:
            line = f"logging to {name} failed: {said(error)}; the results are in {results.root}"
            log.warning("%s", line)
            failed.append(line)
    return tuple(failed)


def points_table(compared: Compared) -> Table:
    """The points as a table: labels, costs, each score's mean, gain, interval and whether it stands."""
    names = [f"{score} {what}" for score in compared.scores for what in ("best", "gain", "low", "high", "stands")]
    rows = []
    for point in compared.points:
        row: list[Any] = [point.label, point.compared, point.failed, *(_cost(point, name) for name in COSTS)]
        for score in compared.scores:
            one = point.scores.get(score)
            gain = one.gain if one is not None else None
            if one is None or gain is None:
                row += [None] * 5
                continue
            row += [*map(_number, (one.best.mean, gain.mean, gain.low, gain.high)), "yes" if gain.stands else "no"]
        rows.append(tuple(row))
    return Table((*TEXT_COLUMNS, *COSTS, *names), tuple(rows))


def _cost(point: Point, name: str) -> float | None:
    return _number(point.costs[name].best.mean) if name in point.costs else None


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _config(results: Results, compared: Compared) -> dict[str, Any]:
    """What was asked for and what came of it, as plain values."""
    spec = results.spec
    return {
        "name": spec.name, "title": spec.title, "prompt_set": spec.prompt_set, "prompts": compared.prompts,
        "seeds": spec.seeds, "axes": {name: list(labels) for name, labels in compared.axes.items()},
        "reference": dict(spec.reference), "across": spec.across, "cells": compared.cells, "done": compared.done,
        "failed": compared.failed, "verdicts": list(verdicts(compared)), "warnings": list(warnings_of(compared)),
        "base": {name: str(value) for name, value in public({"sampler": dict(spec.base)})["sampler"].items()},
    }  # fmt: skip


def _steps(compared: Compared) -> dict[int, dict[str, float]]:
    """By NFE, what every curve (or point, where there are none) has come to there."""
    lines = [(one.label, [compared.points[k] for k in one.points]) for one in compared.curves]
    found: dict[int, dict[str, float]] = {}
    for label, points in lines or [(one.label, [one]) for one in compared.points]:
        for point in points:
            nfe = _cost(point, "nfe")
            if nfe is None:
                continue
            metrics = {"seconds": _cost(point, "seconds")}
            for score, one in point.scores.items():
                metrics[score] = _number(one.best.mean)
                metrics[f"{score} gain"] = _number(one.gain.mean) if one.gain is not None else None
            kept = {_tag(name, label): value for name, value in metrics.items() if value is not None}
            found.setdefault(round(nfe), {}).update(kept)
    return found


def _tag(what: str, label: str) -> str:
    """A name of two parts, which loggers name files after: each is one line and leads nowhere."""
    parts = (clean(one, 100).replace("/", "_").replace("\\", "_").lstrip(".") or "_" for one in (what, label))
    return "/".join(parts)


def _wall(results: Results, compared: Compared) -> dict[str, Picture]:
    """The wall's images, baseline beside best; those whose files are gone are left out."""
    found = {}
    for cell in compared.wall[:MOST_IMAGES]:
        point = compared.points[cell.point]
        try:
            sides = [read_image(inside(results.root, name))[0] for name in (cell.baseline, cell.best)]
        except ValueError:
            continue
        height = min(side.shape[0] for side in sides)
        pixels = np.concatenate([side[:height] for side in sides], axis=1)
        caption = clean(f"{cell.prompt}: {cell.score} {cell.gain:+.4g} (plain image left)", 300)
        found[_tag(cell.which, point.label)] = Picture(pixels, caption)
    return found


@contextmanager
def _wandb(results: Results, config: Mapping[str, Any]) -> Iterator[Log]:
    """A run of Weights & Biases: online or offline as the person's environment (``WANDB_MODE``) says."""
    import wandb

    # Nothing of this machine is sent that was not asked for, and standard output stays ours.
    settings = wandb.Settings(
        console="off", silent=True, disable_git=True, disable_code=True, save_code=False, x_disable_stats=True
    )
    run = wandb.init(
        project=PROJECT, name=results.spec.name, config=dict(config), dir=str(results.root), settings=settings
    )

    def write(metrics: Mapping[str, float | Table], images: Mapping[str, Picture], step: int) -> None:
        tables = {name: wandb.Table(columns=list(one.columns), data=[list(row) for row in one.rows])
                  for name, one in metrics.items() if isinstance(one, Table)}  # fmt: skip
        shown = {name: wandb.Image(one.pixels, caption=one.caption) for name, one in images.items()}
        run.log({**metrics, **tables, **shown}, step=step)

    try:
        yield write
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


@contextmanager
def _trackio(results: Results, config: Mapping[str, Any]) -> Iterator[Log]:
    """A run of Trackio, in its own directory (``TRACKIO_DIR``); ``trackio show`` shows it."""
    import trackio

    wanted = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}  # the machine is not what is logged
    known = inspect.signature(trackio.init).parameters  # not all versions have all of them
    trackio.init(
        project=PROJECT, name=results.spec.name, config=dict(config),
        **{name: value for name, value in wanted.items() if name in known},
    )  # fmt: skip

    def write(metrics: Mapping[str, float | Table], images: Mapping[str, Picture], step: int) -> None:
        tables = {name: trackio.Table(columns=list(one.columns), data=[list(row) for row in one.rows])
                  for name, one in metrics.items() if isinstance(one, Table)}  # fmt: skip
        shown = {name: trackio.Image(one.pixels, caption=one.caption) for name, one in images.items()}
        trackio.log({**metrics, **tables, **shown}, step=step)

    try:
        yield write
    finally:
        trackio.finish()


@contextmanager
def _tensorboard(results: Results, config: Mapping[str, Any]) -> Iterator[Log]:
    """Event files in ``tensorboard/N`` of the benchmark's directory, a number more at each call."""
    from torch.utils.tensorboard import SummaryWriter

    place = results.root / "tensorboard"
    taken = [int(one.name) for one in place.glob("*") if one.name.isdecimal()]
    writer = SummaryWriter(str(place / str(max(taken, default=0) + 1)))
    settings = Table(("setting", "value"), tuple((name, str(value)) for name, value in config.items()))

    def write(metrics: Mapping[str, float | Table], images: Mapping[str, Picture], step: int) -> None:
        for name, value in metrics.items():
            if isinstance(value, Table):
                writer.add_text(name, _markdown(value), step)
            else:
                writer.add_scalar(name, value, step)
        for name, one in images.items():
            writer.add_image(name, one.pixels, step, dataformats="HWC")
            writer.add_text(f"{name}/caption", _escaped(one.caption), step)

    try:
        write({"config": settings}, {}, 0)
        yield write
    finally:
        writer.close()


def _markdown(table: Table) -> str:
    rows = [table.columns, ("---",) * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(_shown(one) for one in row) + " |" for row in rows)


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else _escaped(str(value))


def _escaped(text: str) -> str:
    """A text of the prompt set's that is no Markdown and no HTML."""
    for mark, instead in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("[", "&#91;"), ("`", "&#96;")):
        text = text.replace(mark, instead)
    return clean(text, 1000)


LOGGERS: Mapping[str, Opened] = {"wandb": _wandb, "trackio": _trackio, "tensorboard": _tensorboard}
"""By name, which is that of the package and of the extra that brings it."""
