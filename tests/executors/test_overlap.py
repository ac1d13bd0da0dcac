"""Images are scored by servers while the next are made, and the journal is the one that it would have been."""

import math
import threading

import pytest
import torch

from loopback import Reply, means, serving
from noisewright.diffusion.solvers import Ddim
from noisewright.errors import VerifierFailed
from noisewright.executors import local
from noisewright.run.verbs import Target
from noisewright.samplers.mixture import MixtureSampler
from noisewright.search.halving import halving
from noisewright.search.zero_order import zero_order
from noisewright.verifiers.cache import cached
from noisewright.verifiers.http import HttpVerifier
from noisewright.verifiers.optional import runs_elsewhere
from noisewright.verifiers.pixels import Brightness, Sharpness
from noisewright.verifiers.protocol import waits
from noisewright.verifiers.timeout import with_timeout
from noisewright.verifiers.vlm import VlmVerifier
from noisewright.verifiers.vlm_server import Server
from pool import Forgetful
from runs import STEPS, Killed, content, go, kill_at, open_run

PATIENCE = 30  # seconds after which a thread that should have come counts as stuck


class Served(Brightness):
    """Scores by brightness; says that it waits for a server where it is told to. ``bad`` images make it raise."""

    fingerprint = "server"

    def __init__(self, waits, bad=lambda image: False, nan=lambda image: False, name="brightness"):
        super().__init__()
        self.waits, self.bad, self.nan, self.name = waits, bad, nan, name
        self.threads = set()

    def __call__(self, images, prompt):
        self.threads.add(threading.current_thread())
        if any(self.bad(one) for one in images):
            raise OSError("no answer")
        scores = super().__call__(images, prompt)
        return [math.nan if self.nan(one) else score for one, score in zip(images, scores, strict=True)]


class Late(Served):
    """Fails on its first call, of a single image."""

    calls = 0

    def __call__(self, images, prompt):
        self.calls += 1
        if self.calls == 1:
            raise OSError("no answer")
        return super().__call__(images, prompt)


class Looks(Served):
    """Wants to see what candidates looked like on the way."""

    preview_sigma = 0.4

    def __call__(self, images, prompt, previews):
        return [-float((one - other).abs().mean()) for one, other in zip(images, previews, strict=True)]


def some(image):
    """True of about a third of the images, and always of the same."""
    return int(float(image.sum()) * 1000) % 3 == 0


def sde():
    return MixtureSampler(steps=STEPS, solver=Ddim(0.6))


def drafts():
    final = sde()
    return {"sampler": final.with_steps(3), "final": final}


def looking(run):
    """Finish what begins at several places of the way."""
    half = run.denoise(run.noise(4), 3)
    run.preview(half)
    run.finish(run.renoise(half[0], 1, 5))
    run.finish(half)


def plain(waits):
    return [Served(waits)]


CASES = {
    "images": (plain, {"budget": "11 images"}),
    "nfe": (plain, {"budget": f"{11 * STEPS + 3} nfe"}),
    "seconds": (plain, {"budget": "11 images, 1000 s"}),
    "judged": (plain, {"budget": "11 images, 1000 s", "judges": [Sharpness()]}),
    "previews timed": (plain, {"search": halving, "budget": "6 images, 1000 s"}),
    "single": (plain, {"budget": "6 images", "batch_size": 1}),
    "target": (plain, {"budget": "40 images", "target": Target({"brightness": 0.617})}),
    "mixed": (lambda waits: [Sharpness(), Served(waits), Served(waits, name="other")], {"budget": "11 images"}),
    "failing": (lambda waits: [Served(waits, bad=some), Sharpness()], {"budget": "14 images"}),
    "nan": (lambda waits: [Served(waits, nan=some)], {"budget": "14 images"}),
    "late": (lambda waits: [Late(waits)], {"budget": "6 images", "batch_size": 1}),
    "memory": (plain, {"budget": "90 nfe", "batch_size": 8, "sampler": lambda: Forgetful(steps=STEPS)}),
    "drafts": (plain, {"budget": "9 images", "sampler": drafts}),
    "looks": (lambda waits: [Looks(waits), Sharpness()], {"search": looking}),
    "steps": (plain, {"search": zero_order, "budget": "13 images"}),
    "previews": (plain, {"search": halving, "budget": "150 nfe"}),
}


