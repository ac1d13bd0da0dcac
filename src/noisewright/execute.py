"""Run a plan in a directory, and conclude: judge, write what a person looks at, sum up."""

from __future__ import annotations

import logging
import math
import platform
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisewright import __version__
from noisewright.errors import BudgetExhausted, Stopped, TargetReached
from noisewright.evaluate import report
from noisewright.evaluate.curve_picture import curve_picture
from noisewright.evaluate.enough import in_words, too_small
from noisewright.evaluate.forecast import expected_nfe
from noisewright.executors.protocol import LeavesFiles
from noisewright.images.metadata import encode_png, read_image, read_recipe, without_nan
from noisewright.outside.files import check_directory, write_atomically, write_picture
from noisewright.outside.inside import inside
from noisewright.outside.messages import first_line
from noisewright.outside.texts import clean
from noisewright.plain import plain_settings
from noisewright.planning import Plan
from noisewright.planning.sizes import fastest_for
from noisewright.progress import RunProgress
from noisewright.result import Result, ResultImage
from noisewright.run.budget import Budget
from noisewright.run.digests import digest_of
from noisewright.run.drafts import prove
from noisewright.run.explain import explain
from noisewright.run.particle import Candidate
from noisewright.run.store import Store
from noisewright.run.verbs import Run
from noisewright.samplers.optional import most_at_once, warnings_of

KEPT = "kept"
"""The folder of the best images as files, in a run directory."""

KEPT_NAME = re.compile(r"\d+-[0-9a-f]{16}\.(png|mp4)")

log = logging.getLogger("noisewright")


def execute(
    plan: Plan,
    out: str | Path,
    progress: Callable[[Run], None] | None = None,
    pictures: bool = True,
) -> Result:
    """Run a plan in a directory; a run of the same settings there is continued.

    Ctrl-C ends it with the best so far, and so do ``Run.stop()`` and ``noisewright stop``. Where the request says
    ``keep``, so many of the best are files of their own (``kept/01-ID.png``), judged as the best is.

    Args:
        plan: from :func:`noisewright.planning.plan`; its request is what ``noisewright resume`` plans again from.
        out: the run directory.
        progress: called with the run after each micro-batch; a :class:`~.RunProgress` after each step.
        pictures: whether to draw the contact sheet, the curve and the before-after picture at the end.

    Raises:
        Stopped: where it was asked to stop before there was any image.
    """
    keep = plan.request.keep or 0
    now = datetime.now(UTC).isoformat(timespec="seconds")
    store = Store.create(check_directory(out, "out"), plan.spec, versions(), now, plan.request.to_json())
    run = None
    try:
        store.write(status="running", stopped=None, plain=plain_settings(plan.final), **_checked(plan))
        run = _begun(plan, store, progress, pictures, keep)
        run.warnings.extend(plan.warnings)
        follower = progress if isinstance(progress, RunProgress) else None
        if follower is not None:
            follower.follow(run, expected_nfe(plan))
        stopped, interrupted = _searched(plan, run)
        try:
            if follower is not None:
                follower.conclude()
            return _conclude(plan, run, stopped, interrupted, pictures, keep)
        except (KeyboardInterrupt, Stopped) as error:
            if interrupted or run.best is None:
                raise
            return _conclude(plan, run, _why_ended(error), True, pictures, keep)
        except BaseException as error:
            _mark_failed(store, error)
            raise
    finally:
        if isinstance(progress, RunProgress):
            progress.leave()
        if run is not None:
            run.close()
        store.close()


def _decided_size(plan: Plan, store: Store) -> int:
    """How many images are made at once: as many as the run was begun with; of a new one what was asked for, or what is
    fastest. What was decided for a new run is said, and recorded. A trial is made only where the model works here.
    """
    if not store.is_new:
        return most_at_once(plan.sampler, int(store.run["spec"].get("batch_size") or plan.batch_size))
    found = fastest_for(plan) if isinstance(plan.executor, LeavesFiles) else None
    decided = [*plan.decided, *([] if found is None else [found])]
    size = plan.batch_size if found is None else int(found.choice)
    if decided:
        spec = {**store.run["spec"], "batch_size": size}
        store.write(spec=spec, decided={one.setting: one.to_json() for one in decided})
    for one in decided:
        log.info("%s", one.text)
    return size


