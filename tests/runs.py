"""Runs on the exact mixture sampler, for tests: opened, gone through, killed at a write, and read back."""

import torch

from noisewright.diffusion.solvers import Ddim
from noisewright.errors import BudgetExhausted, TargetReached
from noisewright.run.budget import parse_budget
from noisewright.run.reading import read_journal
from noisewright.run.store import Store
from noisewright.run.verbs import Run, Target
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.random import random
from noisewright.verifiers.pixels import Brightness

STEPS = 6


class Recorded(MixtureSampler):
    """Remembers the size of each call; runs out of memory above ``most``."""

    most = 10**9

    def denoise(self, x, start, stop, state=None, noise=None, seeds=None):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("no memory left")
        self.__dict__.setdefault("calls", []).append((start, stop, len(x)))
        return super().denoise(x, start, stop, state, noise, seeds)


class Scripted:
    """A verifier whose scores are given image by image, in the order they are asked for."""

    name, fingerprint = "scripted", "scripted"

    def __init__(self, *scores):
        self.scores = list(scores)

    def __call__(self, images, prompt):
        return [self.scores.pop(0) for _ in images]


def open_run(root, sampler=None, verifiers=None, budget=None, **more):
    sampler = sampler or MixtureSampler(steps=STEPS)
    store = Store.create(root, {"sampler": sampler.description}, {"noisewright": "0"}, "now")
    more.setdefault("batch_size", 3)
    return Run(store, sampler, verifiers or [Brightness()], budget=parse_budget(budget), **more)


def go(run, search=random, **args):
    """What the caller of a search does; returns why it stopped."""
    stopped = "finished"
    try:
        search(run, **args)
    except BudgetExhausted:
        stopped = "budget"
    except TargetReached:
        stopped = "target"
    run.render()
    run.store.close()
    return stopped


def lines(root, verb=None):
    return [one for one in read_journal(root) if verb in (None, one["verb"])]


def total(root, key):
    return sum(one.get(key, 0) for one in lines(root))


def content(root):
    """The journal but for what the clock says."""
    return [
        {key: value for key, value in one.items() if key not in ("seconds", "elapsed")} for one in read_journal(root)
    ]  # fmt: skip


class Killed(BaseException):
    """What no except clause catches, as no process survives SIGKILL."""


def kill_at(store, number, *, after):
    """Raise Killed at the ``number``-th write of any kind, before it or after it happened."""
    count = 0

    def wrapped(write):
        def instead(*args, **kwargs):
            nonlocal count
            count += 1
            if count == number and not after:
                raise Killed
            result = write(*args, **kwargs)
            if count == number:
                raise Killed
            return result

        return instead

    for name in ("append", "save_image", "save_state"):
        setattr(store, name, wrapped(getattr(store, name)))
    return lambda: count


def tree(run):
    """A search that uses every verb; returns what it saw."""
    starts = run.noise(4)
    half = run.denoise(starts, 3)
    previews = run.preview(half)
    values = run.value(previews)
    best = half[values.index(max(values))]
    branches = run.renoise(best, 1, 3)
    later = run.denoise(branches, 4)
    first = run.finish(later)
    neighbours = run.vary(starts[0], 2, 0.9) + run.vary(starts[0], 1, 0.9)
    second = run.finish(neighbours)
    run.finish(half)
    return {
        "previews": [(p.particle.id, p.scores) for p in previews], "first": [c.id for c in first],
        "second": [c.id for c in second], "branches": [p.id for p in branches],
    }  # fmt: skip


def sde():
    return Recorded(steps=STEPS, solver=Ddim(0.6))


SEARCHES = {
    "random": (random, {"budget": "8 images"}),
    "target": (random, {"budget": "40 images", "target": Target({"brightness": 0.617})}),
    "tree": (tree, {"budget": "300 nfe"}),
    "tight": (tree, {"budget": "50 nfe"}),
    "draft": (random, {"budget": "7 images"}),
}


def start(root, name):
    search, more = SEARCHES[name]
    if name == "draft":
        final = sde()
        return search, open_run(root, final.with_steps(3), final=final, **more)
    return search, open_run(root, sde(), **more)
