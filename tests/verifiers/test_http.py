import base64
import io
import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
import torch
from PIL import Image

from loopback import Reply, serving
from noisewright import registry
from noisewright.errors import VerifierFailed
from noisewright.images.metadata import pixels_of
from noisewright.verifiers.http import HttpVerifier
from noisewright.verifiers.protocol import score
from noisewright.verifiers.retry import BackOff, Transient, retry_after

IMAGES = torch.rand(4, 3, 6, 9, generator=torch.Generator().manual_seed(0))
QUICK = BackOff(tries=3, first=0.01)


def arrays(seen):
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in seen.body["images"]]


def means(seen):
    return [float(array.mean() / 255) for array in arrays(seen)]


def test_the_wire_format():
    with serving(lambda seen, number: Reply({"scores": means(seen)})) as server:
        verifier = registry.make_verifier(f"{server.url}/score?a=b")
        assert verifier.name == "127.0.0.1"
        found = score(verifier, IMAGES, "two ünusual circles")
    (seen,) = server.seen
    assert seen.path == "/score?a=b"
    assert seen.headers["content-type"] == "application/json"
    assert seen.body["prompt"] == "two ünusual circles"
    assert np.array_equal(np.stack(arrays(seen)), pixels_of(IMAGES))
    assert found == pytest.approx([array.mean() / 255 for array in pixels_of(IMAGES)])


def test_commas_in_a_query_are_the_url_s():
    made = registry.make_verifier("http://127.0.0.1/score?a=1,b=2,name=mine")
    assert (made.url, made.name) == ("http://127.0.0.1/score?a=1,b=2", "mine")


def test_a_bare_list_and_missing_scores_are_taken():
    with serving(lambda seen, number: Reply("[1, null, NaN, 2.5]")) as server:
        found = score(HttpVerifier(server.url), IMAGES, "x")
    assert [found[0], found[3]] == [1, 2.5]
    assert math.isnan(found[1])
    assert math.isnan(found[2])


def test_names_and_fingerprints():
    made = registry.make_verifier("https://example.org:8080/score,name=mine,timeout=3")
    assert (made.name, made.url, made.timeout) == ("mine", "https://example.org:8080/score", 3)
    other = registry.make_verifier("https://example.org:8080/other")
    assert (other.name, other.url) == ("example.org", "https://example.org:8080/other")
    assert other.fingerprint != made.fingerprint


@pytest.mark.parametrize(
    ("first", "least"),
    [
        (Reply("busy", 429, {"Retry-After": "0.3"}), 0.3),
        (Reply("busy", 503, {"Retry-After": "soon"}), 0),
        (Reply("oops", 500), 0),
        (Reply({"scores": [1, 2, 3, 4]}, cut=0), 0),
        (Reply({"scores": [1, 2, 3, 4]}, cut=7), 0),
        (Reply({"scores": [1, 2, 3, 4]}, after=0.6), 0.3),
    ],
    ids=["429", "503", "500", "cut", "cut in the answer", "slow"],
)
def test_what_may_pass_is_tried_again(first, least):
    with serving(lambda seen, number: Reply({"scores": [1, 2, 3, 4]}) if number else first) as server:
        verifier = HttpVerifier(server.url, timeout=0.3, back_off=QUICK)
        assert score(verifier, IMAGES, "x") == [1, 2, 3, 4]
    assert len(server.seen) == 2
    assert server.seen[1].at - server.seen[0].at >= least


