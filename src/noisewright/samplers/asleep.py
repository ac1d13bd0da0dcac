"""Networks that answer without being asked: in a loop of full length, where only some of its steps are to be taken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from noisewright.samplers.turns import networks_of, replaced

BESIDE = ("controlnet", "brushnet", "motion_adapter")
"""Where pipelines keep networks that a step asks beside the denoiser."""

Answers = dict[int, tuple[Any, int, bool]]
"""By the id of a network: what its outputs look like, :class:`Shape` for a tensor; for how many rows; and whether it
was given a list of a tensor a row."""


@dataclass(frozen=True)
class Shape:
    """What a tensor of an answer looked like."""

    sizes: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def sleepers_of(pipe: Any) -> list[torch.nn.Module]:
    """The networks that a step asks: the denoiser, and what steers it."""
    beside = [getattr(pipe, name, None) for name in BESIDE]
    return [*networks_of(pipe), *(one for one in beside if isinstance(one, torch.nn.Module))]


@contextmanager
def sleeping(pipe: Any, asleep: Callable[[], bool], answers: Answers) -> Iterator[None]:
    """The pipeline's networks, which answer zeros where ``asleep()``; then as they were.

    A network that was not asked before is asked all the same, once: its answer tells what the zeros look like.

    Args:
        pipe: the pipeline.
        asleep: whether they need not work now.
        answers: what their outputs look like, which is added to.
    """
    thread = threading.get_ident()

    def drowsy(key: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def answer(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread:  # another pipeline may have the same network, in another thread
                return forward(*args, **kwargs)
            rows = rows_of(args, kwargs)
            if asleep() and key in answers:
                return _zeros(*answers[key], rows)
            found = forward(*args, **kwargs)
            if key not in answers:
                answers[key] = (pytree.tree_map(_shape, found), rows, not isinstance(_batch_of(args, kwargs), Tensor))
            return found

        return answer

    with ExitStack() as stack:
        for key, net in {id(net): net for net in sleepers_of(pipe)}.items():
            stack.enter_context(replaced(net, "forward", partial(drowsy, key)))
        yield


def rows_of(args: tuple, kwargs: dict) -> int:
    """How many rows a network's call works on."""
    return len(_batch_of(args, kwargs))


def _batch_of(args: tuple, kwargs: dict) -> Any:
    """What a network's call works on: a tensor (rows, ...), or a list of a tensor a row; empty where there is none."""
    for value in (*args, kwargs.get("sample"), kwargs.get("hidden_states"), *kwargs.values()):
        if isinstance(value, Tensor) and value.ndim > 1:
            return value
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
            return value
    return ()


def _shape(value: Any) -> Any:
    return Shape(tuple(value.shape), value.dtype, value.device) if isinstance(value, Tensor) else value


def _zeros(answer: Any, before: int, by_row: bool, rows: int) -> Any:
    """An answer's like for another number of rows: lists of a tensor a row grow, the first size of tensors does."""

    def a_row_each(value: Any) -> bool:
        listed = isinstance(value, list) and len(value) == before and all(isinstance(one, Shape) for one in value)
        return listed and (by_row or not any(one.sizes[:1] == (before,) for one in value))

    def one(value: Any) -> Any:
        if a_row_each(value):
            return [_filled(value[0].sizes, value[0]) for _ in range(rows)]
        if not isinstance(value, Shape):
            return value
        sizes = value.sizes
        if sizes and before and sizes[0] % before == 0:
            sizes = (sizes[0] // before * rows, *sizes[1:])
        return _filled(sizes, value)

    return pytree.tree_map(one, answer, is_leaf=lambda value: isinstance(value, Shape) or a_row_each(value))


def _filled(sizes: tuple[int, ...], like: Shape) -> Tensor:
    return torch.zeros(sizes, dtype=like.dtype, device=like.device)
