"""What a verifier gave, read as numbers: one for each image, or a sentence that says what it is instead."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence, Set, Sized
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor

from noisewright.outside.texts import clean

log = logging.getLogger("noisewright")


class Unreadable(Exception):
    """Something that is not one number for each image."""


def numbers(given: Any, count: int, name: str) -> list[float]:
    """Scores of ``count`` images in their order; NaN for what is infinite, or no number where others are.

    Taken are tensors and arrays of numbers, with one dimension of that size and others of size 1, and whatever can be
    gone through, in its own order, and holds numbers or what holds a single one. A generator is asked for one score
    more than there should be at most.

    Args:
        given: what a verifier returned.
        count: of images.
        name: the verifier's, for a line in the log where some of the scores are no numbers.

    Raises:
        Unreadable: in one line.
        Exception: what ``given`` raises while it is gone through.
    """
    values = _listed(given, count)
    found = [_number(value) for value in values]
    lacking = [value for value, one in zip(values, found, strict=True) if one is None]
    if lacking and len(lacking) == count:
        raise Unreadable(f"expected {count} numbers, got {_short(given)}")
    if lacking:
        log.warning(
            "verifier %s: expected numbers, got %s (NaN for %d of %d images)",
            name, _short(lacking[0]), len(lacking), count,
        )  # fmt: skip
    return [math.nan if one is None else one for one in found]


def _listed(given: Any, count: int) -> list[Any]:
    if isinstance(given, (Tensor, np.ndarray)):
        size = int(given.numel() if isinstance(given, Tensor) else given.size)
        if size != count:
            raise Unreadable(f"expected {count} scores, got {size}")
        if count > 1 and max(given.shape) != count:
            raise Unreadable(f"expected {count} scores, got an array of {tuple(given.shape)}")
        return _flat(given)
    if given is None or isinstance(given, (str, bytes, bytearray, Mapping, Set)):  # a set has no order
        raise Unreadable(f"expected {count} numbers, got {_short(given)}")
    try:
        values = iter(given)
    except TypeError:
        raise Unreadable(f"expected {count} numbers, got {_short(given)}") from None
    found = list(islice(values, count + 1))
    if len(found) != count:
        got = len(given) if isinstance(given, Sized) else len(found) if len(found) < count else "more"
        raise Unreadable(f"expected {count} scores, got {got}")
    return found


def _flat(given: Tensor | np.ndarray) -> list[Any]:
    """The elements of a tensor or an array; None for each where these are no real numbers (nor anything)."""
    if isinstance(given, np.ndarray):
        return list(given.reshape(-1).tolist()) if given.dtype.kind in "biufO" else [None] * given.size
    return list(given.detach().cpu().reshape(-1).tolist())


def _number(value: Any) -> float | None:
    """A finite number, NaN, or None for what is none; a complex number or a text is none."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)) and len(value) == 1:
        value = value[0]
    if isinstance(value, (Tensor, np.ndarray)):
        if (value.numel() if isinstance(value, Tensor) else value.size) != 1:
            return None
        value = _flat(value)[0]
    if isinstance(value, (str, bytes, bytearray, complex, np.complexfloating, np.datetime64, np.timedelta64)):
        return None
    try:
        found = float(value)
    except OverflowError:  # 10**400
        return math.nan
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else math.nan


def _short(value: Any) -> str:
    """The kind of something, and its first characters where it can say them."""
    try:
        text = clean(str(value), 60)
    except Exception:  # a whole number of more digits than Python writes, for one
        text = ""
    return f"{type(value).__name__} {text}".strip()
