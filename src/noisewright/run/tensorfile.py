"""Nested values of tensors as safetensors bytes and back: data alone, which cannot run code."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

STRUCTURE = "noisewright.structure"
"""The key under which a file's metadata hold how its tensors are nested."""


def pack(value: Any) -> bytes:
    """Tensors, arrays and plain values in lists, tuples and dictionaries, as the bytes of a safetensors file.

    Raises:
        TypeError: on anything else.
    """
    tensors: dict[str, Tensor] = {}
    structure = _taken_apart(value, tensors)
    return save(tensors, {STRUCTURE: json.dumps(structure, separators=(",", ":"))})


def unpack(data: bytes) -> Any:
    """What :func:`pack` was given.

    Raises:
        ValueError: where the bytes are no such file.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        structure = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][STRUCTURE])
        return _put_together(structure, load(data))
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError, RecursionError, AttributeError) as error:
        raise ValueError(f"expected a file of tensors, got a damaged one ({type(error).__name__})") from None


def first_schema_state(path: Path) -> Any | None:
    """A state as schema 1 kept it: a zip of weights, whose members have checksums that torch does not look at.

    None where it is gone or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        return torch.load(path, weights_only=True)
    except Exception:  # damaged bytes fail anywhere in the unpickler; the lineage makes the state again
        return None


def _taken_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, np.floating)):
        return {"float": float(value).hex()}
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, (Tensor, np.ndarray)):
        name = str(len(tensors))
        kind = "tensor" if isinstance(value, Tensor) else "array"
        tensors[name] = torch.as_tensor(value).detach().cpu().contiguous().clone()
        return {kind: name}
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [_taken_apart(one, tensors) for one in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _taken_apart(one, tensors) for key, one in value.items()}}
    raise TypeError(f"expected tensors and plain values, got {type(value).__name__}")


def _put_together(structure: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(structure, dict):
        return structure
    ((kind, held),) = structure.items()
    if kind == "float":
        return float.fromhex(held)
    if kind in ("tensor", "array"):
        return tensors[held] if kind == "tensor" else tensors[held].numpy()
    if kind == "dict":
        return {key: _put_together(one, tensors) for key, one in held.items()}
    made = [_put_together(one, tensors) for one in held]
    return tuple(made) if kind == "tuple" else made
