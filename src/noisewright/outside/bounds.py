"""How large a number may be: beyond these it is a mistake, which is said before anything is made of that size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noisewright.outside.messages import short

MOST_STEPS = 10_000
"""Of a sampler: ten times the times that models are trained at."""

MOST_IN_A_BATCH = 4096
LARGEST_SIDE = 16_384
"""Pixels of an image's height or width."""

MOST_VERIFIERS = 64
LONGEST_PROMPT = 5000
"""Characters. Text encoders read 77 to 512 tokens; more than this is a mistake, such as a file in place of a prompt."""

MOST_PROMPTS = 100_000
MOST_SAMPLES = 100_000
"""Images of a model's own; a FID takes 50,000."""

MOST_LEVELS = 1000
"""Of a measurement, and of a teacher's grid: the times that models are trained at."""

MOST_EVALUATIONS = 100_000
LARGEST_FIRST_SEED = 2**63 - 2**32 - 1
"""So that there are four thousand million more after it."""


def at_most(most: int, **values: Any) -> None:
    """Raise a ValueError for a number above ``most``; what is no number passes.

    Raises:
        ValueError: in one line, with the name of the value.
    """
    for name, value in values.items():
        if isinstance(value, (int, float)) and value > most:
            raise ValueError(f"expected {name} of at most {most}, got {short(value)}")


def no_more(most: int, what: str, given: Sequence[Any]) -> None:
    """Raise a ValueError for more than ``most`` of something."""
    if len(given) > most:
        raise ValueError(f"expected at most {most} {what}, got {len(given)}")


def no_longer(**texts: Any) -> None:
    """Raise a ValueError for a text of more characters than a prompt may have; what is no text passes."""
    for name, text in texts.items():
        if isinstance(text, str) and len(text) > LONGEST_PROMPT:
            raise ValueError(f"expected a {name} of at most {LONGEST_PROMPT} characters, got {len(text)}")
