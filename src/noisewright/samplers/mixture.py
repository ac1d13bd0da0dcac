"""An exact sampler: the denoiser of a Gaussian mixture is known in closed form, so every algorithm can be tested.

For ``x0 ~ sum_k w_k N(mu_k, s_k^2 I)`` and ``x = alpha x0 + sigma eps``, the posterior mean is
``sum_k r_k(x) (mu_k + alpha s_k^2 / (alpha^2 s_k^2 + sigma^2) (x - alpha mu_k))`` with the responsibilities
``r_k ~ w_k N(x; alpha mu_k, (alpha^2 s_k^2 + sigma^2) I)``.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from noisewright.diffusion.clock import Level
from noisewright.diffusion.schedule import Estimate, Schedule, estimate
from noisewright.diffusion.solvers import AnySolver, Ddim, advance, asks_once, eta_of, levels_asked, memory, nfe, stages
from noisewright.errors import NotDifferentiable
from noisewright.outside.bounds import MOST_STEPS, at_most
from noisewright.samplers.protocol import Meter, StepNoise, quantise

SHAPE = (3, 2, 2)


def vp_schedule(steps: int, start: float = 0.9999, stop: float = 1e-3) -> Schedule:
    """A VP schedule of ``steps`` steps, uniform in angle: sigma from ``start`` to ``stop``."""
    angle = torch.linspace(torch.asin(torch.tensor(start)).item(), torch.asin(torch.tensor(stop)).item(), steps + 1)
    return Schedule(
        tuple((angle[:-1] * 1000 / torch.pi * 2).tolist()), tuple(angle.cos().tolist()), tuple(angle.sin().tolist())
    )


def flow_schedule(steps: int, start: float = 1.0) -> Schedule:
    """A linear flow schedule of ``steps`` steps: sigma = t, alpha = 1 - t, t falling evenly from ``start`` to 0."""
    t = torch.linspace(start, 0, steps + 1, dtype=torch.float64)
    return Schedule(tuple((t[:-1] * 1000).tolist()), tuple((1 - t).tolist()), tuple(t.tolist()))


class MixtureSampler:
    """A :class:`noisewright.samplers.protocol.Sampler` whose data distribution is a Gaussian mixture, exactly.

    States are images of ``shape`` with values about [-1, 1]; :meth:`decode` maps -1..1 to 0..1.

    Args:
        means: (components, *shape); by default eight corners, drawn from seed 0.
        deviations: standard deviation of each component, (components,).
        weights: (components,), normalised here.
        steps: steps of the schedule.
        kind: ``vp`` or ``flow``.
        solver: a step rule.
        prompt: carried along, without effect.
    """

    def __init__(
        self,
        means: Tensor | None = None,
        deviations: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        steps: int = 20,
        kind: str = "vp",
        solver: AnySolver | None = None,
        prompt: str = "a mixture",
    ) -> None:
        if kind not in ("vp", "flow"):
            raise ValueError(f"expected kind vp or flow, got {kind!r}")
        if means is None:
            generator = torch.Generator().manual_seed(0)
            means = (torch.rand(8, *SHAPE, generator=generator) > 0.5).float() * 1.4 - 0.7
        self.means = means.double()
        count = len(means)
        self.deviations = (torch.full((count,), 0.1) if deviations is None else deviations).double()
        weights = torch.ones(count) if weights is None else weights
        self.weights = (weights / weights.sum()).double()
        self.kind = kind
        self.solver: AnySolver = solver or Ddim()
        self.prompt = prompt
        self.meter = Meter()
        self.reached: tuple[int, Tensor, Any] | None = None
        self._set_steps(steps)

    def _set_steps(self, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"expected at least 1 step, got {steps}")
        at_most(MOST_STEPS, steps=steps)
        self.schedule = vp_schedule(steps) if self.kind == "vp" else flow_schedule(steps)

    def with_steps(self, steps: int) -> MixtureSampler:
        other = copy.copy(self)  # shares the meter
        other._set_steps(steps)
        return other

    @property
    def stochastic(self) -> bool:
        return self.solver.stochastic

    @property
    def remembers(self) -> bool:
        return memory(self.solver) > 0

    def nfe(self, start: int, stop: int) -> int:
        return nfe(self.solver, self.schedule, start, stop)

    @property
    def description(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for tensor in (self.means, self.deviations, self.weights):
            digest.update(tensor.numpy().tobytes())
        return {
            "model": "mixture",
            "fingerprint": digest.hexdigest()[:16],
            "prompt": self.prompt,
            "kind": self.kind,
            "num_inference_steps": self.schedule.steps,
            "solver": self.solver.name,
            "eta": eta_of(self.solver),
            "schedule": self.schedule.digest,
        }

    def clean_mean(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """E[x0 | x] at a level, exactly, in float64. x: (batch, *shape)."""
        flat, means = x.double().flatten(1), self.means.flatten(1)
        spread = alpha**2 * self.deviations**2 + sigma**2  # (components,)
        gap = flat[:, None] - alpha * means[None]  # (batch, components, dims)
        logits = self.weights.log() - 0.5 * gap.square().sum(-1) / spread - 0.5 * flat.shape[1] * spread.log()
        shares = logits.softmax(-1)  # (batch, components)
        pull = (alpha * self.deviations**2 / spread)[None, :, None] * gap
        return (shares[..., None] * (means[None] + pull)).sum(1).reshape(x.shape)

    def _count(self, x: Tensor, times: int = 1) -> None:
        self.meter.nfe += len(x) * times
        self.meter.forwards += len(x) * times
        for _ in range(times):
            self.meter.tell(len(x))

    def _step(self, x: Tensor, index: int, noise: Tensor | None, state: Any) -> tuple[Tensor, Any]:
        """One step, in float64 inside."""
        levels = levels_asked(self.solver, self.schedule, index)
        step = stages(self.solver, self.schedule, index, x.double(), noise, state)
        sample = next(step)
        for level in levels:
            try:
                sample = step.send(self._look(sample, level))
            except StopIteration as done:
                return done.value
        raise ValueError(f"{self.solver.name} asked more often than it said, {len(levels)} times")

    def _look(self, x: Tensor, level: Level) -> Estimate:
        clean = self.clean_mean(x, level.alpha, level.sigma)
        return estimate(clean, x.double(), level.alpha, level.sigma, "sample")

    def noise(self, seeds: Sequence[int]) -> Tensor:
        rows = [
            torch.randn(1, *self.means.shape[1:], generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds
        ]
        return torch.cat(rows) * self.schedule.start

    def denoise(
        self, x: Tensor, start: int, stop: int, state: Any = None, noise: StepNoise | None = None,
        seeds: Sequence[int | None] | None = None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        if not 0 <= start < stop <= self.schedule.steps:
            raise ValueError(f"expected 0 <= start < stop <= {self.schedule.steps}, got {start} to {stop}")
        self.reached = None
        with self.meter.phase("denoise"):
            for index in range(start, stop):
                drawn = noise(index) if self.solver.stochastic and noise is not None else None
                self._count(x, self.nfe(index, index + 1))
                x, state = self._step(x, index, drawn, state)
                x = x.float()
                self.reached = index + 1, x, state
            return x, state

    @property
    def differentiable(self) -> bool:
        return not self.solver.stochastic

    def trace(self, x: Tensor) -> Tensor:
        def step(now: Tensor, index: int, state: Any) -> tuple[Tensor, Any]:
            after, state = self._step(now, index, None, state)
            return after.to(x.dtype), state

        if self.solver.stochastic:
            raise NotDifferentiable(f"expected a deterministic solver for a gradient, got {self.solver.name} with eta")
        with self.meter.phase("denoise"):
            state: Any = None
            for index in range(self.schedule.steps):
                self._count(x, self.nfe(index, index + 1))  # once: the backward pass looks again
                x, state = checkpoint(step, x, index, state, use_reentrant=False)
        return (x / 2 + 0.5).clamp(0, 1)

    @property
    def can_advance(self) -> bool:
        return asks_once(self.solver)

    def advance(
        self, x: Tensor, index: int, clean: Tensor, state: Any = None, noise: StepNoise | None = None
    ) -> tuple[Tensor, Any]:
        return advance(self.solver, self.schedule, x, index, clean, state, noise)

    def predict(self, x: Tensor, index: int) -> Tensor:
        with self.meter.phase("denoise"):
            self._count(x)
            return self.clean_mean(x, self.schedule.alpha[index], self.schedule.sigma[index]).float()

    def decode(self, x: Tensor) -> Tensor:
        with self.meter.phase("decode"):
            self.meter.decodes += len(x)
            return quantise(x / 2 + 0.5)
