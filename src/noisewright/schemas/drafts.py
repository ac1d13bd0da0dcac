"""Drafts as people type them and as records hold them: ``truncate,at=0.6``, ``steps,n=8+guidance,until=0.5``.

A draft is a cheap image from the same noise as the real one. Its text is parts joined by ``+``, each a kind with its
arguments; here it is read and checked, without a model. What each kind computes is said in
:mod:`noisewright.samplers.drafts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from noisewright.outside.bounds import MOST_STEPS
from noisewright.outside.messages import short, unknown

BEST, PILOT = 3, 8
"""How many of the best drafts are made in full, and how many candidates are made both ways before a draft is used."""

LEAST_PILOT = 4
"""Fewer ranks say nothing."""

LONGEST = 500
"""Characters of a draft."""

NO_DRAFT = "none"
"""What is typed in place of a draft where there is to be none, whatever a profile or an axis says."""


class Kind(NamedTuple):
    """A kind of draft: its arguments with their readers and defaults, and what it does in a line."""

    arguments: Mapping[str, tuple[Callable[[str, str], Any], Any]]
    summary: str


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10) or not 1 <= int(text) <= MOST_STEPS:
        raise ValueError(f"expected {name} of a draft as a whole number in [1, {MOST_STEPS}], got {short(text)}")
    return int(text)


def _fraction(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ValueError(f"expected {name} of a draft as a fraction in (0, 1), got {short(text)}")
    return value


def _one_of(*names: str) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        if text not in names:
            raise ValueError(unknown(f"{name} of a draft", text, list(names)))
        return text

    return read


DEEP, DUAL_BLOCK = "Deep", "DBCache"
"""The cache that is noisewright's own, and that of cache-dit; the others are diffusers'."""

CACHES: dict[str, tuple[str, ...]] = {
    DEEP: ("every", "depth"),
    "FirstBlockCache": ("threshold",),
    "TaylorSeerCache": ("cache_interval", "disable_cache_before_step", "disable_cache_after_step", "max_order"),
    "MagCache": ("threshold", "max_skip_steps", "retention_ratio"),
    "FasterCache": (
        "spatial_attention_block_skip_range", "unconditional_batch_skip_range", "attention_weight",
    ),
    "PyramidAttentionBroadcast": ("spatial_attention_block_skip_range", "cross_attention_block_skip_range"),
    DUAL_BLOCK: (
        "Fn_compute_blocks", "Bn_compute_blocks", "residual_diff_threshold", "max_warmup_steps", "max_cached_steps",
        "max_continuous_cached_steps",
    ),
}  # fmt: skip
"""Caches by name, and the arguments of each that a draft may set."""


def _number(name: str, text: str) -> int | float:
    try:
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 <= value <= 10**6):
        raise ValueError(f"expected {name} of a cache as a number in [0, 1000000], got {short(text)}")
    return value


KINDS: dict[str, Kind] = {
    "steps": Kind({"n": (_whole, None)}, "fewer steps: n of them, by default half"),
    "size": Kind({"by": (_whole, 2)}, "a smaller image, from the same noise averaged over blocks of by x by"),
    "dtype": Kind(
        {"to": (_one_of("bfloat16", "float16"), "bfloat16")}, "the network alone in half precision, by a copy of it"
    ),
    "cache": Kind({"name": (_one_of(*CACHES), DEEP)}, "what the network found out at earlier steps, used again"),
    "guidance": Kind({"until": (_fraction, 0.5)}, "guided up to this fraction of the steps, then conditional alone"),
    "truncate": Kind({"at": (_fraction, 0.6)}, "stopped at this fraction of the steps: the clean estimate there"),
}
"""In the order in which they are applied, and in which records name them."""

COMMON: dict[str, tuple[Callable[[str, str], Any], Any]] = {"best": (_whole, BEST), "pilot": (_whole, PILOT)}
"""Arguments of a draft as a whole, which may stand in any of its parts."""


@dataclass(frozen=True)
class Draft:
    """A draft that was asked for.

    Attributes:
        parts: arguments by kind, in the order of :data:`KINDS`.
        best: K, how many of the best drafts are made in full at the end, where there is time for them.
        pilot: P, how many candidates are made both ways before it is used; 0 uses it unproved.
    """

    parts: Mapping[str, Mapping[str, Any]]
    best: int = BEST
    pilot: int = PILOT

    @property
    def text(self) -> str:
        """Its parts with all their arguments, as records name it: without ``best`` and ``pilot``."""
        return "+".join(",".join([kind, *(f"{key}={one}" for key, one in args.items() if one is not None)])
                        for kind, args in self.parts.items())  # fmt: skip

    @property
    def other_steps(self) -> bool:
        """Whether its indices are not those of the full schedule."""
        return "steps" in self.parts

    def with_steps(self, steps: int) -> Draft:
        """The same with its number of steps said, half of ``steps`` where it was not."""
        if "steps" not in self.parts or self.parts["steps"]["n"] is not None:
            return self
        return replace(self, parts={**self.parts, "steps": {"n": max(1, steps // 2)}})


def read_draft(text: str) -> Draft:
    """A draft from its text.

    Raises:
        ValueError, TypeError: in one line, with the nearest name.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a draft as text such as 'truncate,at=0.6', got {short(text)}")
    if not text.strip() or len(text) > LONGEST:
        raise ValueError(f"expected a draft as text such as 'truncate,at=0.6', got {short(text)}")
    parts: dict[str, dict[str, Any]] = {}
    common = {name: default for name, (_, default) in COMMON.items()}
    for part in text.split("+"):
        name, *given = (one.strip() for one in part.split(","))
        if name not in KINDS:
            raise ValueError(unknown("draft", name, list(KINDS)))
        if name in parts:
            raise ValueError(f"expected each kind of draft once, got {name} twice")
        parts[name] = _arguments(name, given, common)
    ordered = {name: parts[name] for name in KINDS if name in parts}
    if 0 < common["pilot"] < LEAST_PILOT:
        raise ValueError(f"expected a pilot of at least {LEAST_PILOT} candidates, or 0, got {common['pilot']}")
    return Draft(ordered, common["best"], common["pilot"])


