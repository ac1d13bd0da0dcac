"""Run a plan in a directory, and conclude: judge, write what a person looks at, sum up."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from noisewright import __version__
from noisewright.errors import BudgetExhausted, TargetReached
from noisewright.evaluate import report
from noisewright.images.metadata import encode_png, read_image, read_recipe
from noisewright.outside.files import check_directory, write_atomically, write_picture
from noisewright.outside.texts import clean
from noisewright.planning import Plan
from noisewright.progress import RunProgress
from noisewright.result import Result, ResultImage
from noisewright.run.particle import Candidate
from noisewright.run.store import Store, digest_of
from noisewright.run.verbs import CurvePoint, Run

log = logging.getLogger("noisewright")


def execute(
    plan: Plan,
    out: str | Path,
    progress: Callable[[Run], None] | None = None,
    pictures: bool = True,
) -> Result:
    """Run a plan in a directory; a run of the same settings there is continued.

    Ctrl-C ends it with the best so far.

    Args:
        plan: from :func:`noisewright.planning.plan`; its request is what ``noisewright resume`` plans again from.
        out: the run directory.
        progress: called with the run after each micro-batch; a :class:`~.RunProgress` after each step.
        pictures: whether to draw the contact sheet, the curve and the before-after picture at the end.
    """
    if pictures:
        report.prepare()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    store = Store.create(check_directory(out, "out"), plan.spec, versions(), now, plan.request.to_json())
    try:
        store.write(status="running", stopped=None)
        run = Run(
            store, plan.sampler, plan.verifiers, seed=plan.spec["seed"], budget=plan.budget,
            ensemble=plan.spec["ensemble"], target=plan.target, final=plan.final, search=plan.spec["search"],
            batch_size=plan.batch_size, judges=plan.judges, executor=plan.executor, on_progress=progress,
        )  # fmt: skip
        run.warnings.extend(plan.warnings)
        follower = progress if isinstance(progress, RunProgress) else None
        if follower is not None:
            follower.follow(run)
        interrupted = False
        try:
            stopped = _search(plan, run)
            run.render()
        except KeyboardInterrupt:
            stopped, interrupted = "interrupted", True
        except BaseException as error:
            if store.is_new and isinstance(error, (ValueError, TypeError)):  # wrong use: as if it had never begun
                store.discard()
            else:
                _mark_failed(store, error)
            raise
        try:
            if follower is not None:
                follower.conclude()
            return _conclude(plan, run, stopped, interrupted, pictures)
        except KeyboardInterrupt:
            if interrupted or run.best is None:
                raise
            return _conclude(plan, run, "interrupted", True, pictures)
        except BaseException as error:
            _mark_failed(store, error)
            raise
    finally:
        if isinstance(progress, RunProgress):
            progress.leave()
        store.close()


def _search(plan: Plan, run: Run) -> str:
    """Run the search function; returns why it stopped."""
    try:
        plan.search(run, **plan.search_args)
    except BudgetExhausted as error:
        return f"budget: {error}"
    except TargetReached:
        return "target"
    return "finished"


def _conclude(plan: Plan, run: Run, stopped: str, interrupted: bool, pictures: bool) -> Result:
    """Judge, write what a person looks at, and sum up."""
    store = run.store
    if run.best is None:
        store.write(status="interrupted", stopped=stopped)
        raise KeyboardInterrupt
    judged = run.judge() if not interrupted else {}
    for text in getattr(run.final, "warnings", ()):  # what showed on the way
        run.say(text)
    best, baseline = run.best, run.baseline or run.draft_baseline or run.best
    if run.baseline is None:
        run.say("interrupted before the baseline was rendered: what is shown as the baseline is " + (
            "its draft with fewer steps" if run.draft_baseline is not None else "the best itself"
        ))  # fmt: skip
    shown = {
        name: _show(run, one, judged.get(one.id, {}), f"{name}.png")
        for name, one in (("best", best), ("baseline", baseline))
    }
    curve = run.curve()
    names = tuple(verifier.name for verifier in run.verifiers)
    candidates = list(run.candidates.values())
    if pictures:
        _draw(run, shown["baseline"], shown["best"], curve, names)
    seconds = {name: round(value, 4) for name, value in run.seconds.items()}
    seconds["total"] = round(run.elapsed, 4)
    result = Result(
        best=shown["best"], baseline=shown["baseline"], nfe=run.spent.nfe, forwards=run.spent.forwards,
        images=run.spent.images, seconds=seconds, stopped=stopped, run=store.root, verifiers=names,
        judges=tuple(judge.name for judge in plan.judges), candidates=tuple(candidates), curve=tuple(curve),
        warnings=(*run.warnings, *run.failures(), *run.bills()), interrupted=interrupted,
    )  # fmt: skip
    summary = result.to_json()
    for key in ("best", "baseline"):
        summary[key]["file"] = Path(summary[key]["file"]).name
    summary.pop("run")
    files = {one.file.name: digest_of(one.file.read_bytes()) for one in shown.values()}
    store.write(status="interrupted" if interrupted else "done", stopped=stopped, summary=summary, files=files)
    return result


def _draw(
    run: Run, baseline: ResultImage, best: ResultImage, curve: Sequence[CurvePoint], names: Sequence[str]
) -> None:
    """Write what a person looks at first: before and after, the contact sheet, the curve."""
    root, store = run.store.root, run.store
    captions = [
        "\n".join([title, *(f"{name} {report.format_score(value)}" for name, value in one.scores.items())])
        for title, one in (("baseline", baseline), ("best", best))
    ]
    with store.writing(root / "before-after.png"):
        pair = report.before_after(
            baseline.file, best.file, prompt=run.prompt, captions=(captions[0], captions[1])
        )
        write_picture(pair, root / "before-after.png")
    with store.writing(root / "contact-sheet.png"):
        pool = list(run.candidates.values())
        full = [one for one in pool if one.particle.steps == run.final.schedule.steps]
        drafts = [one for one in pool if one.particle.steps != run.final.schedule.steps]  # their scores do not compare
        best_first = [*run.top(full, len(full)), *run.top(drafts, len(drafts))][: report.MOST_TILES]
        write_picture(report.contact_sheet(root, best_first, names), root / "contact-sheet.png")
    with store.writing(root / "curve.png"):
        report.plot_curve(curve, names, root / "curve.png")


def _show(run: Run, one: Candidate, judged: dict[str, float], file: str) -> ResultImage:
    """Write a candidate's PNG with its scores in the metadata."""
    scores = {**one.scores, **judged}
    made = run.ledger.images[one.id]
    try:
        array, recipe = read_recipe(run.store.root / one.file)
    except ValueError:  # another program rewrote the file: the pixels are those, the recipe is gone
        array, _ = read_image(run.store.root / one.file)
        versions = run.store.run["versions"]
        recipe = {**run.recipe(one.particle, made.size, made.place, versions), "pixels": made.pixels}
    recipe = {**recipe, "scores": scores}
    path = run.store.root / file
    with run.store.writing(path):
        write_atomically(path, encode_png(np.ascontiguousarray(array), recipe))
    return ResultImage(one.id, one.seed, scores, path)


def _mark_failed(store: Store, error: BaseException) -> None:
    """Say in run.json why it ended; a disk that is full stays silent here, the first error is the one to show."""
    try:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        store.write(status="failed", stopped=clean(f"{type(error).__name__}: {first}", 1000))
    except (OSError, RuntimeError):
        log.debug("run.json could not be updated", exc_info=True)


def versions() -> dict[str, str]:
    """What made a run."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"noisewright": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in ("diffusers", "transformers", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {**found, "platform": f"{platform.system()} {platform.machine()}"}
