"""What Python users call: :func:`search`, on a pipeline they hold or one they name."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from noisewright.continuing import as_recorded, check_nothing_missing, check_trust, completed, request_of, with_changes
from noisewright.execute import execute
from noisewright.executors.protocol import Executor
from noisewright.outside.files import check_directory
from noisewright.planning import Plan, plan
from noisewright.progress import RunProgress, displayed
from noisewright.request import LOADED_BY, Request
from noisewright.result import Result
from noisewright.run.budget import Budget
from noisewright.run.reading import read_run
from noisewright.run.verbs import Run
from noisewright.samplers.quiet import quiet
from noisewright.schemas.request import as_path, check_arguments


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
    draft: str | None = None,
    profile: str | Path | None = None,
    guidance_scale: float | None = None,
    negative_prompt: str | None = None,
    height: int | None = None,
    width: int | None = None,
    frames: int | str | None = None,
    states: str | None = None,
    solver: str | None = None,
    eta: float | None = None,
    schedule: str | None = None,
    force: bool = False,
    no_check: bool = False,
    seed: int = 0,
    ensemble: str | Mapping[str, float] = "rank",
    score_cache: str | Path | None = None,
    batch_size: int | None = None,
    concurrency: int | None = None,
    executor: str | Executor = "local",
    device: str | None = None,
    dtype: str | None = None,
    variant: str | None = None,
    config: str | Path | None = None,
    loras: str | Path | Sequence[Any] = (),
    compile: bool = False,
    channels_last: bool = False,
    keep: int | None = None,
    out: str | Path | None = None,
    progress: bool | Callable[[Run], None] | None = None,
    pictures: bool = True,
    **pipe_kwargs: Any,
) -> Result:
    """Search for the noise that gives the best image, on a pipeline that is left as it was found.

    Args:
        pipe: a diffusers pipeline, a directory, a checkpoint file, a model id (``"noisewright/shapes"``), the address
            of an image server (``"http://HOST/v1#MODEL"``), or a :class:`noisewright.samplers.protocol.Sampler`.
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
        states: where the pipeline works in half precision: ``model`` (the default) gives its own images to the bit;
            ``float32`` keeps states in float32 between the steps of our solvers, which can go on from a preview.
        frames: of a video, which frames verifiers see and the PNG shows: a number, spread evenly from the first to the
            last (by default 4), ``"first"``, ``"middle"`` or ``"last"``; the score is the mean over them.
        search_steps: search with this many steps and render the winner with ``num_inference_steps``.
        draft: search cheap images from the same noise, and make the best of them in full: ``"truncate,at=0.6"``,
            ``"steps,n=8+guidance,until=0.5"`` (docs/speed.md). It is proved on some candidates before it is used.
        profile: what ``noisewright calibrate`` measured of this model: steps, guidance, batch size and draft are those
            that it finds best for the budget, where they are not given.
        solver: ``None`` (the pipeline's own) or a name from ``noisewright list solvers``; ``eta`` in [0, 1] for those
            that have it.
        schedule: ``None`` (the pipeline's own noise levels), a name from ``noisewright list schedules``, or a schedule
            file; with the pipeline's own scheduler only where noisewright has its equal.
        force: take a schedule file that was made for another model: its levels, with this model's own times.
        no_check: do not compare the pipeline with its own plain call first, which is done once for each kind of
            pipeline and call (``noisewright check`` says more).
        seed: candidate k starts from the noise of ``torch.Generator("cpu").manual_seed(seed + k)``.
        ensemble: ``"rank"`` (mean rank within the prompt), ``"zsum"``, or the weights of a weighted sum of the scores
            as they are: ``{"clip": 1, "aesthetic": 0.5}`` or ``"clip=1,aesthetic=0.5"``.
        score_cache: a directory that keeps scores from run to run (:mod:`noisewright.verifiers.cache`); by default
            none is kept.
        batch_size: the first micro-batch size; halved when memory runs out.
        concurrency: of a model behind a server (``"http://HOST/v1#MODEL"``), how many images are asked for at once; by
            default 4. They are a micro-batch.
        executor: who does the work: ``"local"`` is this process; a name from ``noisewright list executors``, or an
            object of the protocol (:class:`noisewright.executors.protocol.Executor`), which is not recorded: a run that
            another one continues writes the same journal.
        device, dtype, variant, config, loras, compile, channels_last: where and how to load a ``pipe`` that is given by
            name, as :func:`noisewright.load` takes them. A pipeline object is taken as it is. Of ``dtype="auto"`` the
            type that was used is recorded, and a run that goes on keeps it.
        keep: how many of the best images are written as files of their own.
        out: the run directory; a run of the same settings there is continued. By default a temporary one, which
            ``result.save()`` copies. Paths of the result are full ones.
        progress: a bar with the time left and the best so far. By default where somebody looks: in a notebook, or where
            standard error is a terminal; ``True`` also elsewhere, as a line every 30 s; ``False`` never. Or a function
            that is called with the run after each micro-batch.
        pictures: whether to draw the contact sheet, the curve and the before-after picture at the end.
        pipe_kwargs: further arguments of the pipeline's call. ``prompt_embeds, pooled_prompt_embeds,
            negative_prompt_embeds, negative_pooled_prompt_embeds`` stand in place of the texts that they were encoded
            from; ``prompt`` is then what verifiers are told.

    Raises:
        ValueError, TypeError: wrong use, in one line, before anything is spent.
        RunMismatch: where ``out`` holds another run.
        VerifierFailed: where a verifier fails; what was made stays in the run directory.
        UnsupportedPipeline: where the pipeline cannot be entered through its scheduler.
    """
    settings = {name: value for name, value in locals().items() if name in Request.model_fields}  # names stand once
    checked = check_arguments(out=out, progress=progress, pictures=pictures)
    # in full, before code of the user's may change the working directory
    where = None if checked.out is None else check_directory(checked.out, "out")
    with quiet():
        made = planned(pipe, where=where, **settings, **pipe_kwargs)
        if where is None:
            where = Path(tempfile.mkdtemp(prefix="noisewright-"))
            atexit.register(shutil.rmtree, where, ignore_errors=True)
        return _executed(made, where, progress, checked.pictures)


def resume(
    run: str | Path,
    pipe: Any = None,
    verifiers: Any = None,
    judges: Any = None,
    budget: str | int | Budget | Sequence[str] | None = None,
    target: float | Mapping[str, float] | None = None,
    *,
    executor: str | Executor | None = None,
    trust: bool = False,
    progress: bool | Callable[[Run], None] | None = None,
    pictures: bool = True,
    **pipe_kwargs: Any,
) -> Result:
    """Continue a run with what its directory says that it was asked for.

    Args:
        run: the directory.
        pipe: the pipeline, where it was given as an object and its name alone does not load the same.
        verifiers: those that were given as functions or objects, again; each takes the place of its name.
        judges: the same.
        budget: of the whole run, in place of what it had.
        target: in place of what it had.
        executor: who does the work, in place of who did.
        trust: import the files, call the servers, fetch the models and use the directories that the run names.
        progress: as :func:`search` takes it.
        pictures: as there.
        pipe_kwargs: tensors, arrays and images among the arguments of the pipeline's call, again.

    Raises:
        ValueError, TypeError: in one line, also on a budget that the run has spent already, and on what is missing.
        RunMismatch: where what is given is not what the run was started with.
    """
    checked = check_arguments(progress=progress, pictures=pictures)
    root = check_directory(as_path("a run", run), "run")
    held = read_run(root)
    before = request_of(root, held)
    named = executor if executor is None or isinstance(executor, str) else "local"
    request = with_changes(root, before, {"budget": budget, "target": target, "executor": named})
    given: dict[str, Any] = {"verifiers": completed(before.verifier, listed(verifiers), "verifiers"),
             "judges": completed(before.judge, listed(judges), "judges")}  # fmt: skip
    if isinstance(pipe, (str, Path)):  # what is typed now needs no trust
        request, pipe, before = request.changed(model=pipe, given_pipeline=None), None, before.changed(model=None)
    if pipe is not None:
        request = request.changed(**dict.fromkeys(LOADED_BY), given_pipeline=type(pipe).__name__)
    check_nothing_missing(root, request, pipe, given, pipe_kwargs)
    if not trust:
        named_by_it = before if pipe is None else request
        check_trust(root, named_by_it if named is None else named_by_it.changed(executor="local"))
    if executor is not None and named != executor:
        given["executor"] = executor
    with quiet():
        made = plan(request, pipe=pipe, arguments=pipe_kwargs, checked=held.get("checked"), **given)
        return _executed(made, root, progress, checked.pictures)


def _executed(
    plan: Plan, where: Path, progress: bool | Callable[[Run], None] | None, pictures: bool
) -> Result:
    """Run a plan with the display that was asked for."""
    if callable(progress):
        return execute(plan, where, progress, pictures=pictures)
    with displayed(progress) as show:
        return execute(plan, where, None if show is None else RunProgress(show), pictures=pictures)


def listed(given: Any) -> list[Any] | None:
    """One or several as a list; None is none."""
    return None if given is None else list(given) if isinstance(given, (list, tuple)) else [given]


def planned(pipe: Any, prompt: str | None = None, *, where: Path | None = None, **settings: Any) -> Plan:
    """What :func:`search` would do, with everything that it needs, before anything is spent.

    Args:
        pipe: as there.
        prompt: as there.
        where: the run directory; what a run there has settled stays as it is.
        settings: as there, without ``out``, ``progress`` and ``pictures``; others are arguments of the pipeline's call.

    Raises:
        ValueError, TypeError, UnsupportedPipeline: as there.
    """
    fields, arguments, given = given_apart(settings)
    if isinstance(pipe, (str, Path)):
        request = Request(model=pipe, prompt=prompt, **fields)
        return plan(request if where is None else as_recorded(where, request), arguments=arguments, **given)
    return plan(Request(prompt=prompt, **fields), pipe=pipe, arguments=arguments, **given)


def given_apart(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The settings of a call as fields of a request, arguments of the pipeline's call, and verifiers and the executor
    as objects.

    The last are named as :func:`noisewright.planning.plan` takes them.
    """
    fields = {name: value for name, value in settings.items() if name in Request.model_fields}
    arguments = {name: value for name, value in settings.items() if name not in fields}
    given: dict[str, Any] = {}
    for field, name in (("verifier", "verifiers"), ("judge", "judges")):
        several = listed(fields.get(field))
        if several is not None and not all(isinstance(one, str) for one in several):
            fields[field], given[name] = None, several
    if isinstance(fields.get("executor"), Executor):
        given["executor"] = fields.pop("executor")
    return fields, arguments, given
