"""What the benchmark of schedules keeps: rows by a key of everything that they depend on, files written whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from noisewright.diffusion.schedules import RULES

VERSION = 1
"""Part of every key: raised when what is computed changes though no setting does."""

BLOCK = {"dev": 8, "wide": 4, "test": 4, "fid": 25}
"""Noises of one prompt that are run together: few, so that a hundred noises are of many prompts. "dev" and "wide" are
both of the dev prompts, to tune on."""

FIRST_SEED = {"dev": 10_000_000, "wide": 20_000_000, "test": 0, "fid": 1_000_000}
"""Tuning and reporting never share a noise; "test" and "fid" share their prompts."""

NAMED = (*RULES, "pipeline")
"""Schedules that need no fit."""

FITTED = ("vrg", "vrg, start held", "gits", "dmn", "search")
"""What the product fits; "start only" and "random" are controls."""


def hashed(*parts: Any) -> str:
    """16 hex digits of settings."""
    return hashlib.sha256(json.dumps([VERSION, *parts], sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Part:
    """A block of noises of one prompt; a larger count adds parts and changes none.

    Attributes:
        set: of :data:`BLOCK`.
        prompt: its number in the set, kinds alternating.
        block: its number among the prompt's blocks.
    """

    set: str
    prompt: int
    block: int = 0

    @property
    def seeds(self) -> tuple[int, ...]:
        size = BLOCK[self.set]
        first = FIRST_SEED[self.set] + 1000 * self.prompt + size * self.block
        return tuple(range(first, first + size))


def parts_of(name: str, count: int, prompts: int = 200) -> list[Part]:
    """The parts that hold at least ``count`` noises: a block of every prompt, then the next block of every prompt."""
    needed = -(-count // BLOCK[name])
    return [Part(name, n % prompts, n // prompts) for n in range(needed)]


@dataclass(frozen=True)
class Cell:
    """One line of a table: how a schedule is made, and what it is sampled with.

    Attributes:
        guidance, solver, steps: of the sampling.
        start: the named schedule it begins from, "-" for none.
        variant: "before" (the named one itself), "start only", "random", or one of :data:`FITTED`.
    """

    guidance: float
    solver: str
    steps: int
    start: str
    variant: str

    @property
    def label(self) -> str:
        if self.variant == "before":
            return self.start
        return self.variant if self.start == "-" else f"{self.start}, {self.variant}"


class Rows:
    """JSON lines by key. A line that a killed process left torn is skipped, and the next begins on its own."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._rows: dict[str, dict[str, Any]] = {}
        text = file.read_text() if file.is_file() else ""
        self._torn = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict) and "key" in row:
                self._rows[row["key"]] = row

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows.values())

    def get(self, key: str) -> dict[str, Any] | None:
        return self._rows.get(key)

    def add(self, row: dict[str, Any]) -> None:
        self._rows[row["key"]] = row
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as opened:
            opened.write(("\n" if self._torn else "") + json.dumps(row) + "\n")
        self._torn = False


def save_whole(tensors: dict[str, Tensor], file: Path) -> None:
    """Write a safetensors file that is either there whole or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    save_file(tensors, part)
    part.replace(file)
