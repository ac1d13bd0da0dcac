"""UniPC: a predictor, and a corrector that uses the next step's evaluation (Zhao et al. 2023, arXiv 2302.04867).

For the clean estimates m, with ``h = lambda_j - lambda_i``, nodes ``r_k = (lambda_k - lambda_i)/h`` of earlier
estimates and ``B = e^-h - 1`` (the paper's B_2, diffusers' ``bh2``):

    x_j = sigma_j/sigma_i x - alpha_j (e^-h - 1) m_i - alpha_j B sum_k a_k (m_k - m_i)/r_k

The weights a solve ``sum_k r_k^{n-1} a_k = n! (-h) phi_{n+1}(-h) / B`` (eq. 5); the corrector's sum has the estimate
at j itself, r = 1 (algorithm 1), the predictor's has not (algorithm 2). As in the paper, a is 1/2 for the predictor of
order 2 and the corrector of order 1. The corrected state is used where the next step begins: a state at an index is the
predictor's, so each step costs one evaluation and the last is not corrected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.schedule import Estimate, Schedule
from noisewright.diffusion.solvers.dpmpp import decay
from noisewright.diffusion.solvers.history import half_log_snr, kept, order_at, usable


@dataclass(frozen=True)
class UniPc:
    """UniPC-p with B_2; order p + 1, one evaluation a step.

    Its state has the states and the estimates that the last step began with, and its order.

    Attributes:
        order: p, 2 by default as in diffusers.
        name: as in the registry.
        lower_order_final: whether the last steps are of lower order, as in diffusers: steadier with few steps, but on
            schedules that end above the clean image the last one is then of first order.
    """

    order: int = 2
    name: str = "unipc"
    lower_order_final: bool = True
    nfe_per_step: int = 1
    stochastic: bool = False

    @property
    def memory(self) -> int:
        return self.order

    def step(
        self, schedule: Schedule, index: int, x: Tensor, found: Estimate, noise: Tensor | None, state: Any
    ) -> tuple[Tensor, Any]:
        history = state["clean"] if state is not None else None
        past = usable(history, schedule, index)
        if past:
            x = _moved(schedule, index - 1, state["x"], past[: state["order"]], found.clean)
        few = schedule.steps + 1 if self.lower_order_final else 0
        order = order_at(self.order, schedule, index, len(past), few_steps=few)
        after = _moved(schedule, index, x, [found.clean, *past][:order], None)
        return after, {"x": x, "clean": kept(found.clean, past, self.order), "order": order}


def _moved(schedule: Schedule, index: int, x: Tensor, cleans: list[Tensor], ahead: Tensor | None) -> Tensor:
    """From ``index`` to the next by the estimates there and before it, newest first, and the one ahead if given."""
    alpha, sigma = schedule.alpha[index + 1], schedule.sigma[index + 1]
    shrunk = decay(schedule, index, index + 1)
    after = sigma / schedule.sigma[index] * x + alpha * (1 - shrunk) * cleans[0]
    if len(cleans) == 1 and ahead is None:
        return after
    here = half_log_snr(schedule, index)
    length = half_log_snr(schedule, index + 1) - here
    nodes = [(half_log_snr(schedule, index - back) - here) / length for back in range(1, len(cleans))]
    gaps = [(one - cleans[0]) / node for one, node in zip(cleans[1:], nodes, strict=True)]
    if ahead is not None:
        nodes, gaps = [*nodes, 1.0], [*gaps, ahead - cleans[0]]
    for weight, gap in zip(_weights(nodes, length), gaps, strict=True):
        after = after + alpha * (1 - shrunk) * weight * gap
    return after


def _weights(nodes: list[float], length: float) -> list[float]:
    """The weights a for the nodes r; one node is given 1/2."""
    if len(nodes) == 1:
        return [0.5]
    base = math.expm1(-length)
    phi, right = base / -length, []
    for n in range(1, len(nodes) + 1):
        phi = (phi - 1 / math.factorial(n)) / -length  # phi_{n+1}
        right.append(math.factorial(n) * -length * phi / base)
    powers = torch.tensor([[node**n for node in nodes] for n in range(len(nodes))], dtype=torch.float64)
    found: list[float] = torch.linalg.solve(powers, torch.tensor(right, dtype=torch.float64)).tolist()
    return found
