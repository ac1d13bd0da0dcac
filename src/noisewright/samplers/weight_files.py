"""The weights in a model's directory by their names: plain or a variant such as fp16, in one file or in parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from noisewright.outside.reading import shown
from noisewright.samplers.model_files import read_json

STEMS = r"(?:diffusion_pytorch_model|pytorch_model|model)"
PART = r"-\d{5}-of-\d{5}"
WHOLE = re.compile(rf"{STEMS}(?:\.(?P<variant>[\w-]+?))?\.safetensors")
PARTS = re.compile(rf"{STEMS}(?:\.(?P<variant>[\w-]+?))?{PART}(?:\.(?P<late>[\w-]+))?\.safetensors")
INDEX = re.compile(rf"{STEMS}\.safetensors(?:\.(?P<early>[\w-]+))?\.index(?:\.(?P<variant>[\w-]+))?\.json")
"""Names that diffusers and transformers give; what stands in the other place is from before 2024."""

NO_INDEX = "the index of its parts"
VARIANT = re.compile(r"[A-Za-z0-9][\w-]*")
PLAIN = ""
"""The variant that has no name."""


def weights_in(folder: Path) -> dict[str, list[str]]:
    """The variants of one component's safetensors weights, each with the names of its parts that are not there."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = variants_of(names)
    whole = [match["variant"] or PLAIN for name in names if (match := WHOLE.fullmatch(name)) and not _is_part(name)]
    for name in names:
        match = INDEX.fullmatch(name)
        variant = (match["variant"] or match["early"] or PLAIN) if match else None
        if variant is not None and variant not in whole:
            found[variant] = [part for part in _parts(folder / name) if not (folder / part).is_file()]
    return found


def variants_of(names: Iterable[str]) -> dict[str, list[str]]:
    """As :func:`weights_in`, of the names of a folder's files alone: parts that have an index are taken as whole."""
    found: dict[str, list[str]] = {}
    for name in names:
        if match := PARTS.fullmatch(name):
            found.setdefault(match["variant"] or match["late"] or PLAIN, [NO_INDEX])
        elif match := INDEX.fullmatch(name):
            found[match["variant"] or match["early"] or PLAIN] = []
        elif match := WHOLE.fullmatch(name):
            found[match["variant"] or PLAIN] = []
    return found


def _is_part(name: str) -> bool:
    return PARTS.fullmatch(name) is not None


def _parts(index: Path) -> list[str]:
    """The files that the index of a checkpoint names; of a damaged one something that nobody has."""
    try:
        held: Any = read_json(index)
        found = set(map(str, held["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        found = set()
    return sorted(found) or [f"{index.name} that can be read"]


def check_variant(found: Mapping[str, Mapping[str, list[str]]], variant: str | None, name: str) -> None:
    """Refuse a variant that no component has, and none at all where weights are only there as one.

    A component without it has plain weights: as in diffusers, the two are mixed then.

    Args:
        found: for each component with weights, :func:`weights_in` it.
        variant: what was asked for.
        name: the model, for messages.

    Raises:
        ValueError: in one line, naming the variants that are there.
    """
    there = sorted({one for held in found.values() for one in held} - {PLAIN})
    said = f"the variants {', '.join(there)}" if len(there) > 1 else f"the variant {there[0]}" if there else "none"
    if variant is not None and variant not in there:
        raise ValueError(f"expected a variant that {_named(name)} has, got {shown(variant)!r}: it has {said}")
    for component, held in found.items():
        wanted = [PLAIN] if variant is None else [variant, PLAIN]
        if held and not any(one in held for one in wanted):
            only = ", ".join(sorted(held))
            got = "none" if variant is None else repr(variant)
            raise ValueError(
                f"expected a variant for {component} of {_named(name)}, got {got}: its weights are there only as "
                f"{only} (--variant {sorted(held)[0]})"
            )


def missing_weights(found: Mapping[str, Mapping[str, list[str]]], variant: str | None) -> list[str]:
    """Of each component with weights, what is absent of those that would be loaded."""
    missing = []
    if variant is not None and found and not any(variant in held for held in found.values()):
        missing.append(f"its {variant} weights")
    for component, held in found.items():
        wanted = variant if variant is not None and variant in held else PLAIN
        if wanted not in held:
            missing.append(f"the weights of {component}")
        missing += [f"{component}/{part}" for part in held.get(wanted, [])]
    return missing


def _named(name: str) -> str:
    return f"model {shown(name)!r}"


def read_variant(variant: Any) -> str | None:
    """A variant's name as it stands in file names.

    Raises:
        ValueError, TypeError: in one line, on what cannot be one.
    """
    if variant is None:
        return None
    if not isinstance(variant, str):
        raise TypeError(f"expected a variant as text such as fp16, got {type(variant).__name__}")
    if not VARIANT.fullmatch(variant) or len(variant) > 100:
        raise ValueError(f"expected a variant such as fp16, got {variant[:60]!r}")
    return variant
