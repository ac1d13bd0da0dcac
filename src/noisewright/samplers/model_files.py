"""What of a model's directory could bring code with it, found before any of it is loaded. Nothing is imported here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST_JSON = 2**24
"""Bytes of a configuration; what a tokenizer knows lies in files of their own."""

DATA = ("tokenizer.json", "vocab.json", "added_tokens.json", "merges.json")
"""JSON files that are no configuration, and may be large."""

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
KERNELS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
"""Keys that choose how attention is computed; an ``OWNER/NAME`` there is compiled code of the hub."""

BRINGS_CODE = "is refused, since it brings code, which noisewright never runs"


class Refused(ValueError):
    """What is said of a model that is not loaded, already in one line."""


def read_json(path: Path, largest: int = LARGEST_JSON) -> Any:
    """A JSON file of anybody's.

    Raises:
        ValueError: in one line, on a file that is no regular one, is larger than ``largest`` bytes, or damaged.
    """
    try:
        if not path.is_file():
            raise ValueError(f"expected a JSON file, got {path}, which is none")
        with path.open("rb") as file:
            raw = file.read(largest + 1)
    except OSError as error:
        raise ValueError(f"expected a JSON file, got {path}: {error.strerror or error}") from None
    if len(raw) > largest:
        raise ValueError(f"expected a JSON file of at most {largest} bytes, got a larger one: {path}")
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # no UTF-8, no JSON, or deeper than Python goes
        raise ValueError(f"expected JSON in {path}, got a damaged file") from None


def check_folder(folder: Path, what: str, automatic: bool = False) -> None:
    """Refuse the directory of a model, or of one component, whose configuration asks for code.

    That is ``auto_map`` with Python files beside it, an adapter of another model, a kernel from the hub, weights that
    lie elsewhere, and a generation loop of its own.

    Args:
        folder: whose own files are looked at; not those of its folders.
        what: the model, for messages.
        automatic: whether classes are chosen by what the configuration says, so that ``auto_map`` counts by itself.

    Raises:
        ValueError: in one line.
    """
    python = sorted(path.name for path in folder.glob("*.py"))
    for path in sorted(folder.glob("*.json")):
        if path.name in DATA:
            continue
        place = f"{folder.name}/{path.name}"
        if path.name == "adapter_config.json":
            raise ValueError(f"model {what!r} is refused: expected whole weights, got an adapter, {place}")
        held = read_json(path)
        if path.name.endswith(".index.json"):
            _check_parts(held, place, what)
            continue
        for key, value in _entries(held):
            asks = f"model {what!r} {BRINGS_CODE}: {key} in {place}"
            if key == "auto_map" and value and (python or automatic):
                raise ValueError(asks + (f", beside {python[0]}" if python else ""))
            if key in KERNELS and any("/" in one for one in _texts(value)):
                raise ValueError(asks)
            if key == "audio_tokenizer" and value:
                raise ValueError(f"model {what!r} is refused: it names another model, {key} in {place}")
    if (folder / "custom_generate").exists():
        raise ValueError(f"model {what!r} {BRINGS_CODE}: {folder.name}/custom_generate")


def check_weights(folder: Path, what: str, deep: bool = False) -> None:
    """Refuse a component (or a ``deep`` one, with its folders) that has pickled weights and no others.

    Raises:
        ValueError: in one line.
    """
    find = folder.rglob if deep else folder.glob
    pickles = sorted(str(path.relative_to(folder)) for path in find("*") if path.suffix in PICKLES)
    if pickles and not any(find("*.safetensors")):
        place = pickles[0] if deep else f"{folder.name}/{pickles[0]}"
        raise ValueError(
            f"expected safetensors weights, got the pickle {place} in {what}: pickles can run code, so they are refused"
        )


def _check_parts(index: Any, place: str, what: str) -> None:
    """The parts of a checkpoint are files beside its index."""
    parts = index.get("weight_map") if isinstance(index, dict) else None
    for part in set(map(str, parts.values())) if isinstance(parts, dict) else ():
        plain = "/" not in part and "\\" not in part and not part.startswith(".")
        if not plain or (".safetensors.index" in place and not part.endswith(".safetensors")):
            raise ValueError(f"model {what!r} is refused: expected files beside {place}, got {part[:80]!r}")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a JSON value with what it holds, at any depth."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield from one.items()
            left += one.values()
        elif isinstance(one, list):
            left += one


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, (dict, list)):
            left += one.values() if isinstance(one, dict) else one
