"""The names that a server's start allows a request to give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from noisewright import registry
from noisewright.outside.hub import cached
from noisewright.outside.messages import short, unknown
from noisewright.registry import trust
from noisewright.schemas.reading import is_file
from noisewright.web.openai.settings import MOST_AT_ONCE
from noisewright.web.settings import LIMITS, TIERS, Limits

MOST_TIER = 10_000
MOST_LIMIT = 1_000_000


def models(typed: Sequence[str] | None) -> tuple[str, ...]:
    """Those that were typed, each looked for; by default the bundled ones.

    Raises:
        ValueError: in one line, on one that is not there.
    """
    if not typed:
        return tuple(registry.names("model"))
    for name in typed:
        registry.find_model(name)
        if name.endswith(".safetensors") and not is_file(name):
            raise ValueError(f"expected a model as a file, got {short(name)}, which is not there")
    return tuple(dict.fromkeys(typed))


def verifiers(typed: Sequence[str] | None) -> tuple[str, ...]:
    """Those that were typed, as a person may; by default those of the registry whose models are here.

    Raises:
        ValueError: in one line, on an unknown name.
    """
    if typed:
        for text in typed:
            if registry.from_file(text) is None:
                registry.entry("verifier", text.partition(":")[0])
        return tuple(dict.fromkeys(typed))
    return tuple(name for name in registry.names("verifier") if _is_here(name))


def tiers(typed: Sequence[str] | None, most: float = MOST_TIER) -> dict[str, int]:
    """Images of a search by ``quality``, with what was typed as NAME=IMAGES; of those that were not, at most ``most``.

    Raises:
        ValueError: in one line, on another name or no number of images.
    """
    found = {name: min(images, int(most)) for name, images in TIERS.items()}
    for text in typed or ():
        name, _, images = text.partition("=")
        if name not in found:
            raise ValueError(unknown("quality", name, list(found)))
        if not (images.isascii() and images.isdecimal() and 1 <= int(images) <= MOST_TIER):
            raise ValueError(f"expected {name}=IMAGES with 1 to {MOST_TIER} images, got {short(text)}")
        found[name] = int(images)
    return found


def limits(typed: Sequence[str] | None) -> dict[str, float]:
    """The most of what a request may ask for, as NAME=VALUE was typed.

    Raises:
        ValueError: in one line, on another name or no such number.
    """
    found: dict[str, float] = {}
    for text in typed or ():
        name, _, value = text.partition("=")
        if name not in LIMITS:
            raise ValueError(unknown("limit", name, list(LIMITS)))
        most = MOST_AT_ONCE if name == "n" else MOST_LIMIT
        if not (value.isascii() and value.isdecimal() and len(value) < 10 and 1 <= int(value) <= most):
            raise ValueError(f"expected {name}=VALUE with a whole number of 1 to {most}, got {short(text)}")
        found[name] = int(value)
    return found


def limited(typed: Mapping[str, float]) -> Limits:
    """The limits of the page with those that were typed."""
    found: dict[str, Any] = {own: value for name, value in typed.items() if (own := LIMITS[name][0]) is not None}
    if "side" in found:
        found["pixels"] = found["side"] ** 2
    return replace(Limits(), **found)


def _is_here(name: str) -> bool:
    """Whether a verifier of the registry works by its name alone, with nothing to be fetched."""
    try:
        trust.check_verifier(name, local=True)
        default = _default_model(name)
    except (ValueError, TypeError, ImportError):
        return False
    return default is None or registry.bundled(default) is not None or cached(default) is not None


def _default_model(name: str) -> str | None:
    """The model that a verifier loads where none is named."""
    import inspect

    one = registry.entry("verifier", name)
    if "model" in one.options:
        return str(one.options["model"])
    parameter = inspect.signature(registry.load(one)).parameters.get("model")
    found = None if parameter is None else parameter.default
    return found if isinstance(found, str) and found else None
