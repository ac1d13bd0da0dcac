"""A family of pipelines: how the tests make a tiny one of real components, and what people use of it.

Every module beside this one that has a module-level ``FAMILY = Family(...)`` or ``FAMILIES = (Family(...), ...)``
adds to the suite of ``test_families.py`` and to the table of ``docs/pipelines.md``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
BESIDES = ("family", "parts", "cells", "known", "page", "write_matrix", "conftest")
"""Modules that are no families."""


@dataclass(frozen=True)
class Family:
    """Pipelines that are entered in the same way.

    Attributes:
        name: its short name, as in "flux2-klein".
        title: what people call it, as in "FLUX.2 klein".
        classes: the pipeline classes of diffusers that it stands for; the first is the one that ``make`` makes.
        make: a tiny pipeline of real components made from configurations: seeded, float32, on the CPU, in less than
            2 s, without downloads, with an image that depends on noise, prompt and guidance.
        prompt: what the suite asks for; None for an unconditional family.
        call: further arguments of the call beside prompt, steps, generator and output_type, made anew for each call.
        steps: how many steps the suite asks for.
        models: hub ids that people use of it.
        since: the first release of diffusers that has it; the family is skipped on older ones.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    make: Callable[[], Any]
    prompt: str | None = "two red circles"
    call: Callable[[], dict[str, Any]] = dict
    steps: int = 4
    models: tuple[str, ...] = ()
    since: str = "0.40"

    def there(self) -> bool:
        """Whether the installed diffusers has this family."""
        import diffusers

        return _release(diffusers.__version__) >= _release(self.since)


def _release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


@cache
def families() -> tuple[Family, ...]:
    """Every family of this directory, sorted by the names of their modules, each module in its own order.

    Raises:
        ValueError: for two families of one name.
    """
    found: list[Family] = []
    for path in sorted(HERE.glob("*.py")):
        if path.stem in BESIDES or path.stem.startswith(("test_", "_")):
            continue
        module = importlib.import_module(f"families.{path.stem}")
        found += [module.FAMILY] if hasattr(module, "FAMILY") else getattr(module, "FAMILIES", ())
    names = [family.name for family in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"expected one family of each name, got several of {', '.join(sorted(twice))}")
    return tuple(found)


def family(name: str) -> Family:
    """The family of this name."""
    return next(one for one in families() if one.name == name)


def randomised(network: torch.nn.Module, std: float = 0.1, seed: int = 0) -> torch.nn.Module:
    """The network with every matrix and kernel drawn anew: what is initialised at zero would hide noise and prompt."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.normal_(std=std, generator=generator)
    return network.eval()
