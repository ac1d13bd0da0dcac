"""Rows of batched states: one particle's part of a micro-batch, and several particles' parts put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = tuple[Tensor, Any]
"""States (batch, ...) at one index, and the solver's state there; of ascended noises, their velocity in its place."""


def row_of(state: Any, row: int, count: int) -> Any:
    """One particle's part of a batched solver state of ``count`` particles."""
    if isinstance(state, Tensor) and state.ndim > 0 and state.shape[0] == count:
        return state[row : row + 1].clone()
    if isinstance(state, dict):
        return {key: row_of(value, row, count) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [row_of(value, row, count) for value in state]
    return state


def one_row(state: State, row: int, count: int) -> State:
    """One particle's part of what a micro-batch of ``count`` reached."""
    x, solver_state = state
    return x[row : row + 1].clone(), row_of(solver_state, row, count)


def joined(states: Sequence[Any]) -> Any:
    """The batched solver state of several particles that stand at the same index."""
    first = states[0]
    if isinstance(first, Tensor) and first.ndim > 0:
        return torch.cat(list(states))
    if isinstance(first, dict):
        return {key: joined([state[key] for state in states]) for key in first}
    if isinstance(first, (list, tuple)):
        return [joined([state[n] for state in states]) for n in range(len(first))]
    return first


def bytes_of(state: Any) -> int:
    """What the tensors of a state, the solver's included, take in memory."""
    if isinstance(state, (Tensor, np.ndarray)):
        return int(state.nbytes)
    if isinstance(state, dict):
        return sum(map(bytes_of, state.values()))
    return sum(map(bytes_of, state)) if isinstance(state, (list, tuple)) else 0
