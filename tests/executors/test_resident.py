"""States stay where the model computes while a micro-batch goes on, and are on the CPU at its ends."""

import pytest
import torch

from noisewright.executors import worker
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.halving import halving
from noisewright.search.paths import paths
from noisewright.search.random import random
from noisewright.search.refine import refine
from noisewright.verifiers.pixels import Brightness
from runs import STEPS, content, go, open_run


class Far(torch.Tensor):
    """A tensor on a device of its own, as what is computed from it is."""


def far(value):
    if isinstance(value, torch.Tensor):
        return value.as_subclass(Far)
    return type(value)(map(far, value)) if isinstance(value, (list, tuple)) else value


def near(value):
    if isinstance(value, torch.Tensor):
        return value.as_subclass(torch.Tensor)
    if isinstance(value, dict):
        return {key: near(one) for key, one in value.items()}
    return type(value)(map(near, value)) if isinstance(value, (list, tuple)) else value


class Apart(MixtureSampler):
    """Computes on a device of its own: counts the states that come and go, and refuses those that are elsewhere."""

    resident = False
    device = torch.device("cpu")

    def _came(self, x):
        assert isinstance(x, Far) == self.resident, "a state is where the model is not"
        self.moves["calls"] += 1
        self.moves["between"] += not self.resident
        return far(x)

    def _gone(self, found):
        self.moves["between"] += not self.resident
        return found if self.resident else near(found)

    def denoise(self, x, start, stop, state=None, noise=None, seeds=None):
        return self._gone(far(super().denoise(self._came(x), start, stop, state, noise, seeds)))

    def predict(self, x, index):
        return self._gone(super().predict(self._came(x), index))

    def advance(self, x, index, clean, state=None, noise=None):
        assert isinstance(clean, Far) == self.resident
        return self._gone(super().advance(self._came(x), index, clean, state, noise))

    def decode(self, x):
        assert isinstance(x, Far) == self.resident
        return near(super().decode(x))


@pytest.fixture
def moves(monkeypatch):
    """What crosses between the model's device and the CPU: at the ends of micro-batches, and in the calls between."""
    found = {"calls": 0, "between": 0, "sent": 0, "fetched": 0}

    def sent(value, place):
        found["sent"] += isinstance(value, torch.Tensor) and not isinstance(value, Far)
        return far(value)

    def fetched(value):
        found["fetched"] += 1
        return near(value)

    monkeypatch.setattr(worker, "there", sent)
    monkeypatch.setattr(worker, "home", fetched)
    monkeypatch.setattr(Apart, "moves", found, raising=False)
    return found


SEARCHES = [(random, {"n": 5}), (halving, {"n": 6}), (paths, {}), (refine, {"population": 4})]


@pytest.mark.parametrize(("search", "args"), SEARCHES, ids=lambda one: getattr(one, "__name__", ""))
def test_every_search_finds_the_same_with_states_that_stay(tmp_path, moves, search, args):
    runs = []
    for number, kind in enumerate((MixtureSampler, Apart)):
        run = open_run(tmp_path / str(number), kind(steps=STEPS), budget="60 nfe")
        go(run, search, **args)
        runs.append(content(tmp_path / str(number)))
    assert runs[0] == runs[1]
    assert moves["calls"]
    assert moves["between"] == 0, "states came back between two segments of a micro-batch"


def test_the_way_from_a_preview_goes_on_where_the_model_computes(tmp_path, moves):
    run = open_run(tmp_path, Apart(steps=STEPS))
    halfway = run.denoise([run.noise(1)[0] for _ in range(3)], 3)
    run.preview(halfway)
    further = run.denoise(halfway, 4)
    run.finish(further)
    assert moves["between"] == 0
    assert moves["sent"]
    assert not any(isinstance(run.state(one), Far) for one in (*halfway, *further))


class Early(Brightness):
    """A verifier that wants to see the estimate on the way, too."""

    preview_sigma = 0.5

    def __call__(self, images, prompt, previews):
        return super().__call__(previews, prompt)


def test_a_verifier_that_sees_the_way_moves_no_state(tmp_path, moves):
    run = open_run(tmp_path, Apart(steps=STEPS), [Early()], batch_size=4)
    go(run, random, n=4)
    assert moves["calls"] > 2, "no estimate was shown"
    assert (moves["between"], moves["fetched"]) == (0, 2)  # what a micro-batch made, and its new estimates
