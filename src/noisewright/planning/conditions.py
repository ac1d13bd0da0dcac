"""What an image should show: a prompt, a class of a class-conditional pipeline, or whatever an unconditional makes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from noisewright import registry
from noisewright.outside.messages import short
from noisewright.samplers.classes import is_class_conditional, is_unconditional, labels_of, read_class
from noisewright.samplers.condition import check_unconditional
from noisewright.schemas.request import check_prompt


def condition_of(
    pipe: Any, prompt: str | None, class_label: str | int | None, info: Mapping[str, Any]
) -> tuple[str, int | None]:
    """The prompt, and the number of the class where the pipeline is conditioned on classes: then the prompt names it.

    Of an unconditional pipeline the prompt is empty.

    Raises:
        ValueError: in one line, on a class for a pipeline that takes none, on none for one that takes it, on a class
            that is none of its own, on a prompt that names another class, and on either for an unconditional one.
    """
    kind = type(pipe).__name__
    takes_class = "class_label" in registry.settings_taken(pipe)
    if takes_class and is_unconditional(pipe):
        check_unconditional(kind, prompt, class_label)
        return "", None
    if not takes_class or not is_class_conditional(pipe):
        if class_label is not None:
            what = "is not class-conditional" if takes_class else "has its own"
            raise ValueError(f"expected no class_label, since {kind} {what}, got {short(class_label)}")
        check_prompt(prompt)
        return str(prompt), None
    labels = labels_of(pipe, info.get("labels"))
    if class_label is None:
        check_prompt(prompt)
        try:
            number, name = read_class(pipe, str(prompt), labels)
        except ValueError as error:
            raise ValueError(f"{kind} takes a class_label in place of a prompt: {error}") from None
        return name, number
    number, name = read_class(pipe, class_label, labels)
    if prompt is not None and read_class(pipe, prompt, labels)[0] != number:
        raise ValueError(f"expected one class, got the class_label {short(class_label)} and the prompt {short(prompt)}")
    return name, number


def unknown_words(prompt: str, info: Mapping[str, Any]) -> list[str]:
    """A sentence on the words of a prompt that a model's card does not list; none where it lists no words."""
    words = set(info.get("words", []))
    strange = [word for word in re.findall(r"[^\s,.;:!?]+", prompt.lower()) if word not in words]
    if not words or not strange:
        return []
    return [f"the model {info.get('name', '')} was not trained on: {', '.join(dict.fromkeys(strange))}"]
