"""Servers that never answer, or never end: every call of a verifier has an end of its own, and that of a budget."""

import json
import threading
import time

import pytest
import torch

from loopback import Reply, serving
from noisewright.errors import VerifierFailed
from noisewright.verifiers.http import HttpVerifier
from noisewright.verifiers.protocol import score
from noisewright.verifiers.retry import BackOff, LateError, TimeIsUp, Transient, deadline, seconds_left, within
from noisewright.verifiers.rubric import ASPECTS
from noisewright.verifiers.vlm import VlmVerifier
from noisewright.verifiers.vlm_server import Server

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("no_account")

IMAGES = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
SOON = 30.0  # seconds on a very busy machine; without an end these calls take minutes or for ever
QUICK = BackOff(tries=50, first=0.01)

RATED = {"choices": [{"message": {"content": json.dumps({name: {"score": 7, "explanation": ""} for name in ASPECTS})}}]}
STUCK = {
    "silent": Reply(RATED, after=60),
    "a byte at a time": Reply(RATED, drip=0.05),
    "a header that does not end": Reply(RATED, drip_head=0.05),
    "busy for hours": Reply("busy", 429, {"Retry-After": "36000"}),
    "busy until next year": Reply("busy", 503, {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}),
    "always failing": Reply("oops", 502),
    "an error that does not end": Reply("x" * 5000, 400, drip=0.05),
}


def made(kind, url, **options):
    if kind == "http":
        return HttpVerifier(f"{url}/s", back_off=QUICK, **options)
    return VlmVerifier(Server("m", base_url=f"{url}/v1", back_off=QUICK, **options))


@pytest.mark.parametrize("verifier", ["http", "vlm"])
@pytest.mark.parametrize("kind", STUCK)
def test_a_call_ends_with_its_deadline(verifier, kind):
    with serving(lambda seen, number: STUCK[kind]) as server:
        asked = made(verifier, server.url, timeout=0.3, deadline=0.7)
        began = time.monotonic()
        with pytest.raises(VerifierFailed) as caught:
            asked(IMAGES, "x")
        assert time.monotonic() - began < SOON
    assert not isinstance(caught.value, TimeIsUp)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verifier", ["http", "vlm"])
@pytest.mark.parametrize("kind", ["silent", "a byte at a time", "a header that does not end", "always failing"])
def test_a_call_ends_with_the_deadline_around_it(verifier, kind):
    with serving(lambda seen, number: STUCK[kind]) as server:
        asked = made(verifier, server.url)
        began = time.monotonic()
        with deadline(0.4), pytest.raises(TimeIsUp):
            score(asked, IMAGES, "x")
        assert time.monotonic() - began < SOON


@pytest.mark.parametrize("verifier", ["http", "vlm"])
def test_no_one_is_asked_after_the_deadline(verifier):
    with serving(lambda seen, number: Reply(RATED)) as server:
        with deadline(0), pytest.raises(TimeIsUp, match="no time was left to ask"):
            score(made(verifier, server.url), IMAGES, "x")
        assert not server.seen


def test_a_slow_request_is_tried_again():
    with serving(lambda seen, number: Reply([1, 2]) if number else STUCK["a header that does not end"]) as server:
        assert made("http", server.url, timeout=0.3)(IMAGES, "x") == [1, 2]
        assert len(server.seen) == 2


@pytest.mark.slow
def test_what_was_answered_in_time_is_kept():
    def answer(seen, number):
        return Reply(RATED) if number == 0 else STUCK["silent"]

    with serving(answer) as server:
        asked = made("vlm", server.url, workers=1)
        with deadline(1.0):
            found = asked(IMAGES, "x")
    assert found[0] == 7
    assert found[1] != found[1]


@pytest.mark.parametrize("verifier", ["http", "vlm"])
def test_an_answer_without_end_is_not_read(verifier, monkeypatch):
    monkeypatch.setattr("noisewright.verifiers.http.LARGEST_ANSWER", 100_000)
    monkeypatch.setattr("noisewright.verifiers.openai_client.LARGEST_ANSWER", 100_000)
    with serving(lambda seen, number: Reply(" " * 1_000_000)) as server:
        with pytest.raises(VerifierFailed, match="expected an answer of at most 100000 bytes, got more"):
            score(made(verifier, server.url), IMAGES[:1], "x")
        assert len(server.seen) <= 2


def test_the_nearest_deadline_holds():
    assert seconds_left() == float("inf")
    with deadline(100):
        with deadline(5):
            assert 4 < seconds_left() <= 5
            with deadline(50), deadline(None):
                assert seconds_left() <= 5
        assert 90 < seconds_left() <= 100
        with deadline(-1):
            assert seconds_left() == 0
    assert seconds_left() == float("inf")


def test_within_raises_what_the_work_raises_and_passes_the_deadline_on():
    def fails():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        within(10, fails)
    with deadline(7):
        assert within(100, seconds_left) <= 7
    release, left = threading.Event(), []
    with pytest.raises(LateError, match=r"no answer within 0\.05 seconds"):
        within(0.05, release.wait, lambda: left.append(release.set()))
    assert left == [None]


def test_a_wait_that_outlasts_the_deadline_is_not_begun():
    waits = []

    def failing(number):
        raise Transient("busy", 30.0)

    with deadline(10), pytest.raises(Transient, match="busy"):
        QUICK.run(failing, waits.append)
    assert not waits
