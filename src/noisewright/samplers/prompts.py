"""Prompts that are encoded once for a run, whatever the sizes of its micro-batches."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from noisewright.samplers.identity import digest_of
from noisewright.samplers.protocol import Meter

PER_PROMPT = ("num_images_per_prompt", "num_videos_per_prompt", "num_waveforms_per_prompt")
"""Arguments of ``encode_prompt`` that say how often what was encoded is repeated."""


def remembering(pipe: Any, encode: Callable[..., Any], encoded: dict[str, Any], meter: Meter) -> Callable[..., Any]:
    """``pipe.encode_prompt`` with a memory: equal arguments give equal embeddings, of which each call has its own copy.

    For another number of images the pipeline's own code runs again, and repeats what its text encoders said before:
    a text encoder that is given the same tokens is not asked again. So nothing is assumed of how a pipeline repeats.

    Args:
        pipe: the pipeline.
        encode: its own ``encode_prompt``.
        encoded: what was encoded before, which is added to.
        meter: takes the time.
    """

    def remembered(*args: Any, **kwargs: Any) -> Any:
        key, shared = _keys(encode, args, kwargs)
        if key is None:
            with meter.phase("encode"):
                return encode(*args, **kwargs)
        if key not in encoded:
            with meter.phase("encode"), torch.no_grad(), _asked_once(pipe, encoded, shared):
                found = _for_each_image(encode, args, kwargs, encode(*args, **kwargs))
                kept = _copy(found)
                if kept is None:
                    return found
                encoded[key] = kept
        return copy.deepcopy(encoded[key])

    return remembered


def _for_each_image(encode: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], found: Any) -> Any:
    """What was encoded, repeated for each image where embeddings were given that the pipeline does not repeat itself.

    Stable Diffusion repeats what it is given, SD3 and FLUX only what they encode.
    """
    given = dict(inspect.signature(encode).bind(*args, **kwargs).arguments)
    count = next((given[name] for name in PER_PROMPT if name in given), 1)
    if given.get("prompt_embeds") is None or count == 1 or not isinstance(found, tuple):
        return found

    def one(value: Any) -> Any:
        single = isinstance(value, torch.Tensor) and value.ndim > 1 and value.shape[0] == 1
        return value.repeat(count, *(1 for _ in value.shape[1:])) if single else value

    return tuple(one(value) for value in found)


def _keys(encode: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str | None, str | None]:
    """What names a call's result, and what names it but for the number of images; None where nothing can."""
    try:
        key = digest_of("prompt", args, kwargs)
    except (TypeError, ValueError):
        return None, None
    try:
        bound = dict(inspect.signature(encode).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return key, key
    return key, digest_of({name: value for name, value in bound.items() if name not in PER_PROMPT})


@contextmanager
def _asked_once(pipe: Any, answers: dict[str, Any], shared: str | None) -> Iterator[None]:
    """The pipeline's text encoders, answering what they were asked before without running; then as they were."""
    encoders: dict[int, tuple[str, Any, type]] = {}
    for name in sorted(name for name in vars(pipe) if name.startswith("text_encoder")):
        one = getattr(pipe, name)
        compiled = getattr(one, "_compiled_call_impl", None) is not None  # its guards would see another class
        if isinstance(one, torch.nn.Module) and not one.training and not compiled:
            encoders.setdefault(id(one), (name, one, type(one)))
    try:
        for name, one, base in encoders.values():
            with suppress(TypeError):  # a class that cannot be derived from: it is asked each time
                one.__class__ = _answering(base, answers, f"{name} {shared}")
        yield
    finally:
        for _, one, base in encoders.values():
            one.__class__ = base


def _answering(base: type, answers: dict[str, Any], about: str) -> type:
    """A text encoder's class whose calls are looked up in ``answers`` first."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            key = digest_of("answer", about, args, kwargs)
        except (TypeError, ValueError):
            return base.__call__(self, *args, **kwargs)  # type: ignore[operator]
        if key in answers:
            return copy.deepcopy(answers[key])
        found = base.__call__(self, *args, **kwargs)  # type: ignore[operator]
        kept = _copy(found)  # of which the pipeline's code has no part: it may change what it gets
        if kept is not None:
            answers[key] = kept
        return found

    return type(base)(base.__name__, (base,), {"__call__": call, "__module__": base.__module__})


def _copy(value: Any) -> Any:
    """A copy that shares no tensor; None where there is none."""
    try:
        return copy.deepcopy(value)
    except (RuntimeError, TypeError, NotImplementedError, AttributeError):
        return None
