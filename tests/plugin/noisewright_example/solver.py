"""A solver of the example's own."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AdamsBashforth:
    """Two-step Adams-Bashforth on the noise, in s = sigma / alpha; its first step is Euler's.

    Attributes:
        name: what ``--solver`` takes.
    """

    name: str
    nfe_per_step: int = 1
    stochastic: bool = False
    memory: int = 1

    def step(self, schedule, index, x, found, noise, state):
        """``x_j / alpha_j = x_i / alpha_i + (s_j - s_i) eps``, eps through the last two noises."""
        clean, eps = found.clean, found.noise
        if state is not None and schedule.alpha[index - 1] > 0:  # at pure noise s is infinite
            s = [schedule.sigma[n] / schedule.alpha[n] for n in (index - 1, index, index + 1)]
            eps = eps + (s[2] - s[1]) / (2 * (s[1] - s[0])) * (eps - state)
            clean = clean + s[1] * (found.noise - eps)
        return schedule.alpha[index + 1] * clean + schedule.sigma[index + 1] * eps, found.noise
