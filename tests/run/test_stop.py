"""Stopping a run from outside: by a file in its directory, from any process."""

import threading

import pytest

from noisewright.diffusion.solvers import Ddim
from noisewright.errors import Stopped
from noisewright.run.reading import read_journal
from noisewright.run.store import Store, ask_to_stop
from noisewright.run.verbs import Run
from noisewright.samplers.mixture import MixtureSampler
from noisewright.verifiers.pixels import Brightness


def create(root):
    return Store.create(root, {"sampler": {}}, {"noisewright": "0"}, "now")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "run"


def test_it_is_seen_and_cleared_at_the_end(root):
    store = create(root)
    assert not store.is_asked_to_stop()
    ask_to_stop(root)
    assert store.is_asked_to_stop()
    store.close()
    assert not (root / ".stop").exists()


def test_one_that_nobody_saw_does_not_stop_the_next(root):
    create(root).close()
    (root / ".stop").touch()  # as after a kill
    store = Store.open(root)
    assert not store.is_asked_to_stop()
    store.close()


@pytest.mark.parametrize(
    ("status", "says"), [("done", "which is done"), ("interrupted", "not running"), ("running", "not running")]
)
def test_a_run_that_nobody_works_on_is_refused(root, status, says):
    store = create(root)
    summary = {
        "nfe": 0, "forwards": 0, "images": 0, "stopped": None, "warnings": [],
        "seconds": dict.fromkeys(("encode", "denoise", "decode", "verify", "total"), 0.0),
        **{one: {"id": "0" * 16, "seed": 0, "scores": {}, "file": f"{one}.png"} for one in ("best", "baseline")},
    }  # fmt: skip
    store.write(status=status, summary=summary)
    store.close()
    with pytest.raises(ValueError, match=f"expected a run that is going on, got {root}, .*{says}"):
        ask_to_stop(root)
    assert not (root / ".stop").exists()


def test_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a run directory \(with run.json\)"):
        ask_to_stop(tmp_path)


@pytest.mark.parametrize("way", ["file", "method"])
def test_a_run_ends_after_the_micro_batch_in_flight(root, way):
    sampler = MixtureSampler(steps=4, solver=Ddim())
    store = Store.create(root, {"sampler": sampler.description}, {"noisewright": "0"}, "now")

    def stop(run):
        if run.spent.images == 6:
            target = run.stop if way == "method" else lambda: ask_to_stop(root)
            one = threading.Thread(target=target)
            one.start()
            one.join()

    run = Run(store, sampler, [Brightness()], batch_size=3, on_progress=stop)
    with pytest.raises(Stopped):
        run.finish(run.noise(100))
    assert len(run.candidates) == 6
    assert run.best is not None
    store.close()
    assert [len(one["ids"]) for one in read_journal(root) if one["verb"] == "score"] == [3, 3]
