"""Prompts and judges as people give them to ``compare`` and ``audit``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisewright import registry
from noisewright.benchmark.prompt_sets import BUNDLED, is_set, numbered, read_prompt_set
from noisewright.benchmark.spec import SetPrompt
from noisewright.outside.messages import first_line, short, unknown
from noisewright.registry import trust
from noisewright.request import NONE
from noisewright.verifiers.protocol import let_check

Prompts = tuple[tuple[SetPrompt, ...], str, list[str]]
"""Prompts, what they were read from, and warnings."""

TYPED = "typed"


def given_prompts(given: str | Path | Sequence[str], **choice: Any) -> Prompts:
    """The prompts of a file, of a bundled set, or themselves.

    Args:
        given: a file, a bundled set's name, a prompt of several words; from Python also a list of texts.
        choice: ``column``, ``category``, ``limit``, ``sample`` and ``seed`` of a set.

    Raises:
        ValueError, TypeError: in one line.
    """
    if not isinstance(given, (str, Path)):
        if isinstance(given, bytes) or not isinstance(given, Sequence) or not given:
            raise TypeError(f"expected prompts as a file, a set's name or a list of texts, got {short(given)}")
        return numbered(given), TYPED, []
    name = str(given)
    if isinstance(given, Path) or is_set(name):
        prompts, warnings = read_prompt_set(given, **choice)
        return prompts, Path(name).name, warnings
    if len(name.split()) < 2:
        hint = unknown("set of prompts", name, list(BUNDLED))
        raise ValueError(f"{hint}; or a file, or a prompt of several words in quotes")
    option = next((key for key in ("column", "category", "limit", "sample") if choice.get(key) is not None), None)
    if option is not None:
        raise ValueError(f"expected --{option} with a set of prompts, got the prompt {short(name)}")
    return numbered([name]), TYPED, []


def judges_for(
    given: Sequence[str] | None, verifiers: Sequence[str], model: str, prompts: Sequence[SetPrompt]
) -> tuple[list[str], list[str]]:
    """The judges that were asked for, or the first of the model's card that is no verifier and can judge all prompts.

    Returns:
        Names, and a sentence where the card's cannot be asked.

    Raises:
        ValueError: in one line.
    """
    if given is not None:
        return [] if list(given) == NONE else list(given), []
    taken = {registry.score_name(one) for one in verifiers}
    card = registry.card(str(registry.find_model(model)))
    named = [one for one in trust.of_card(card, "judge", model) if registry.score_name(one) not in taken]
    if not named:
        return [], []
    try:
        judge = registry.make_verifier(named[0])
        for one in prompts:
            let_check(judge, one.text)
    except (ValueError, OSError, ImportError) as error:
        return [], [f"{named[0]} is not asked: {first_line(error)}"]
    return named[:1], []
