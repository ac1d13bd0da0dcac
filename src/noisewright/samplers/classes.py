"""Pipelines without a prompt: which they are, what the classes of some are called, and which of these is meant."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from noisewright.outside.messages import did_you_mean, short


def is_class_conditional(pipe: Any) -> bool:
    """Whether a pipeline is called with ``class_labels``, and not with a prompt, and its network reads them."""
    accepted = inspect.signature(type(pipe).__call__).parameters
    label = accepted.get("class_labels")
    if label is None or "prompt" in accepted:
        return False
    return label.default is label.empty or count_classes(pipe, {}) is not None


def is_unconditional(pipe: Any) -> bool:
    """Whether a pipeline is told nothing but how many images to make, or by embeddings of an image alone."""
    accepted = inspect.signature(type(pipe).__call__).parameters
    conditional = "prompt" in accepted or is_class_conditional(pipe)
    return not conditional and ("batch_size" in accepted or "image_embeds" in accepted)


def labels_of(pipe: Any, card: Sequence[str] | Mapping[str, int] | None = None) -> dict[str, int]:
    """Names of the classes to their numbers: the pipeline's ``labels`` or ``id2label``, else the model card's list.

    A name with commas, as ImageNet's are, counts as each of its parts.
    """
    own = getattr(pipe, "labels", None)
    if isinstance(own, Mapping) and own:
        return {str(name): int(number) for name, number in own.items()}
    numbered = getattr(pipe, "id2label", None) or getattr(pipe, "config", {}).get("id2label")
    if isinstance(numbered, Mapping) and numbered:
        parts = ((part.strip(), int(number)) for number, text in numbered.items() for part in str(text).split(","))
        return {name: number for name, number in parts if name}
    if isinstance(card, Mapping):
        return {str(name): int(number) for name, number in card.items()}
    return {str(name): number for number, name in enumerate(card or ())}


def count_classes(pipe: Any, labels: Mapping[str, int]) -> int | None:
    """How many classes there are, or None where nothing says it."""
    for network in (getattr(pipe, "transformer", None), getattr(pipe, "unet", None)):
        config = getattr(network, "config", {})
        for key in ("num_classes", "num_embeds_ada_norm", "num_class_embeds"):
            if isinstance(config.get(key), int):
                return int(config[key])
    return max(labels.values()) + 1 if labels else None


def read_class(pipe: Any, given: str | int, labels: Mapping[str, int] | None = None) -> tuple[int, str]:
    """A class's number and name from either; ``cat``, ``Cat``, ``3`` and ``"3"`` are one class.

    Args:
        pipe: a class-conditional pipeline.
        given: what a person wrote.
        labels: names to numbers; by default :func:`labels_of` the pipeline.

    Raises:
        ValueError: in one line, with the nearest name.
    """
    labels = labels_of(pipe) if labels is None else labels
    count = count_classes(pipe, labels)
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        raise TypeError(f"expected a class label as a name or a number, got {type(given).__name__}")
    text = str(given).strip()
    folded = {name.lower(): name for name in reversed(list(labels))}
    if isinstance(given, str) and text.lower() in folded:
        exact = text if text in labels else folded[text.lower()]
        return labels[exact], exact
    if isinstance(given, int) or (len(text) < 20 and text.removeprefix("-").isdecimal()):
        number = int(given)
        if number < 0 or (count is not None and number >= count):
            raise ValueError(f"expected a class number in [0, {count or '...'}), got {short(number)}")
        return number, next((name for name, one in labels.items() if one == number), str(number))
    raise ValueError(_unknown(text, labels, count))


def _unknown(text: str, labels: Mapping[str, int], count: int | None) -> str:
    if not labels:
        return f"unknown class {short(text)}: expected a number in [0, {count or '...'}), this model names no classes"
    names = list(labels)
    shown = ", ".join(names) if len(names) <= 20 else ", ".join(names[:5]) + f", ... ({len(names)} names)"
    return f"unknown class {short(text)}: expected one of {shown}{did_you_mean(text, names)}"