def _begun(
    plan: Plan, store: Store, progress: Callable[[Run], None] | None, pictures: bool, keep: int
) -> Run:  # fmt: skip
    """The run, with workers that have begun."""
    try:
        return Run(
            store, plan.sampler, plan.verifiers, seed=plan.spec["seed"], budget=plan.budget,
            ensemble=plan.spec["ensemble"], target=plan.target, final=plan.final, search=plan.spec["search"],
            batch_size=_decided_size(plan, store), judges=plan.judges, winners=max(1, keep), pictures=pictures,
            executor=plan.executor, draft=plan.spec.get("draft"), finalists=plan.finalists, on_progress=progress,
        )  # fmt: skip
    except KeyboardInterrupt:
        store.write(status="interrupted", stopped="interrupted")
        raise
    except BaseException as error:
        _leave(store, error)
        raise


def _leave(store: Store, error: BaseException) -> None:
    """A run ended with an error: say why in run.json; or, where that was wrong use, as if it had never begun."""
    if store.is_new and isinstance(error, (ValueError, TypeError)):
        store.discard()
    else:
        _mark_failed(store, error)


def _checked(plan: Plan) -> dict[str, Any]:
    """What ``run.json`` says of how the pipeline was held to its plain call."""
    return {} if plan.checked is None else {"checked": plan.checked}


def _searched(plan: Plan, run: Run) -> tuple[str, bool]:
    """Search, and render what the result shows; returns why it ended, and whether that was before its end."""
    try:
        stopped = _search(plan, run)
        lacking = run.render()
        _say_if_short(plan, run, stopped, lacking)
    except (KeyboardInterrupt, Stopped) as error:
        if run.best is None:
            _finish_one(run)
        return _why_ended(error), True
    except BaseException as error:
        _leave(run.store, error)
        raise
    return stopped, False


def _finish_one(run: Run) -> None:
    """Make a picture of what was begun, for who ended a run before its first; Ctrl-C again ends it without."""
    log.warning("ending with the first image; Ctrl-C again ends without it")
    try:
        run.finish_one()
    except (KeyboardInterrupt, Exception) as error:
        log.warning("ended without an image (%s)", clean(str(error) or type(error).__name__, 200))


def _why_ended(error: BaseException) -> str:
    return "stopped" if isinstance(error, Stopped) else "interrupted"


def _search(plan: Plan, run: Run) -> str:
    """Run the search function; returns why it stopped."""
    try:
        if plan.draft is not None:
            prove(run, plan.draft.pilot)
        plan.search(run, **plan.search_args)
    except BudgetExhausted as error:
        return f"budget: {error}"
    except TargetReached:
        return "target"
    return "finished"


def _say_if_short(plan: Plan, run: Run, stopped: str, lacking: int) -> None:
    """Warn where a budget in seconds ended a search before it was one; of others the plan has warned.

    Args:
        plan: what was asked for.
        run: that has ended.
        stopped: why.
        lacking: for how many of the best drafts there was no time; a budget in NFE, which the run's are held to, would
            have kept theirs back.
    """
    if plan.budget.seconds is not None and stopped.startswith("budget"):
        small = too_small(plan, Budget(nfe=run.spent.nfe + lacking * run.final.nfe(0, run.final.schedule.steps)))
        if small is not None:
            run.say(in_words(plan, small))


def _conclude(plan: Plan, run: Run, stopped: str, interrupted: bool, pictures: bool, keep: int) -> Result:
    """Judge, write what a person looks at, and sum up."""
    store = run.store
    if run.best is None:
        store.write(status="interrupted", stopped=stopped)
        raise Stopped("stopped before the first image") if stopped == "stopped" else KeyboardInterrupt
    if not interrupted:
        run.judge()
    for text in warnings_of(run.final):  # what showed on the way
        run.say(text)
    best, baseline = run.best, run.baseline or run.draft_baseline or run.best
    if run.baseline is None:
        run.say("interrupted before the baseline was rendered: what is shown as the baseline is " + (
            "its draft" if run.draft_baseline is not None else "the best itself"
        ))  # fmt: skip
    standing = _standing(run)
    shown_best, shown_baseline = (
        _write_image(run, one, f"{name}.png", standing) for name, one in (("best", best), ("baseline", baseline))
    )
    kept = _keep(run, keep, standing)
    seconds = {name: round(value, 4) for name, value in run.seconds.items()}
    if pictures:
        _draw(run, shown_baseline, shown_best, standing)
    seconds["total"] = round(run.elapsed, 4)
    result = Result(
        best=shown_best, baseline=shown_baseline, nfe=run.spent.nfe, forwards=run.spent.forwards,
        images=run.spent.images, seconds=seconds, stopped=stopped, run=store.root, verifiers=run.ranking.names,
        judges=tuple(judge.name for judge in plan.judges), candidates=tuple(run.candidates.values()),
        curve=tuple(run.curve()), warnings=(*run.warnings, *run.failures(), *run.bills()), interrupted=interrupted,
        prompt=run.prompt, value_name=run.ranking.name, kept=kept, why=explain(_rendered(run), run.ranking),
    )  # fmt: skip
    _record(store, result)
    return result


