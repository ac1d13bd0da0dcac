"""What every executor must hold, on the exact Gaussian-mixture sampler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from noisewright.diffusion.solvers import Ddim
from noisewright.executors.protocol import Executor
from noisewright.run.store import Store
from noisewright.run.verbs import Run
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.paths import paths
from noisewright.search.random import random
from noisewright.testing.searches import STEPS, journal
from noisewright.verifiers.pixels import Brightness

SEARCHES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "random": (random, {"n": 7}),
    "paths": (paths, {"width": 2, "children": 2}),
}


def check_executor(make: Callable[[], Executor], root: Path) -> None:
    """A run writes the same journal whoever works, and lets go of its workers.

    Args:
        make: gives an executor.
        root: an empty directory.

    Raises:
        AssertionError: with what does not hold.
    """
    assert isinstance(make(), Executor), f"expected an executor, got {type(make()).__name__}"
    for name, (search, arguments) in SEARCHES.items():
        found = {}
        for who, executor in (("local", None), ("other", make())):
            place = root / f"{name}-{who}"
            sampler = MixtureSampler(steps=STEPS, solver=Ddim())
            store = Store.create(place, {"sampler": sampler.description}, {"noisewright": "test"}, "now")
            run = Run(store, sampler, [Brightness()], seed=5, batch_size=3, executor=executor)
            try:
                search(run, **arguments)
                run.render()
            finally:
                run.store.close()
            found[who] = journal(place)
        assert found["local"] == found["other"], f"{name} writes another journal than with the local executor"
