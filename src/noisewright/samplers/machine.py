"""What this machine computes with: its name, its threads, and whether its instructions know bfloat16."""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

BFLOAT16 = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
"""Instructions of x86 processors that multiply numbers in bfloat16, by the flags that tell of them, the fastest first.

Without them torch computes in float32 and rounds, which is slower than float32. What other processors have for it
(``bf16`` of ARM) belongs here once it was measured.
"""


def bfloat16_instructions() -> str | None:
    """What the processor multiplies numbers in bfloat16 by; None where it cannot, or nothing says so."""
    return next((name for flag, name in BFLOAT16.items() if flag in flags()), None)


@lru_cache(maxsize=1)
def flags() -> frozenset[str]:
    """What the processor can do besides, by Linux's names; empty where nothing tells."""
    return _told_by_torch() or frozenset(_told_by_linux("flags", "features").split())


def _told_by_torch() -> frozenset[str]:
    """The same from torch, which asks the processor itself from some version on."""
    ask = getattr(torch.cpu, "get_capabilities", None)
    capabilities: dict[str, Any] = {}
    with suppress(Exception):  # a private matter of torch's: without it the file is read
        capabilities = {} if ask is None else dict(ask())
    return frozenset(name for name, has in capabilities.items() if has is True)


def _told_by_linux(*names: str) -> str:
    """The first line of one of these names in ``/proc/cpuinfo``."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in names:
                return value.strip()
    return ""


def machine(device: str | torch.device) -> dict[str, Any]:
    """What tells a machine by how fast it is, as JSON: the processor and its threads, or the accelerator."""
    place = torch.device(device)
    if place.type == "cuda":
        return {"accelerator": torch.cuda.get_device_name(place), "cuda": torch.version.cuda}
    processor = _told_by_linux("model name") or platform.processor() or platform.machine()
    found = {"processor": processor, "can": sorted(set(BFLOAT16) & flags()), "threads": torch.get_num_threads()}
    return found if place.type == "cpu" else {**found, "accelerator": place.type}
