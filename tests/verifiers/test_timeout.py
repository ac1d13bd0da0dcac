"""A deadline for any verifier."""

import contextvars
import copy
import json
import math
import sys
import threading

import pytest
import torch
from PIL import Image

import noisewright as nw
import warm
from noisewright import registry
from noisewright.errors import VerifierFailed
from noisewright.verifiers.http import HttpVerifier
from noisewright.verifiers.pixels import Brightness, Sharpness
from noisewright.verifiers.protocol import (
    DifferentiableVerifier,
    Verifier,
    details_of,
    gradient_of,
    is_lasting,
    let_check,
    score,
)
from noisewright.verifiers.timeout import Timed, with_timeout

IMAGES = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
LONG, SHORT = 60.0, 0.05
"""Seconds that no call here takes, and that a call takes which waits to be let go."""


@pytest.fixture
def gate():
    """What a hanging call waits for; open at the end, so that no thread outlives its test by much."""
    found = threading.Event()
    yield found
    found.set()


class Slow:
    """Brightness that hangs while the gate is closed."""

    name, fingerprint, lasting, note = "slow", "7", True, "mine"

    def __init__(self, gate):
        self.gate, self.asked = gate, 0

    def __call__(self, images, prompt):
        self.asked += 1
        self.gate.wait(LONG)
        images.zero_()
        return [1.0] * len(images)

    def details(self, images, prompt):
        self.gate.wait(LONG)
        return [{}] * len(images)

    def gradient_scores(self, images, prompt):
        self.gate.wait(LONG)
        return images.mean((1, 2, 3))

    def check(self, prompt):
        self.gate.wait(LONG)


def test_a_call_that_does_not_come_back_has_failed_and_is_not_repeated(gate):
    slow, before = Slow(gate), set(threading.enumerate())
    one, images = with_timeout(slow, SHORT), IMAGES.clone()
    with pytest.raises(VerifierFailed, match=r"^verifier slow: no answer within 0\.05 s$"):
        score(one, images, "")
    for _ in range(3):
        with pytest.raises(VerifierFailed, match="slow: not asked, while a call that took longer than"):
            score(one, images, "")
    assert slow.asked == 1
    gate.set()
    assert score(with_timeout(slow, LONG), images, "") == [1.0] * 4
    for thread in set(threading.enumerate()) - before:  # the call that took longer ends now
        thread.join(LONG)
    assert score(one, images, "") == [1.0] * 4  # it came back, and is asked again
    assert torch.equal(images, IMAGES)


def test_everything_else_is_the_verifier_s_own(gate):
    slow = Slow(gate)
    one = with_timeout(slow, SHORT)
    assert isinstance(one, Verifier)
    assert isinstance(one, DifferentiableVerifier)
    assert (one.name, one.fingerprint, one.note) == ("slow", "7", "mine")
    assert is_lasting(one)
    assert not is_lasting(with_timeout(lambda images, prompt: [0], 1))
    assert not isinstance(with_timeout(Sharpness(), 1), DifferentiableVerifier)
    assert not hasattr(one, "preview_sigma")
    assert copy.copy(one).name == "slow"
    with pytest.raises(AttributeError, match="what_is_not_there"):
        _ = one.what_is_not_there


@pytest.mark.parametrize("ask", [details_of, gradient_of, lambda one, images, prompt: let_check(one, prompt)])
def test_its_other_calls_have_the_deadline_too(gate, ask, caplog):
    one = with_timeout(Slow(gate), SHORT)
    if ask is details_of:
        assert details_of(one, IMAGES, "") is None
        assert "no answer within 0.05 s" in caplog.text
        return
    with pytest.raises(VerifierFailed, match="no answer within"):
        ask(one, IMAGES, "")


def test_what_belongs_to_a_thread_comes_along():
    told = contextvars.ContextVar("told", default="no")
    told.set("yes")

    def asked(images, prompt):
        return [float(torch.is_grad_enabled()), float(told.get() == "yes")]

    one = with_timeout(asked, LONG)
    assert score(one, IMAGES[:2], "") == [1, 1]
    with torch.no_grad():
        assert score(one, IMAGES[:2], "") == [0, 1]
    images = IMAGES.clone().requires_grad_()
    found = gradient_of(with_timeout(Brightness(), LONG), images, "")
    (slope,) = torch.autograd.grad(found.sum(), images)
    assert torch.allclose(slope, torch.full_like(slope, 1 / images[0].numel()))