def _rendered(run: Run) -> list[Candidate]:
    """The candidates that the best was chosen of: those in full, where there are any."""
    pool = list(run.candidates.values())
    return [one for one in pool if one.particle.kind == run.full_kind] or pool


def _standing(run: Run) -> dict[str, float]:
    """The value of every candidate by its id, within those of its kind."""
    pool = list(run.candidates.values())
    found: dict[str, float] = {}
    for kind in {one.particle.kind for one in pool}:
        alike = [one for one in pool if one.particle.kind == kind]
        found.update(zip((one.id for one in alike), run.ranking.values(alike), strict=True))
    return found


def _record(store: Store, result: Result) -> None:
    """Say in ``run.json`` that it ended, and what came of it; its files are named relative to it."""
    summary = result.to_json()
    for one in (summary["best"], summary["baseline"], *summary["kept"]):
        one["file"] = Path(one["file"]).relative_to(store.root).as_posix()
    summary.pop("run")
    files = {one.file.name: digest_of(one.file.read_bytes()) for one in (result.best, result.baseline)}
    status = "interrupted" if result.interrupted else "done"
    store.write(status=status, stopped=result.stopped, summary=without_nan(summary), files=files)


def _keep(run: Run, count: int, standing: Mapping[str, float]) -> tuple[ResultImage, ...]:
    """Write the best ``count`` as files of their own, in place of those that an earlier end of the run left."""
    folder = inside(run.store.root, KEPT)
    if folder.is_dir():
        for path in folder.iterdir():
            if KEPT_NAME.fullmatch(path.name):
                path.unlink()
    if not count:
        return ()
    best = [one for one in run.best_first if math.isfinite(standing[one.id])][:count]
    if len(best) < count:
        run.say(f"{len(best)} of the {count} images to keep are there: no more candidates have a score")
    with run.store.writing(folder):
        folder.mkdir(exist_ok=True)
    digits = max(2, len(str(count)))
    return tuple(
        _write_image(run, one, f"{KEPT}/{place:0{digits}}-{one.id}.png", standing) for place, one in enumerate(best, 1)
    )


def _draw(run: Run, baseline: ResultImage, best: ResultImage, standing: Mapping[str, float]) -> None:
    """Write what a person looks at first: before and after, the contact sheet, the curve."""
    root, store = run.store.root, run.store
    captions = report.captions(baseline.scores, best.scores, judges={judge.name for judge in run.judges})
    with store.writing(root / "before-after.png"):
        pair = report.before_after(baseline.file, best.file, prompt=run.prompt, captions=captions)
        write_picture(pair, root / "before-after.png")
    with store.writing(root / "contact-sheet.png"):
        ranked = [(one, standing[one.id]) for one in run.best_first]
        sheet = report.contact_sheet(root, ranked, run.ranking, baseline=baseline.id, judged=run.ledger.judged)
        write_picture(sheet, root / "contact-sheet.png")
    with store.writing(root / "curve.png"):
        first = run.draft_baseline
        curve = curve_picture(
            run.curve(), run.ranking.names, value_name=run.ranking.name,
            baseline=None if first is None else standing[first.id],
        )  # fmt: skip
        write_picture(curve, root / "curve.png")


def _write_image(run: Run, one: Candidate, file: str, standing: Mapping[str, float]) -> ResultImage:
    """Write a candidate's PNG with its scores, the judges' too, in the metadata."""
    scores = {**one.scores, **run.ledger.judged.get(one.id, {})}
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
    _write_film(run, run.store.root / one.file, path)
    return ResultImage(one.id, one.seed, scores, path, standing[one.id])


def _write_film(run: Run, made: Path, shown: Path) -> None:
    """Write a candidate's video beside its picture, where there is one."""
    film, path = made.with_suffix(".mp4"), shown.with_suffix(".mp4")
    with run.store.writing(path):
        if film.is_file():
            write_atomically(path, film.read_bytes())
        else:
            path.unlink(missing_ok=True)  # of another candidate, from an earlier end of the run


def _mark_failed(store: Store, error: BaseException) -> None:
    """Say in run.json why it ended; a disk that is full stays silent here, the first error is the one to show."""
    try:
        first = first_line(error)
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
