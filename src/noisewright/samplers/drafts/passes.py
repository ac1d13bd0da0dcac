"""How a pipeline asks its network, read from its code: what diffusers' caches have to be told, and by whom."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from torch import nn

BOTH = re.compile(r"cat\(\[[\w.]+\] ?\* ?2")
"""How pipelines put what is asked with the prompt and without it into one batch."""

BY_CONTEXT = ("FirstBlockCache", "TaylorSeerCache")
"""Caches that keep what they found out by the names of passes, which the pipeline has to say."""

BY_TIME = ("PyramidAttentionBroadcast", "FasterCache")
"""Caches that ask the pipeline for the time, and take each pass for one of another time."""


@dataclass(frozen=True)
class Passes:
    """How a pipeline asks its network.

    Attributes:
        kind: the pipeline's class.
        named: whether it tells caches which pass is asked (``cache_context``).
        timed: whether it says the time that it is at (``current_timestep``).
        guided: whether it asks without the prompt, too.
        together: whether with the prompt and without it in one pass.
        distilled: whether the network is told the guidance in place of that.
    """

    kind: str
    named: bool
    timed: bool
    guided: bool
    together: bool
    distilled: bool

    @property
    def apart(self) -> bool:
        """Whether it asks twice at each time."""
        return self.guided and not self.together


def passes_of(pipe: Any, net: nn.Module, settings: Mapping[str, Any]) -> Passes:
    """How a pipeline asks a network.

    Args:
        pipe: the pipeline.
        net: the network.
        settings: of its call, by the names of its arguments.
    """
    names, constants, source = set[str](), set[str](), ""
    for function in _functions(type(pipe)):
        for code in _codes(inspect.unwrap(function).__code__):
            names.update(code.co_names)
            constants.update(one for one in code.co_consts if isinstance(one, str))
        with suppress(OSError, TypeError):  # nobody wrote it down
            source += inspect.getsource(function)
    distilled = bool(getattr(net, "config", {}).get("guidance_embeds", False))
    return Passes(
        type(pipe).__name__,
        named="cache_context" in names,
        timed=hasattr(type(pipe), "current_timestep") and "_current_timestep" in names,
        guided=_is_guided(pipe, settings, distilled),
        together="cond_uncond" in constants or BOTH.search(source) is not None,
        distilled=distilled,
    )


def check_passes(passes: Passes, name: str, unguided: bool) -> None:
    """Refuse a cache of diffusers that a pipeline does not tell what it has to know.

    Args:
        passes: of the pipeline.
        name: the cache.
        unguided: whether it goes on without guidance from some step on.

    Raises:
        ValueError: in one line, naming the pipeline's class.
    """
    if name in BY_CONTEXT and not passes.named:
        raise ValueError(f"expected a pipeline that names its passes (cache_context) for cache {name}, got "
                         f"{passes.kind}, which does not")  # fmt: skip
    if name == "MagCache" and passes.apart and not passes.named:
        raise ValueError(f"expected a pipeline that names its passes (cache_context), or one without guidance, for "
                         f"cache {name}, got {passes.kind}")  # fmt: skip
    if name not in BY_TIME:
        return
    if not passes.timed:
        raise ValueError(f"expected a pipeline that says the time (current_timestep) for cache {name}, got "
                         f"{passes.kind}, which does not")  # fmt: skip
    if passes.apart:
        raise ValueError(f"expected one pass a step for cache {name}, got {passes.kind}, which asks with the prompt "
                         "and without it apart")  # fmt: skip
    if name == "FasterCache" and not passes.distilled and (unguided or not passes.guided):
        raise ValueError(f"expected guidance in every pass for cache {name}, which splits it, got {passes.kind} "
                         f"{'with draft guidance' if unguided else 'without guidance'}")  # fmt: skip


def _is_guided(pipe: Any, settings: Mapping[str, Any], distilled: bool) -> bool:
    """Whether a call has classifier-free guidance."""
    accepted = inspect.signature(type(pipe).__call__).parameters
    name = "true_cfg_scale" if "true_cfg_scale" in accepted else "guidance_scale"
    if name not in accepted or (distilled and name == "guidance_scale"):
        return False
    given = settings.get(name)
    scale = accepted[name].default if given is None else given
    negative = any(settings.get(one) is not None for one in ("negative_prompt", "negative_prompt_embeds"))
    return isinstance(scale, (int, float)) and scale > 1 and (negative or name == "guidance_scale")


def _functions(kind: type) -> Iterator[FunctionType]:
    """The functions of a class and of those that it is made of; no properties."""
    for one in kind.__mro__:
        yield from (value for value in vars(one).values() if isinstance(value, FunctionType))


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function, and of those inside it."""
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)