@pytest.mark.parametrize(
    ("reply", "says", "asked"),
    [
        (Reply("busy", 503), "failed 3 times: HTTP status 503", 3),
        (Reply("", cut=0), "failed 3 times", 3),
        (Reply("<html>no such page"), r"expected JSON such as {'scores': \[0.7, ...\]}, got '<html>no such page'", 1),
        (Reply({"scores": "high"}), "expected JSON such as", 1),
        (Reply({"scores": [True, 1, 2, 3]}), "expected JSON such as", 1),
        (Reply("[" * 100_000), "expected JSON such as", 1),
        (Reply({"scores": [1, 2, 3]}), "expected 4 scores, got 3", 1),
        (Reply({"scores": [1, 2, 3, 4, 5]}), "expected 4 scores, got 5", 1),
        (Reply("", 302, {"Location": "http://127.0.0.1:1/other"}), "sends requests on to http://127.0.0.1:1/other", 1),
        (Reply("no such\nimage", 422), "raised ValueError: HTTP status 422: no such image", 5),  # 4 one by one
        (Reply("", 500), "raised ValueError: HTTP status 500", 15),
    ],
)
def test_a_server_that_fails_is_one_line(reply, says, asked):
    with serving(lambda seen, number: reply) as server, pytest.raises(VerifierFailed, match=says) as caught:
        score(HttpVerifier(server.url, back_off=QUICK), IMAGES, "x")
    assert "\n" not in str(caught.value)
    assert len(server.seen) == asked


def test_no_server_is_one_line():
    with serving(lambda seen, number: Reply("")) as server:
        pass
    with pytest.raises(VerifierFailed, match=r"failed 3 times: .*refused"):
        score(HttpVerifier(server.url, back_off=QUICK), IMAGES, "x")


def test_an_image_that_the_server_cannot_score_costs_only_its_own_score(caplog):
    def answer(seen, number):
        worst = max(means(seen))
        return Reply("bad image", 400) if worst == bad else Reply({"scores": means(seen)})

    bad = max(float(array.mean() / 255) for array in pixels_of(IMAGES))
    with serving(answer) as server:
        found = score(HttpVerifier(server.url, back_off=QUICK), IMAGES, "x")
    assert sum(math.isnan(one) for one in found) == 1
    assert len(server.seen) == 5
    assert "HTTP status 400: bad image (NaN for 1 of 4 images)" in caplog.text


@pytest.mark.parametrize("url", ["http://", "http:host/x", "http://a b/", "http://host:port/", "http://[::1/"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValueError, match="expected a URL such as http://localhost:8000/score, got"):
        registry.make_verifier(url)


def test_a_password_in_a_url_is_refused_and_not_shown():
    with pytest.raises(ValueError, match="without a user or password") as caught:
        registry.make_verifier("https://me:secret@example.org/score")
    assert "secret" not in str(caught.value)


def test_waits_grow_have_jitter_and_follow_the_server():
    back_off = BackOff(tries=9, first=0.5, longest=10)
    for failed, top in ((1, 0.5), (2, 1), (3, 2), (8, 10)):
        drawn = {back_off.seconds(failed) for _ in range(50)}
        assert len(drawn) > 1 or top == 10
        assert all(top / 2 <= one <= top for one in drawn)
    assert back_off.seconds(1, 7.0) == 7
    assert back_off.seconds(1, 3600.0) == 10


def test_the_last_failure_is_raised_and_others_at_once():
    waits = []

    def failing(number):
        raise Transient(f"try {number}", 2.0)

    with pytest.raises(Transient, match="try 3"):
        QUICK.run(failing, waits.append)
    assert waits == [2.0, 2.0]
    with pytest.raises(KeyError):
        QUICK.run(lambda number: {}["x"], waits.append)
    assert waits == [2.0, 2.0]


def test_retry_after():
    assert retry_after("1.5") == 1.5
    assert retry_after("-4") == 0
    for text in (None, "", "soon", "nan", "inf"):
        assert retry_after(text) is None
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < retry_after(later) <= 90


def test_scoring_files_with_a_server(tmp_path, capsys):
    from noisewright import cli

    for n in range(3):
        Image.fromarray(np.full((5, 5, 3), 80 * n, np.uint8)).save(tmp_path / f"{n}.png")
    with serving(lambda seen, number: Reply({"scores": means(seen)})) as server:
        assert cli.main(["score", str(tmp_path), "--prompt", "x", "--verifier", f"{server.url}/score"]) == 0
    out = capsys.readouterr().out
    assert "127.0.0.1" in out
    assert out.index("2.png") < out.index("1.png") < out.index("0.png")