def test_previews_come_along():
    class Looking:
        name, fingerprint, preview_sigma = "looking", "1", 0.4

        def __call__(self, images, prompt, previews):
            return (images - previews).mean((1, 2, 3))

    one = with_timeout(Looking(), LONG)
    assert one.preview_sigma == 0.4
    assert score(one, IMAGES, "", IMAGES) == [0] * 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("red"), SystemExit(3), torch.OutOfMemoryError])
def test_what_it_raises_is_as_without(error):
    def broken(images, prompt):
        if len(images) > 2 or isinstance(error, type) is False:
            raise error
        return [0.0] * len(images)

    one = with_timeout(broken, LONG)
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            score(one, IMAGES, "")
    elif error is torch.OutOfMemoryError:
        assert score(one, IMAGES, "") == [0.0] * 4
    else:
        with pytest.raises(VerifierFailed, match=f"verifier broken raised {type(error).__name__}: {error}"):
            score(one, IMAGES, "")
    with pytest.raises(VerifierFailed, match="expected 4 scores, got 1"):
        score(with_timeout(lambda images, prompt: [1], LONG), IMAGES, "")


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, True, "soon", None, "", 10**400, [1]])
def test_a_deadline_is_a_number_of_seconds(seconds):
    with pytest.raises(ValueError, match="expected a timeout in seconds above 0, got"):
        with_timeout(Brightness(), seconds)


def test_what_is_typed(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def f(images, prompt):\n    return [0.5] * len(images)\n")
    for text, inner, name in (
        ("brightness:timeout=5", Brightness, "brightness"),
        ("compressibility:50,timeout=5,name=x", object, "x"),
        (f"{file}:f,timeout=5", object, "f"),
    ):
        one = registry.make_verifier(text)
        assert isinstance(one, Timed)
        assert isinstance(one.verifier, inner)
        assert one.seconds == 5
        assert one.name == registry.score_name(text) == name
        assert len(score(one, IMAGES, "")) == 4
    server = registry.make_verifier("http://localhost:1/score,timeout=5")
    assert isinstance(server, HttpVerifier)  # which has one of its own
    with pytest.raises(ValueError, match="expected a timeout in seconds above 0, got 'soon'"):
        registry.make_verifier("brightness:timeout=soon")
    with pytest.raises(ValueError, match=r"unknown option of verifier f 'timout': .* did you mean timeout"):
        registry.make_verifier(f"{file}:f,timout=5")
    with pytest.raises(TypeError, match="expected a verifier name, a function"):
        with_timeout("clip", 5)
    assert nw.with_timeout is with_timeout


@pytest.mark.slow
def test_a_run_goes_on_without_it(gate, tmp_path):
    calls = []

    def moody(images, prompt):
        calls.append(len(images))
        if len(calls) == 2:
            gate.wait(LONG)
        return images.mean((1, 2, 3))

    # Long enough for a call that does not wait, on whatever machine.
    found = nw.search(
        "noisewright/shapes", "a red circle", verifier=with_timeout(moody, 2.0), budget=4, batch_size=1,
        num_inference_steps=1, out=tmp_path / "run", pictures=False,
    )  # fmt: skip
    assert calls == [1, 1]
    scored = [one.scores["moody"] for one in found.candidates]
    assert [math.isnan(one) for one in scored] == [False, True, True, True]
    assert found.best.scores["moody"] == scored[0]
    assert "verifier moody gave NaN for 3 of 4 images; they rank last" in found.warnings


BUSY = """
import torch

asked = []

def f(images, prompt):
    asked.append(1)
    while len(asked) > 1:
        torch.randn(300, 300) @ torch.randn(300, 300)
    return [0.5] * len(images)
"""


@pytest.mark.slow
def test_a_process_ends_well_under_a_call_that_computes(tmp_path):
    (tmp_path / "busy.py").write_text(BUSY)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")  # another size, so another call
    command = [sys.executable, "-m", "noisewright", "score", f"{tmp_path}/a.png", f"{tmp_path}/b.png", "--prompt", "x"]
    command += ["--verifier", f"{tmp_path}/busy.py:f,timeout=1", "--json"]
    found = warm.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stderr
    assert [one["scores"]["f"] for one in json.loads(found.stdout)["images"]] == [0.5, None]
    assert found.stderr.count("no answer within 1 s (NaN for 1 of 2 images)") == 1


def test_a_model_that_runs_here_has_it_too():
    for kind in ("vlm", "vqa"):
        with pytest.raises(ValueError, match="expected a timeout in seconds above 0, got -1"):
            registry.make_verifier(f"{kind}:owner/name,timeout=-1")
