"""Who is inside a pipeline: one search at a time, and no plain call beside it.

A call of a pipeline sets attributes of the object (guidance, interrupts, its scheduler's place), so two calls at once
spoil each other's images. Searches in several threads take turns, a micro-batch each. A plain ``pipe(...)`` cannot be
made to wait without a deadlock where it was started from inside the search; it is told, and so is a search beside a
plain call.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, wraps
from types import FrameType
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import torch

from noisewright.errors import PipelineBusy

DENOISERS = ("unet", "transformer", "transformer_2", "prior", "decoder")
"""Where pipelines keep the network that is asked once a step."""

_LOCKS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_MAKING = threading.Lock()


def networks_of(pipe: Any) -> list[torch.nn.Module]:
    """The networks of a pipeline that a step asks."""
    found = [getattr(pipe, name, None) for name in DENOISERS]
    return [net for net in found if isinstance(net, torch.nn.Module)]


KEEPS_KEYS = ("Flux2KleinKVPipeline",)
"""Pipelines whose networks keep what they made of the text, or of an image, in the first step for the others."""


def remembers_inside(pipe: Any) -> bool:
    """Whether a pipeline's own parts carry something from step to step that no state holds.

    Caches of diffusers (FirstBlockCache, TaylorSeer, ...) and guidance with momentum do; both are emptied with each
    call, so that a way which is cut is another one.
    """
    cached = any(bool(getattr(net, "is_cache_enabled", False)) for net in networks_of(pipe))
    guiders = [getattr(pipe, name, None) for name in ("guider", "ocr_guider")]
    if cached or type(pipe).__name__ in KEEPS_KEYS:
        return True
    return any(getattr(one, "adaptive_projected_guidance_momentum", None) is not None for one in guiders)


GRADIENT_CUT = ("HiDreamImagePipeline",)
"""Pipelines whose networks work without a gradient in a part of them (HiDream's experts)."""


def cuts_gradient(pipe: Any) -> bool:
    """Whether a gradient through a pipeline would be another one.

    So it is where a call has other attention processors than those that are there when its backward pass runs (PAG),
    and where a part of the network works without a gradient.
    """
    return getattr(pipe, "pag_applied_layers", None) is not None or type(pipe).__name__ in GRADIENT_CUT


@contextmanager
def turn(pipe: Any) -> Iterator[None]:
    """Wait until no other thread is inside the pipeline, or inside another one (an adapter's, say) of its networks.

    A thread that is inside may enter again.
    """
    with _MAKING:
        locks = {id(one): _LOCKS.setdefault(one, threading.RLock()) for one in networks_of(pipe) or [pipe]}
    with ExitStack() as stack:
        for key in sorted(locks):  # one order for all threads
            stack.enter_context(locks[key])
        yield


@contextmanager
def reserved(pipe: Any) -> Iterator[Any]:
    """The pipeline for one call of ours: whoever else calls it meanwhile is refused. Gives the call to use.

    Raises:
        PipelineBusy: where a call of it is running already, in any thread.
    """
    kind: Any = type(pipe)
    object.__setattr__(pipe, "__class__", _closed(kind))
    try:
        thread = _inside(pipe)
        if thread is not None:
            where = "in this thread" if thread == threading.get_ident() else f"in thread {_thread_name(thread)}"
            raise PipelineBusy(
                f"expected {kind.__name__} to be free, got a plain call of it that is running {where}: search when it "
                "has ended, or with a pipeline object of its own"
            )
        yield kind.__call__
    finally:
        object.__setattr__(pipe, "__class__", kind)


@lru_cache(maxsize=64)
def _closed(kind: Any) -> Any:
    """A pipeline's class but for its call, which is refused."""

    @wraps(kind.__call__)  # other threads may ask for its signature meanwhile
    def __call__(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise PipelineBusy(
            f"expected {kind.__name__} to be free, got a plain call of it while a noisewright search is inside it: "
            "call it when the search has ended, or give each its own pipeline object"
        )

    body = {"__call__": __call__, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**body, "__qualname__": kind.__qualname__})


def _inside(pipe: Any) -> int | None:
    """The thread that is in the middle of a call of the pipeline, found on the threads' stacks; None where none is."""
    for thread, top in sys._current_frames().items():
        frame: FrameType | None = top
        while frame is not None:
            if frame.f_code.co_name in ("__call__", "decorate_context") and _calls(frame, pipe):
                return thread
            frame = frame.f_back
    return None


def _calls(frame: FrameType, pipe: Any) -> bool:
    """Whether a frame is the call of the pipeline itself, or of torch's decorator around it."""
    held, first = frame.f_locals, frame.f_code.co_varnames[:1]
    if frame.f_code.co_name == "decorate_context":
        given = held.get("args") or (None,)
        return given[0] is pipe and getattr(held.get("func"), "__name__", "") == "__call__"
    return frame.f_code.co_argcount > 0 and held.get(first[0]) is pipe


def _thread_name(thread: int) -> str:
    return next((one.name for one in threading.enumerate() if one.ident == thread), str(thread))


@contextmanager
def replaced(whose: Any, name: str, other: Callable[[Any], Any]) -> Iterator[None]:
    """A method of a pipeline or network object with ``other(own)`` in its place, where it has one; then as it was."""
    own, held = getattr(whose, name, None), whose.__dict__.get(name)
    if own is None:
        yield
        return
    object.__setattr__(whose, name, other(own))  # past DiffusionPipeline.__setattr__
    try:
        yield
    finally:
        if held is not None:
            object.__setattr__(whose, name, held)
        else:
            whose.__dict__.pop(name, None)
