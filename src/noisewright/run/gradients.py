"""What of a sampler and verifiers a search cannot climb."""

from __future__ import annotations

from collections.abc import Sequence

from noisewright.samplers.protocol import DifferentiableSampler, Sampler
from noisewright.verifiers.protocol import DifferentiableVerifier, Verifier


def without_gradient(sampler: Sampler, verifiers: Sequence[Verifier]) -> list[str]:
    """What of these has no gradient: a sampler ``trace``s, a verifier gives ``gradient_scores``."""
    names = [one.name for one in verifiers if not isinstance(one, DifferentiableVerifier)]
    if not isinstance(sampler, DifferentiableSampler):
        names.append(str(sampler.description.get("model", "the sampler")))
    elif not sampler.differentiable:
        names.append(f"the solver {sampler.description.get('solver')}" + " with eta" * sampler.stochastic)
    return names
