"""What Python users call: :func:`search`, on a pipeline they hold or one they name."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from noisewright.execute import execute
from noisewright.outside.files import check_directory
from noisewright.plan import Plan, make_plan
from noisewright.progress import RunProgress, displayed
from noisewright.result import Result
from noisewright.run.budget import Budget
from noisewright.run.verbs import Run
from noisewright.samplers.quiet import quiet
from noisewright.schemas.request import check_arguments


def search(
    pipe: Any,
    prompt: str | None = None,
    *,
    class_label: str | int | None = None,
    verifier: Any = None,
    judge: Any = None,
    search: str = "random",
    search_args: Mapping[str, Any] | None = None,
    budget: str | int | Budget | Sequence[str] | None = None,
    target: float | Mapping[str, float] | None = None,
    num_inference_steps: int | None = None,
    search_steps: int | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    height: int | None = None,
    width: int | None = None,
    solver: str | None = None,
    eta: float | None = None,
    schedule: str | None = None,
    force: bool = False,
    seed: int = 0,
    ensemble: str | Mapping[str, float] = "rank",
    score_cache: str | Path | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    out: str | Path | None = None,
    progress: bool | Callable[[Run], None] | None = None,
    pictures: bool = True,
    **pipe_kwargs: Any,
) -> Result:
    """Search for the noise that gives the best image, on a pipeline that is left as it was found.

    Args:
        pipe: a diffusers pipeline, a directory or a model id (``"noisewright/shapes"``), or a
            :class:`noisewright.samplers.protocol.Sampler`.
        prompt: what to make.
        class_label: instead of a prompt for a class-conditional pipeline: the name or the number of a class. A prompt
            that is the name of one is taken for it; verifiers get the name as their prompt.
        verifier: a name (``"clip"``, ``"clip:MODEL"``, ``"file.py:function"``), a function ``(images, prompt) ->
            scores`` with images (batch, 3, height, width) in [0, 1], an object of the protocol, or a list of these. By
            default what the model's card names, else ``clip``.
        judge: the same, for verifiers that the search never sees; reported for baseline and best. By default the first
            that the model's card names and that is no verifier here; none with ``"none"`` or an empty list.
        search: a name from ``noisewright list searches``; ``search_args`` are its own arguments.
        budget: ``"64 images"``, ``"1920 nfe"``, ``"30 s"``, or several; the first that runs out ends the search. The
            baseline and the final rendering are paid from it.
        target: stop as soon as a candidate scores this; with several verifiers a mapping from name to score.
        num_inference_steps, guidance_scale, negative_prompt, height, width: as in diffusers.
        search_steps: search with this many steps and render the winner with ``num_inference_steps``.
        solver: ``None`` (the pipeline's own) or a name from ``noisewright list solvers``; ``eta`` in [0, 1] for those
            that have it.
        schedule: ``None`` (the pipeline's own noise levels), a name from ``noisewright list schedules``, or a schedule
            file; with the pipeline's own scheduler only where noisewright has its equal.
        force: take a schedule file that was made for another model: its levels, with this model's own times.
        seed: candidate k starts from the noise of ``torch.Generator("cpu").manual_seed(seed + k)``.
        ensemble: ``"rank"`` (mean rank within the prompt), ``"zsum"``, or the weights of a weighted sum of the scores
            as they are: ``{"clip": 1, "aesthetic": 0.5}`` or ``"clip=1,aesthetic=0.5"``.
        score_cache: a directory that keeps scores from run to run (:mod:`noisewright.verifiers.cache`); by default
            none is kept.
        batch_size: the first micro-batch size; halved when memory runs out.
        device, dtype: where and how to load a ``pipe`` that is given by name.
        out: the run directory; a run of the same settings there is continued. By default a temporary one, which
            ``result.save()`` copies. Paths of the result are full ones.
        progress: a bar with the time left and the best so far. By default where somebody looks: in a notebook, or where
            standard error is a terminal; ``True`` also elsewhere, as a line every 30 s; ``False`` never. Or a function
            that is called with the run after each micro-batch.
        pictures: whether to draw the contact sheet, the curve and the before-after picture at the end.
        pipe_kwargs: further arguments of the pipeline's call.

    Raises:
        ValueError, TypeError: wrong use, in one line, before anything is spent.
        RunMismatch: where ``out`` holds another run.
        VerifierFailed: where a verifier fails; what was made stays in the run directory.
        UnsupportedPipeline: where the pipeline cannot be entered through its scheduler.
    """
    asked = check_arguments(out=out, progress=progress, pictures=pictures)
    # in full, before code of the user's may change the working directory
    where = None if asked.out is None else check_directory(asked.out, "out")
    with quiet():
        plan = make_plan(
            pipe, prompt, class_label=class_label, verifier=verifier, judge=judge, search=search,
            search_args=search_args, budget=budget, target=target, num_inference_steps=num_inference_steps,
            search_steps=search_steps, guidance_scale=guidance_scale, negative_prompt=negative_prompt, height=height,
            width=width, solver=solver, eta=eta, schedule=schedule, force=force, seed=seed, ensemble=ensemble,
            score_cache=score_cache, batch_size=batch_size, device=device, dtype=dtype, **pipe_kwargs,
        )  # fmt: skip
        if where is None:
            where = Path(tempfile.mkdtemp(prefix="noisewright-"))
            atexit.register(shutil.rmtree, where, ignore_errors=True)
        return _executed(plan, where, progress, asked.pictures)


def _executed(
    plan: Plan, where: Path, progress: bool | Callable[[Run], None] | None, pictures: bool
) -> Result:
    """Run a plan with the display that was asked for."""
    if callable(progress):
        return execute(plan, where, progress, pictures=pictures)
    with displayed(progress) as show:
        return execute(plan, where, None if show is None else RunProgress(show), pictures=pictures)
