"""A pipeline of the example's own, which the scheduler seam cannot enter, and the sampler that is made of it."""

import copy

import torch

from noisewright.diffusion.schedule import Schedule, estimate
from noisewright.diffusion.solvers import Ddim, advance, asks_once, eta_of, levels_asked, memory, nfe, stages
from noisewright.samplers.protocol import Meter, quantise

COLOURS = {"red": (0.7, -0.7, -0.7), "green": (-0.7, 0.7, -0.7), "blue": (-0.7, -0.7, 0.7)}
SPREAD = 0.3
"""Standard deviation of a blob's colour."""


class BlobPipeline:
    """Pictures of one colour: the denoiser of a Gaussian, exactly. It has no scheduler, and draws by a seed."""

    def __init__(self, device="cpu", dtype=None):
        self.device, self.dtype = device or "cpu", dtype or "float32"
        self.name_or_path = "example/blobs"

    def __call__(self, prompt, num_inference_steps=8, seed=0):
        """One picture, (3, 8, 8) in [0, 1]."""
        sampler = BlobSampler(self, prompt, num_inference_steps=num_inference_steps)
        x, _ = sampler.denoise(sampler.noise([seed]), 0, num_inference_steps)
        return sampler.decode(x)[0]

    def clean(self, x, alpha, sigma, prompt):
        """The mean of the clean pictures behind states x, (batch, 3, 8, 8)."""
        names = [name for name in COLOURS if name in prompt]
        if not names:
            raise ValueError(f"expected a prompt with one of {', '.join(COLOURS)}, got {prompt!r}")
        mean = torch.tensor(COLOURS[names[0]])[None, :, None, None]
        return mean + alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2) * (x - alpha * mean)


def load(device=None, dtype=None):
    """The pipeline that ``--model example/blobs`` names."""
    return BlobPipeline(device, dtype)


class BlobSampler:
    """A sampler over a :class:`BlobPipeline`; takes the number of steps and a solver, and no other setting."""

    def __init__(self, pipe, prompt, *, num_inference_steps=None, solver=None):
        self.pipe, self.prompt, self.solver = pipe, prompt, solver or Ddim()
        self.meter = Meter()
        self._set(8 if num_inference_steps is None else num_inference_steps)
        pipe.clean(self.noise([0]), 0.5, 0.5, prompt)  # says what is wrong with a prompt

    def _set(self, steps):
        t = [1 - k / steps for k in range(steps + 1)]
        self.schedule = Schedule(t[:-1], [1 - one for one in t], t)

    def with_steps(self, steps):
        other = copy.copy(self)  # shares the meter
        other._set(steps)
        return other

    @property
    def description(self):
        return {
            "model": self.pipe.name_or_path, "fingerprint": "blobs-1", "prompt": self.prompt,
            "num_inference_steps": self.schedule.steps, "solver": self.solver.name, "eta": eta_of(self.solver),
            "schedule": self.schedule.digest, "device": str(self.pipe.device),
        }  # fmt: skip

    @property
    def stochastic(self):
        return self.solver.stochastic

    @property
    def remembers(self):
        return memory(self.solver) > 0

    @property
    def can_advance(self):
        return asks_once(self.solver)

    def nfe(self, start, stop):
        return nfe(self.solver, self.schedule, start, stop)

    def noise(self, seeds):
        return torch.cat([torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def denoise(self, x, start, stop, state=None, noise=None, seeds=None):
        with self.meter.phase("denoise"):
            for index in range(start, stop):
                drawn = noise(index) if self.solver.stochastic else None
                step = stages(self.solver, self.schedule, index, x, drawn, state)
                sample = next(step)
                try:
                    for level in levels_asked(self.solver, self.schedule, index):
                        sample = step.send(self._ask(sample, level.alpha, level.sigma))
                except StopIteration as done:
                    x, state = done.value
            return x, state

    def _ask(self, x, alpha, sigma):
        self.meter.count(len(x))
        self.meter.forwards += len(x)
        return estimate(self.pipe.clean(x, alpha, sigma, self.prompt), x, alpha, sigma, "sample")

    def predict(self, x, index):
        with self.meter.phase("denoise"):
            return self._ask(x, self.schedule.alpha[index], self.schedule.sigma[index]).clean

    def advance(self, x, index, clean, state=None, noise=None):
        return advance(self.solver, self.schedule, x, index, clean, state, noise)

    def decode(self, x):
        with self.meter.phase("decode"):
            self.meter.decodes += len(x)
            return quantise(x / 2 + 0.5)
