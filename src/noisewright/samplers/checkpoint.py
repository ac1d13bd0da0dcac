"""A file of weights, told by its first bytes and its header alone: names, shapes and what it says of itself."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisewright.outside.reading import open_regular, shown

LARGEST_HEADER = 10**8
"""Bytes, as safetensors itself has it."""

PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")
CONVERTED = (
    "where you trust it, safetensors.torch.save_file(torch.load(FILE, weights_only=True), NEW) makes safetensors of it "
    "(of its 'state_dict', where it has one)"
)


@dataclass(frozen=True)
class Checkpoint:
    """What the header of a safetensors file says.

    Attributes:
        file: where it is.
        shapes: of each tensor by its name.
        metadata: texts by name.
    """

    file: Path
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def read_checkpoint(path: str | Path, what: str) -> Checkpoint:
    """The header of a safetensors file.

    Args:
        path: the file.
        what: what should be there, such as ``a single-file checkpoint``.

    Raises:
        ValueError: in one line, on anything else: a pickle, GGUF, a pointer of git-lfs, text, a torn file.
    """
    path, name = Path(path), f"expected {what} as safetensors, got"
    with open_regular(path, what) as file:
        size = file.seek(0, 2)
        file.seek(0)
        begun = file.read(64)
        _check_beginning(begun, path, name)
        length = struct.unpack("<Q", begun[:8])[0] if len(begun) >= 8 else -1
        if not 2 <= length <= LARGEST_HEADER or 8 + length > size:
            raise ValueError(f"{name} {shown(path)}, which is {_kind(begun, size)}")
        file.seek(8)
        held = file.read(length)
    try:
        header = json.loads(held)
        metadata = header.pop("__metadata__", {}) or {}
        shapes = {str(key): tuple(map(int, one["shape"])) for key, one in header.items()}
        last = max((int(one["data_offsets"][1]) for one in header.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise ValueError(f"{name} {shown(path)}, whose header is damaged") from None
    if 8 + length + last > size:
        raise ValueError(f"{name} {shown(path)}, which is torn: it has {size} of its {8 + length + last} bytes")
    if not shapes:
        raise ValueError(f"{name} {shown(path)}, which holds no weights")
    texts = {str(key): str(one) for key, one in metadata.items()} if isinstance(metadata, dict) else {}
    return Checkpoint(path, shapes, texts)


def _check_beginning(begun: bytes, path: Path, name: str) -> None:
    """Refuse what other programs read, by its first bytes or, of pickles, by its name."""
    begins = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    pickled = begun.startswith(begins) and begun[8:9] != b"{"  # else its first bytes are the length of a header
    if begun.startswith(b"GGUF"):
        raise ValueError(f"{name} {shown(path)}, which is GGUF, quantised for other programs")
    if begun.startswith(b"version https://git-lfs"):
        raise ValueError(f"{name} {shown(path)}, which is git-lfs's pointer to it: git lfs pull fetches it")
    if pickled or path.suffix.lower() in PICKLE_SUFFIXES:
        raise ValueError(f"{name} the pickle {shown(path)}: pickles can run code, so they are refused; {CONVERTED}")
    if path.suffix != ".safetensors":  # by which diffusers tells how to read it
        raise ValueError(f"{name} {shown(path)}, whose name does not end in .safetensors")


def _kind(begun: bytes, size: int) -> str:
    if size == 0:
        return "empty"
    text: Any = begun.decode("utf-8", "ignore")
    return "text" if len(text) == len(begun) and all(one.isprintable() or one.isspace() for one in text) else "none"