def draft_of(text: str | None) -> Draft | None:
    """The draft of a text; None of no text and of :data:`NO_DRAFT`.

    Raises:
        ValueError, TypeError: as :func:`read_draft`.
    """
    return None if text is None or text == NO_DRAFT else read_draft(text)


def is_typed(text: str | None, name: str) -> bool:
    """Whether a draft's text says an argument itself: what is not typed may be as a profile has it."""
    parts = (one.partition("=")[0].strip() for part in (text or "").split("+") for one in part.split(","))
    return name in parts


def _arguments(kind: str, given: list[str], common: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a part, with defaults; those of the whole draft are added to ``common``."""
    readers = KINDS[kind].arguments
    found: dict[str, Any] = {name: default for name, (_, default) in readers.items()}
    pairs = []
    for one in given:
        key, equals, value = (text.strip() for text in one.partition("="))
        if not equals or not key or not value:
            raise ValueError(f"expected {kind},key=value in a draft, got {short(one)}")
        pairs.append((key, value))
    for key, value in pairs:
        if key in COMMON:
            common[key] = 0 if (key, value) == ("pilot", "0") else COMMON[key][0](key, value)
        elif key in readers:
            found[key] = readers[key][0](key, value)
    extra, typed = CACHES[found["name"]] if kind == "cache" else (), dict(pairs)
    if len(typed) < len(pairs):
        raise ValueError(f"expected each argument of draft {kind} once, got {short(','.join(given))}")
    for key in typed:
        if key not in (*readers, *extra, *COMMON):
            raise ValueError(unknown(f"argument of draft {kind}", key, [*readers, *extra, *COMMON]))
    found |= {key: _number(key, typed[key]) for key in extra if key in typed}  # in one order, however they are typed
    if kind == "size" and found["by"] < 2:
        raise ValueError(f"expected by of at least 2 for draft size, got {found['by']}")
    if kind == "cache":
        _check_cache(found)
    return found


def _check_cache(found: dict[str, Any]) -> None:
    """Fill in what noisewright's own cache takes, and refuse what is none of it, or of cache-dit's."""
    for key in set(CACHES[DUAL_BLOCK]) - {"residual_diff_threshold"}:
        if not isinstance(found.get(key, 0), int):
            raise ValueError(f"expected {key} of cache {DUAL_BLOCK} as a whole number, got {found[key]}")
    if found["name"] != DEEP:
        return
    for key, default, least in (("every", 3, 2), ("depth", 1, 1)):
        value = found[key] = found.pop(key, default)
        if not isinstance(value, int) or value < least:
            raise ValueError(f"expected {key} of cache {DEEP} as a whole number of at least {least}, got {value}")
