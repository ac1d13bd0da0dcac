"""A plan: what a run was asked for, checked, with everything it needs, before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from noisewright import registry
from noisewright.evaluate.enough import in_words, too_small
from noisewright.executors.optional import BuildsElsewhere, reach
from noisewright.executors.protocol import Executor
from noisewright.planning.blueprint import PlannedBlueprint, blueprint_of
from noisewright.planning.conditions import condition_of, unknown_words
from noisewright.planning.models import load_requested
from noisewright.planning.precision import decided_dtype, settled
from noisewright.planning.profiles import profiled
from noisewright.planning.proof import check_whole, proved
from noisewright.planning.rehearsal import rehearse
from noisewright.planning.samplers import (
    call_arguments,
    check_given,
    drafting,
    make_sampler,
    record_of,
    records_of,
)
from noisewright.planning.sizes import key_of_size, size_of
from noisewright.planning.verifiers import choose_verifiers, names_of, target_of
from noisewright.registry.located import located_verifiers
from noisewright.request import Request, check_names
from noisewright.run.budget import Budget, parse_budget
from noisewright.run.ensembles import ENSEMBLES, ensemble_weights, read_ensemble
from noisewright.run.verbs import Target
from noisewright.samplers.protocol import Sampler
from noisewright.samplers.quiet import quiet
from noisewright.samplers.speeds import Decided
from noisewright.schemas.drafts import Draft
from noisewright.verifiers.protocol import Verifier

DEFAULT_BUDGET = "16 images"


@dataclass
class Plan:
    """Everything a run needs, checked, before anything is spent.

    Attributes:
        request: what was asked for, as ``run.json`` records it.
        sampler: what the search samples with.
        final: what renders in full; the same where the search makes no cheaper images.
        verifiers: what the search sees.
        judges: what it never sees.
        search: its function, called with ``search_args``.
        budget: the limits.
        target: when to stop early.
        batch_size: the first micro-batch.
        executor: who does the work; None is this process.
        blueprint: gives what workers on other machines are built from.
        checked: what is known of the pipeline and by what key, as ``run.json`` records it; None where nothing is.
        spec: what identifies the run.
        warnings: what the user should know.
        draft: what the search's own images are, where one was asked for.
        size_key: what the fastest batch size is kept by, where it is open still: a new run may begin with a trial.
        decided: what the request left open and is decided already.
    """

    request: Request
    sampler: Sampler
    final: Sampler
    verifiers: list[Verifier]
    judges: list[Verifier]
    search: Callable[..., None]
    search_args: dict[str, Any]
    budget: Budget
    target: Target
    batch_size: int
    executor: Executor | None
    spec: dict[str, Any]
    warnings: list[str]
    checked: dict[str, Any] | None = None
    draft: Draft | None = None
    size_key: str | None = None
    decided: tuple[Decided, ...] = ()
    blueprint: Callable[[], PlannedBlueprint] | None = None

    @property
    def winners(self) -> int:
        """How many of the best are judged."""
        return max(1, self.request.keep or 0)

    @property
    def finalists(self) -> int:
        """How many of the best drafts are rendered in full, where a budget in seconds has time for them."""
        return finalists_of(self.request, self.draft)

    def give_to(self, executor: Executor) -> None:
        """Have another executor do the work."""
        if isinstance(executor, BuildsElsewhere) and self.blueprint is not None:
            executor.build_from(self.blueprint())
        self.executor = executor


def finalists_of(request: Request, draft: Draft | None) -> int:
    """How many of the best are rendered in full where the search makes cheaper images."""
    return max(1, request.keep or 0, 0 if draft is None else draft.best)


def plan(
    request: Request,
    *,
    pipe: Any = None,
    verifiers: Sequence[Any] | None = None,
    judges: Sequence[Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
    proving: bool = True,
    checked: Mapping[str, Any] | None = None,
) -> Plan:
    """Check everything that can be checked before anything is spent.

    Args:
        request: what is asked for.
        pipe: the pipeline (or sampler) itself, where it is loaded already; by default the model that the request names.
        verifiers: names, functions or objects in place of the request's.
        judges: the same.
        arguments: further arguments of the pipeline's call: tensors and the like, of which a request has but a hash.
        executor: who does the work, in place of whom the request names; not recorded, since no image depends on it.
        proving: compare the pipeline with its plain call where that was never done, which costs the work of three
            images of four steps (:mod:`noisewright.samplers.parity`); else it is only said that it was not.
        checked: what a run that is continued knows of that (:attr:`Plan.checked`).

    Raises:
        ValueError, TypeError: in one line.
        UnsupportedPipeline: where the pipeline cannot be entered through its scheduler.
    """
    request, live = recordable(request, pipe=pipe, verifiers=verifiers, judges=judges, arguments=arguments)
    with quiet():
        if proving:
            reach(executor or registry.make_executor(request.executor))
        if pipe is None:
            pipe = load_requested(request)
        return plan_on(request, pipe, executor=executor, proving=proving, checked=checked, **live)


def recordable(
    request: Request,
    *,
    pipe: Any = None,
    verifiers: Sequence[Any] | None = None,
    judges: Sequence[Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> tuple[Request, dict[str, Any]]:
    """A request as ``run.json`` will have it, its names checked; the arguments are :func:`plan`'s.

    Returns:
        The request, with paths in full and notes of what was given beside it; and the verifiers, judges and arguments
        that :func:`plan_on` takes.

    Raises:
        ValueError, TypeError: in one line.
    """
    request = request.located()  # before a verifier changes the working directory
    verifiers, judges = located_verifiers(verifiers), located_verifiers(judges)
    check_names(request)
    check_given(request, pipe)
    changes: dict[str, Any] = {} if pipe is None else record_of(pipe)
    if verifiers is not None:
        changes["verifier"] = names_of(verifiers)
    if judges is not None:
        changes["judge"] = names_of(judges)
    if arguments:
        changes["pipeline_args"] = {**request.pipeline_args, **records_of(arguments)}
    live = {"verifiers": verifiers, "judges": judges, "arguments": arguments}
    return request.changed(**changes) if changes else request, live


def plan_on(
    request: Request,
    pipe: Any,
    *,
    verifiers: Sequence[Any] | None = None,
    judges: Sequence[Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    known: dict[str, Verifier] | None = None,
    executor: Executor | None = None,
    proving: bool = True,
    checked: Mapping[str, Any] | None = None,
    decided: Decided | None = None,
    tuned: bool = True,
    shared: bool = False,
) -> Plan:
    """As :func:`plan`, of a request that says all, on its pipeline, which is loaded.

    Args:
        request: from :func:`recordable`.
        pipe: the pipeline (or sampler).
        verifiers: as there.
        judges: as there.
        arguments: as there.
        known: verifiers that were made before, by their names.
        executor: as there.
        proving: as there.
        checked: as there.
        decided: how the pipeline's type was decided, where the request no longer leaves it open.
        tuned: whether how many images are made at once may go by what was timed on this machine; where not, an open
            number is the same everywhere.
        shared: whether the request's workers are dealt whole runs, of which this is one.

    Raises:
        ValueError, TypeError, UnsupportedPipeline: as there.
    """
    decided = decided or decided_dtype(request, pipe)
    request = settled(request, pipe)
    limits = parse_budget(DEFAULT_BUDGET if request.budget is None else request.budget)
    warnings = list[str]()
    _check_ensemble(request.ensemble)
    function = registry.make_search(request.search)
    search_args = registry.check_arguments(request.search, request.search_args)
    registry.make_solver(request.solver, request.eta)
    values = call_arguments(request, arguments or {}, pipe)
    info = registry.card(getattr(pipe, "name_or_path", None))
    condition = condition_of(pipe, request.prompt, request.class_label, info)
    known = {} if known is None else known
    made, judging, notes = choose_verifiers(request, verifiers, judges, condition[0], info, pipe, known)
    goal = target_of(request.target, made)
    doer = executor or registry.make_executor(request.executor)
    at_once = 1 if goal.scores or (executor is None and shared) else doer.workers
    request = profiled(request, pipe, limits, made, at_once, warnings)
    final = make_sampler(request, pipe, condition, info, values, warnings)
    warnings += [*notes, *unknown_words(condition[0], info)]
    proof = proved(request, final, proving, checked)
    warnings += proof.warnings
    final = proof.sampler
    sampler, draft = drafting(request, final, made, warnings)
    sampler = proof.obeyed(sampler)
    check_whole(request.search, final, made, draft)
    rehearse(function, sampler, made, search_args, request.seed, limits, final, draft.text if draft else None)
    _check_budget(limits, sampler, final, finalists_of(request, draft))
    key = key_of_size(final, proof.key) if tuned and request.batch_size is None else None
    size, found = size_of(sampler, request.batch_size, key)
    spec = _spec(request, sampler, final, draft, made, judging, search_args, limits, goal, size)
    blueprint = partial(
        blueprint_of, request, pipe, final, made, judging, dict(known), condition=condition, info=info,
        arguments=arguments, checked=proof.to_json(),
    )  # fmt: skip
    whole = Plan(
        request=request, sampler=sampler, final=final, verifiers=made, judges=judging, search=function,
        search_args=search_args, budget=limits, target=goal, batch_size=size, executor=None, spec=spec,
        warnings=warnings, checked=proof.to_json(), draft=draft, size_key=key if found is None else None,
        decided=tuple(one for one in (decided, found) if one is not None), blueprint=blueprint,
    )  # fmt: skip
    whole.give_to(doer)
    small = too_small(whole)
    if small is not None:
        warnings.append(in_words(whole, small))
    return whole


def _check_ensemble(ensemble: Any) -> None:
    if not ensemble_weights(ensemble) and ensemble not in ENSEMBLES:
        raise ValueError(registry.unknown("ensemble", str(ensemble), list(ENSEMBLES)))


def _check_budget(limits: Budget, sampler: Sampler, final: Sampler, winners: int) -> None:
    """Refuse a budget that does not pay for the baseline and the final rendering of the winners."""
    if limits == Budget():
        raise ValueError("expected a budget such as '64 images', got none")
    renders = 1 if sampler is final else 1 + winners
    each = final.nfe(0, final.schedule.steps)
    if (limits.images or renders) < renders or (limits.nfe or renders * each) < renders * each:
        raise ValueError(f"expected a budget of at least {renders} images ({renders * each} nfe), got {limits}")


def _spec(
    request: Request, sampler: Sampler, final: Sampler, draft: Draft | None, verifiers: Sequence[Verifier],
    judges: Sequence[Verifier], search_args: Mapping[str, Any], limits: Budget, goal: Target, batch_size: int,
) -> dict[str, Any]:  # fmt: skip
    """What identifies the run, with every default spelled out."""
    return {
        "sampler": final.description,
        "search_steps": sampler.description["num_inference_steps"],
        "search_steps_taken": sampler.schedule.steps,
        **({} if draft is None else {"draft": draft.text, "best": draft.best, "pilot": draft.pilot}),
        "search": request.search,
        "search_args": dict(search_args),
        "seed": request.seed,
        "verifiers": [{"name": one.name, "fingerprint": one.fingerprint} for one in verifiers],
        "judges": [{"name": one.name, "fingerprint": one.fingerprint} for one in judges],
        "ensemble": read_ensemble(request.ensemble, [one.name for one in verifiers]),
        "budget": {"images": limits.images, "nfe": limits.nfe, "seconds": limits.seconds},
        "target": goal.scores,
        "batch_size": batch_size,
    }