def opened(root, name, waits):
    make, more = CASES[name]
    more = dict(more)
    search = more.pop("search", None)
    sampler = more.pop("sampler", sde)()
    given = sampler if isinstance(sampler, dict) else {"sampler": sampler}
    run = open_run(root, verifiers=make(waits), **given, **more)
    return run, {} if search is None else {"search": search}


def threads(run):
    return {thread for one in run.verifiers for thread in getattr(one, "threads", ())}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", CASES)
def test_the_journal_is_the_serial_one(tmp_path, name):
    serial, search = opened(tmp_path / "serial", name, False)
    stopped = go(serial, **search)
    run, search = opened(tmp_path / "overlapped", name, True)
    assert go(run, **search) == stopped
    assert content(tmp_path / "overlapped") == content(tmp_path / "serial")
    assert run.best.id == serial.best.id
    assert sorted(run.failures()) == sorted(serial.failures())
    assert run.warnings == serial.warnings
    main = threading.main_thread()
    assert threads(serial) <= {main}
    alone = name in ("target", "looks")  # which decides after each; whose verifier notes no thread
    assert (threads(run) <= {main}) == alone, "nothing was scored aside"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixed", "nan", "late", "drafts", "looks", "memory"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_write_and_resumed_equals_never_killed(tmp_path, name, after):
    whole, search = opened(tmp_path / "whole", name, False)
    counted = kill_at(whole.store, 0, after=False)
    stopped = go(whole, **search)
    expected = content(tmp_path / "whole")
    for number in range(1, counted() + 1, 2):  # after one is before the next: all are met
        root = tmp_path / str(number)
        run, search = opened(root, name, True)
        kill_at(run.store, number, after=after)
        with pytest.raises(Killed):
            go(run, **search)
        run.store.close()
        kept = content(root)
        assert kept == expected[: len(kept)]
        again, search = opened(root, name, True)
        if name == "late" and again.candidates:  # it fails once only, and that is over
            for one in again.verifiers:
                one.calls = 1
        assert go(again, **search) == stopped
        if name != "late":  # whose first images are asked about again
            assert content(root) == expected
        assert [one.pixels for one in again.candidates.values()] == [one.pixels for one in whole.candidates.values()]


def test_the_next_is_made_while_a_server_scores(tmp_path):
    begun = [threading.Event() for _ in range(4)]

    class Watched(MixtureSampler):
        batches = 0

        def denoise(self, *given):
            begun[self.batches].set()
            self.batches += 1
            return super().denoise(*given)

    class Patient(Served):
        came = 0
        saw = ()

        def __call__(self, images, prompt):
            self.came += 1
            if 1 < self.came < 4:  # the first alone proves it; behind the last nothing is made
                self.saw = (*self.saw, begun[self.came].wait(PATIENCE))
            return super().__call__(images, prompt)

    verifier = Patient(True)
    go(open_run(tmp_path / "run", Watched(steps=STEPS), [verifier], "12 images"))
    assert (verifier.came, verifier.saw) == (4, (True, True))


class Elsewhere(Served):
    """Waits for no server, and computes on another device than the model."""

    device = "meta"


@pytest.mark.parametrize(("device", "aside"), [("meta", True), ("cpu", False), (torch.device("cpu", 0), False)])
def test_a_verifier_on_another_device_is_asked_while_the_model_works(tmp_path, device, aside):
    serial = open_run(tmp_path / "serial", sde(), [Served(False)], "11 images")
    go(serial)
    verifier = Elsewhere(False)
    verifier.device = device
    run = open_run(tmp_path / "run", sde(), [verifier], "11 images")
    go(run)
    assert content(tmp_path / "run") == content(tmp_path / "serial")
    assert (threads(run) > {threading.main_thread()}) == aside


def test_on_another_device_it_may_take_all_processors(tmp_path, monkeypatch):
    """With the model on a GPU nobody else needs them."""

    class Placed(MixtureSampler):
        @property
        def description(self):
            return {**super().description, "device": device}

    limited = []
    monkeypatch.setattr(local, "compute_alone", lambda: limited.append(threading.current_thread().name))
    for device, on in (("cpu", "meta"), ("cuda", "cpu")):
        verifier = Elsewhere(False)
        verifier.device = on
        run = open_run(tmp_path / device, Placed(steps=STEPS), [verifier], "11 images")
        go(run)
        assert threads(run) > {threading.main_thread()}
        assert bool(limited) == (device == "cpu")
        limited.clear()


