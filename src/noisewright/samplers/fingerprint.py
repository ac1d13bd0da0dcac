"""What tells one loaded pipeline from another."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

SILENT = ("_", "architectures", "transformers_version", "dtype", "torch_dtype")
"""Config keys that only say where, with what, or in which precision a component was made (weights carry their own)."""


def fingerprint(pipe: Any) -> str:
    """16 hex digits that change with any component's config or weights (a LoRA counts, and its scale)."""
    digest = hashlib.sha256(type(pipe).__name__.encode())
    for name, component in sorted(pipe.components.items()):
        digest.update(json.dumps([name, type(component).__name__, _config(component)], default=str).encode())
        if isinstance(component, torch.nn.Module):
            add_weights(digest, component)
            add_adapters(digest, component)
    return digest.hexdigest()[:16]


def add_weights(digest: Any, module: torch.nn.Module) -> None:
    """Adds 16 values of each parameter and buffer, evenly spaced, with its name, shape and dtype."""
    for key, tensor in (*module.named_parameters(), *module.named_buffers()):
        flat = tensor.detach().reshape(-1)
        picked = flat[:: max(1, flat.numel() // 16)][:16].float().cpu()
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(picked.numpy().tobytes())


def add_adapters(digest: Any, module: torch.nn.Module) -> None:
    """Adds what peft's adapters hold beside weights: their scale, and which are on."""
    for key, part in module.named_modules():
        if hasattr(part, "scaling") and hasattr(part, "active_adapters"):
            state = [key, part.scaling, list(part.active_adapters), getattr(part, "disable_adapters", False)]
            digest.update(json.dumps(state, default=str).encode())


def _config(component: Any) -> Any:
    """A component's settings in a fixed order, at every depth without the :data:`SILENT` ones."""
    config = getattr(component, "config", None)
    if config is None:
        return {}
    return _plain(config.to_dict() if hasattr(config, "to_dict") else dict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(value[key]) for key in sorted(value, key=str) if not str(key).startswith(SILENT)}
    return value
