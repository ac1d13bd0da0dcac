"""What is made of a pipeline: the first sampler entry that takes it makes its sampler."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from noisewright.outside.messages import short
from noisewright.registry import plugins
from noisewright.registry.kinds import Entry
from noisewright.registry.lookup import load
from noisewright.samplers.arguments import check_call_arguments, refuse_argument
from noisewright.verifiers.guarded import call, named, said

CALL_ARGUMENTS = "pipe_kwargs"
"""The setting that holds further arguments of the pipeline's own call."""

ALWAYS = ("model",)
"""Settings that need not be taken: how the model is called in records."""


def sampler_entry(pipe: Any) -> Entry:
    """Which entry makes the sampler of a pipeline: a plug-in's before a built-in one.

    Raises:
        UnsupportedPipeline: where none takes it.
        ValueError: where two plug-ins do.
    """
    every = [one for one in plugins.entries() if one.kind == "sampler"]
    theirs = [one for one in every if plugins.origin(one) is not None and _takes(one, pipe)]
    if len(theirs) > 1:
        found = " and ".join(f"{one.name} of {plugins.origin(one)}" for one in theirs)
        raise ValueError(f"expected one sampler for {type(pipe).__name__}, got {found}")
    for one in theirs or every:
        if plugins.origin(one) is not None or _takes(one, pipe):
            return one
    from noisewright.errors import UnsupportedPipeline

    raise UnsupportedPipeline(f"expected a diffusers pipeline with a scheduler, got {type(pipe).__name__}")


def settings_taken(pipe: Any) -> frozenset[str]:
    """What may be set beside a pipeline, by the names of its sampler's settings."""
    return frozenset(_parameters(load(sampler_entry(pipe))))


def check_pipeline_args(pipe: Any, given: Mapping[str, Any], known: Sequence[str] = ()) -> None:
    """Refuse arguments of the pipeline's own call that it has not, or that its sampler has no use for.

    Args:
        pipe: the pipeline.
        given: by name.
        known: names of other settings, which a wrong one may have meant.

    Raises:
        ValueError: in one line, with the nearest name.
    """
    if not given:
        return
    if CALL_ARGUMENTS in settings_taken(pipe):
        check_call_arguments(pipe, given, known)
    else:
        refuse_argument(type(pipe).__name__, next(iter(given)), known, ())


def make_sampler(pipe: Any, prompt: str | None, settings: Mapping[str, Any]) -> Any:
    """The :class:`~.Sampler` of a pipeline with a prompt and settings.

    Args:
        pipe: a pipeline, or a sampler that was made already.
        prompt: what to show.
        settings: by the names of :class:`noisewright.samplers.pipeline.PipelineSampler`'s arguments; what is None was
            not set. ``num_inference_steps`` is the model's own where it is None.

    Raises:
        UnsupportedPipeline: where no sampler takes the pipeline.
        ValueError: in one line, on a setting that its sampler does not take, or what that says of one.
    """
    one = sampler_entry(pipe)
    made, who = load(one), plugins.origin(one)
    accepted = _parameters(made)
    for name, value in settings.items():
        if name not in accepted and name not in ALWAYS and value is not None and value != {}:
            name, value = next(iter(value.items())) if name == CALL_ARGUMENTS else (name, value)
            raise ValueError(f"expected no {name} beside {_called(one)}, which has its own, got {short(value)}")
    given = {name: value for name, value in settings.items() if name in accepted}
    if who is None:
        return made(pipe, prompt, **one.options, **given)
    try:
        found = call(made, pipe, prompt, **one.options, **given)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{who}: sampler {one.name} raised {named(error)}: {said(error)}") from error
    return _checked(found, one, who)


def _parameters(made: Any) -> list[str]:
    """The settings of a function ``(pipe, prompt, **settings)``."""
    return list(inspect.signature(made).parameters)[2:]


def _takes(one: Entry, pipe: Any) -> bool:
    """Whether an entry is for a pipeline: by the name of its class or a base, or by what a function says."""
    classes = {kind.__name__ for kind in type(pipe).__mro__}
    for text in one.takes:
        if ":" not in text:
            if text in classes:
                return True
            continue
        says = load(Entry(one.kind, one.name, one.summary, text))
        try:
            if call(says, pipe) is True:
                return True
        except Exception as error:
            who = plugins.origin(one)
            raise ValueError(f"{who}: sampler {one.name}: {text} raised {named(error)}: {said(error)}") from error
    return False


def _called(one: Entry) -> str:
    return "a sampler" if not plugins.origin(one) else f"the sampler {one.name}"


def _checked(found: Any, one: Entry, who: str) -> Any:
    from noisewright.samplers.protocol import Sampler

    if isinstance(found, Sampler):
        return found
    missing = [name for name in _members(Sampler) if not hasattr(found, name)]
    lack = f", which has no {', '.join(missing)}" if missing else ""
    raise ValueError(f"{who}: expected a Sampler of {one.name}, got {type(found).__name__}{lack}")


def _members(protocol: Any) -> list[str]:
    """What a protocol asks for."""
    own = [name for name in vars(protocol) if not name.startswith("_")]
    return sorted({*own, *protocol.__annotations__})