@pytest.mark.parametrize(
    ("device", "model", "expected"),
    [
        ("cpu", "cuda", True), ("cuda", "cuda:0", False), ("cuda:1", "cuda", True), ("cpu", "cpu", False),
        ("a telephone", "cpu", False), (None, "cpu", False),
    ],
)  # fmt: skip
def test_where_a_verifier_computes_is_seen_through_what_stands_around_it(tmp_path, device, model, expected):
    one = Elsewhere(False)
    one.device = device
    for wrapped in (one, cached(one, tmp_path), with_timeout(one, 5)):
        assert runs_elsewhere(wrapped, model) == expected
    assert not runs_elsewhere(Brightness(), model)


def test_a_broken_server_is_found_out_before_more_is_made(tmp_path):
    serial, run = (
        open_run(tmp_path / str(waits), None, [Served(waits, bad=lambda image: True)], "30 images")
        for waits in (False, True)
    )
    for one in (serial, run):
        with pytest.raises(VerifierFailed, match="no answer"):
            go(one)
        one.store.close()
    assert content(tmp_path / "True") == content(tmp_path / "False")
    assert run.sampler.meter.nfe == run.spent.nfe == 3 * STEPS


def test_ctrl_c_keeps_the_scores_that_came_already(tmp_path):
    answered = threading.Event()

    class Stopped(MixtureSampler):
        batches = 0

        def denoise(self, *given):
            self.batches += 1
            if self.batches == 3:
                assert answered.wait(PATIENCE)
                raise KeyboardInterrupt
            return super().denoise(*given)

    class Answers(Served):
        came = 0

        def __call__(self, images, prompt):
            self.came += 1
            found = super().__call__(images, prompt)
            if self.came == 2:
                threading.Timer(0.2, answered.set).start()  # once the executor knows of the answer too
            return found

    run = open_run(tmp_path / "run", Stopped(steps=STEPS), [Answers(True)], "30 images")
    with pytest.raises(KeyboardInterrupt):
        go(run)
    run.store.close()
    assert len(run.candidates) == 6
    again = open_run(tmp_path / "run", None, [Served(True)], "12 images")
    go(again)
    whole = open_run(tmp_path / "whole", None, [Served(False)], "12 images")
    go(whole)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_an_error_of_the_model_does_not_lose_the_scores_before_it(tmp_path):
    class Breaks(MixtureSampler):
        batches = 0

        def denoise(self, *given):
            self.batches += 1
            if self.batches == 3:
                raise RuntimeError("the model broke")
            return super().denoise(*given)

    run = open_run(tmp_path / "run", Breaks(steps=STEPS), [Served(True)], "30 images")
    with pytest.raises(RuntimeError, match="the model broke"):
        go(run)
    run.store.close()
    assert len(run.candidates) == 6


# Who waits


def test_a_server_is_asked_in_order_and_one_micro_batch_at_a_time(tmp_path):
    class Waited(HttpVerifier):
        waits = False

    with serving(lambda seen, number: Reply(means(seen))) as server:
        runs = [
            open_run(tmp_path / kind.__name__, sde(), [kind(server.url, name="server")], "11 images")
            for kind in (Waited, HttpVerifier)
        ]
        for run in runs:
            go(run)
        assert content(tmp_path / "HttpVerifier") == content(tmp_path / "Waited")
        half = len(server.seen) // 2
        assert [one.body for one in server.seen[:half]] == [one.body for one in server.seen[half:]]
        assert server.most_busy == 1


@pytest.mark.slow
def test_servers_are_waited_for_however_they_are_wrapped(tmp_path):
    pytest.importorskip("openai")
    served = [
        HttpVerifier("http://127.0.0.1/score"),
        VlmVerifier(Server("m", base_url="http://127.0.0.1/v1")),
    ]
    for one in served:
        assert waits(one)
        assert waits(cached(one, tmp_path))
        assert waits(with_timeout(one, 5))
    for one in (Brightness(), cached(Brightness(), tmp_path), with_timeout(Brightness(), 5), lambda images, prompt: []):
        assert not waits(one)
