"""A server of images as a model: whole trajectories by seed, over the real protocol on loopback."""

import base64
import io
import json
import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

import noisewright as nw
from commands import run as run_command
from image_server import (
    MODEL,
    SIZE,
    asked_of,
    encoded,
    error_reply,
    image_reply,
    models_reply,
    painting,
    picture,
    plain,
)
from loopback import Reply, serving
from noisewright import registry
from noisewright.errors import RunInterrupted, RunMismatch, UnsupportedPipeline
from noisewright.images.metadata import read_recipe
from noisewright.images.reading import read_image
from noisewright.replay import replay
from noisewright.run.reading import read_run
from noisewright.samplers.image_server import ImageServer, read_address
from noisewright.samplers.remote import remote
from noisewright.testing import check_sampler
from noisewright.verifiers.retry import BackOff

SOON = BackOff(tries=3, first=0.01, longest=0.5)
"""Waits of tests."""

ASIDE = {"prompt": "two red circles", "verifier": "brightness", "judge": "none", "pictures": False}


def search(url, out, **more):
    return nw.search(url, **{**ASIDE, "budget": "6 images", "out": out, "seed": 3, **more})


def at(server, model=""):
    return f"{server.url}/v1{model}"


def brightest(seeds):
    return max(seeds, key=lambda seed: float(picture(seed).mean(dtype=np.float64)))


def test_the_best_of_n_is_the_server_s_own_image_of_a_seed(tmp_path):
    with painting() as server:
        result = search(at(server), tmp_path / "run", num_inference_steps=7, guidance_scale=2.5, negative_prompt="dark")
        asked = asked_of(server)
    assert [one.seed for one in result.candidates] == [3, 4, 5, 6, 7, 8]
    assert result.best.seed == brightest(range(3, 9))
    assert result.baseline.seed == 3
    for one in result.candidates:
        assert np.array_equal(read_image(result.run / one.file)[0], picture(one.seed))
    assert Counter(one["seed"] for one in asked) == {3: 2, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1}  # the first is tried twice
    assert {json.dumps({**one, "seed": 0}, sort_keys=True) for one in asked} == {json.dumps({
        "guidance_scale": 2.5, "model": MODEL, "n": 1, "negative_prompt": "dark", "num_inference_steps": 7,
        "prompt": "two red circles", "response_format": "b64_json", "seed": 0,
    }, sort_keys=True)}  # fmt: skip
    assert (result.images, result.nfe) == (6, 42)
    assert not [text for text in result.warnings if "seed" in text]


def test_its_steps_are_not_known_where_nobody_says_them(tmp_path):
    with painting() as server:
        result = search(at(server), tmp_path / "run")
        assert "num_inference_steps" not in asked_of(server)[0]
    assert result.nfe == 6
    assert any("number of its steps is not known" in text for text in result.warnings)
    assert "Steps:" not in read_image(result.best.file)[1]["parameters"]


def test_drafts_are_asked_for_with_fewer_steps(tmp_path):
    with painting() as server:
        result = search(at(server), tmp_path / "run", num_inference_steps=20, search_steps=4, budget="6 images")
        steps = Counter(one["num_inference_steps"] for one in asked_of(server))
    assert steps == {4: 5, 20: 2}  # the first of the drafts twice; baseline and winner in full
    assert result.nfe == 4 * 4 + 2 * 20


def test_drafts_of_unknown_steps_are_refused(tmp_path):
    with painting() as server, pytest.raises(ValueError, match=r"num_inference_steps for .* beside a number"):
        search(at(server), tmp_path / "run", search_steps=4)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_requests_go_side_by_side_as_many_as_were_allowed(tmp_path, concurrency):
    waiting = threading.Barrier(concurrency, timeout=20)

    def answer(seen):
        if seen.body["seed"] in (6, 7, 8):  # a micro-batch of three
            waiting.wait()
        return image_reply(picture(seen.body["seed"]))

    with painting(answer) as server:
        result = search(at(server), tmp_path / "run", concurrency=concurrency)
        assert server.most_busy == concurrency
    assert [one.seed for one in result.candidates] == [3, 4, 5, 6, 7, 8]


def test_a_pipeline_here_has_no_concurrency(tmp_path):
    with pytest.raises(ValueError, match=r"expected no concurrency for a .*, which is no server, got 3"):
        search("noisewright/shapes", tmp_path / "run", concurrency=3)


# What its seeds are worth


def run_of(answer, tmp_path, **more):
    with painting(answer) as server:
        result = search(at(server), tmp_path / "run", **more)
        return result, asked_of(server)


def test_a_server_that_ignores_seed_is_found_out(tmp_path):
    count = iter(range(100, 200))
    result, _ = run_of(lambda seen: image_reply(picture(next(count))), tmp_path)
    said = [text for text in result.warnings if "ignores seed" in text]
    assert len(said) == 1
    assert "seed 3 gave two images" in said[0]


def test_a_server_that_takes_no_seed_is_asked_without(tmp_path):
    def answer(seen):
        if "seed" in seen.body:
            return error_reply(400, "Unknown parameter: 'seed'.")
        return image_reply(picture(7))

    result, asked = run_of(answer, tmp_path)
    assert any("takes no seed" in text for text in result.warnings)
    assert len([one for one in asked if "seed" not in one]) == 7


def test_a_server_whose_seeds_are_all_alike_is_found_out(tmp_path):
    result, _ = run_of(lambda seen: image_reply(picture(1)), tmp_path)
    assert any("same image whatever the seed" in text for text in result.warnings)


def test_rounding_is_no_ignorance(tmp_path):
    count = iter(range(1000))

    def answer(seen):
        array = picture(seen.body["seed"]).astype(int)
        array[0, 0] = (array[0, 0] + next(count) % 2) % 256
        return image_reply(array.astype(np.uint8))

    result, _ = run_of(answer, tmp_path, concurrency=1)
    assert any("the same but for" in text for text in result.warnings)
    assert not any("ignores seed" in text for text in result.warnings)


# What needs states


NEED_STATES = ("zero-order", "paths", "zero-order+paths", "fk", "svdd", "rbf", "evolution", "halving", "refine",
               "gradient")  # fmt: skip


def test_every_search_of_ours_is_refused_or_works():
    assert {*NEED_STATES, "random"} == set(registry.names("search"))


@pytest.mark.parametrize("name", NEED_STATES)
def test_a_search_that_needs_states_is_refused_before_anything_is_asked(tmp_path, name):
    with painting() as server:
        with pytest.raises(UnsupportedPipeline) as caught:
            search(at(server), tmp_path / "run", search=name)
        assert asked_of(server) == []
    said = str(caught.value)
    assert said.startswith("expected a search that draws seeds and leaves states alone (random) for ")
    assert said.endswith(f", got {name}")
    assert "\n" not in said
    assert not (tmp_path / "run").exists()


class Looks:
    """A verifier that wants previews."""

    name, fingerprint, preview_sigma = "looks", "looks", 0.5

    def __call__(self, images, prompt, previews=None):
        return [0.0] * len(images)


def test_verifiers_of_previews_are_refused(tmp_path):
    with painting() as server, pytest.raises(UnsupportedPipeline, match="expected verifiers of finished images"):
        search(at(server), tmp_path / "run", verifier=Looks())


@pytest.mark.parametrize(("more", "says"), [
    ({"solver": "ddim"}, "expected no solver"), ({"schedule": "karras"}, "expected no schedule"),
    ({"eta": 0.5}, "eta = 0.5 needs"), ({"dtype": "float16"}, "expected no dtype for a model behind a server"),
    ({"qualty": "high"}, "did you mean quality"),
    ({"user": "me", "extra_body": {"seed": 4}}, "expected no seed for an image server"),
    ({"class_label": 3}, "expected no class_label"), ({"frames": 3}, "expected no frames"),
])  # fmt: skip
def test_settings_that_a_server_has_not_are_refused(tmp_path, more, says):
    with painting() as server:
        with pytest.raises((ValueError, TypeError), match=says):
            search(at(server), tmp_path / "run", **more)
        assert asked_of(server) == []


def test_fields_of_the_server_s_own_are_passed_on_and_recorded(tmp_path):
    with painting() as server:
        search(at(server), tmp_path / "run", quality="high", extra_body={"flow_shift": 3}, height=16, width=8)
        one = asked_of(server)[0]
    assert (one["quality"], one["flow_shift"], one["size"]) == ("high", 3, "8x16")
    made = read_run(tmp_path / "run")["spec"]["sampler"]
    assert (made["quality"], made["extra_body"], made["height"]) == ("high", {"flow_shift": 3}, 16)


def test_the_contract_of_samplers_holds_as_far_as_it_is_about_whole_images():
    with painting() as server:
        served = ImageServer(at(server))
        check_sampler(
            remote(served, "a circle", num_inference_steps=4),
            plain=lambda seed: torch.from_numpy(picture(seed)).permute(2, 0, 1) / 255,
        )


@pytest.mark.parametrize("seed", [0, 65535, 65536, 2**32 + 5, 2**63 - 2**32 - 1])
def test_a_seed_of_any_size_arrives(seed):
    with painting() as server:
        sampler = remote(ImageServer(at(server)), "a circle")
        images, _ = sampler.denoise(sampler.noise([seed]), 0, 1)
        assert {one["seed"] for one in asked_of(server)} == {seed}
    assert images.shape == (1, 3, *SIZE)


def test_no_other_noise_is_taken():
    with painting() as server:
        sampler = remote(ImageServer(at(server)), "a circle", num_inference_steps=4)
        for x, start, stop, says in (
            (torch.randn(1, 4), 0, 4, "starting noises of seeds"), (sampler.noise([1]), 0, 2, "expected whole images"),
        ):  # fmt: skip
            with pytest.raises(UnsupportedPipeline, match=says):
                sampler.denoise(x, start, stop)
        with pytest.raises(UnsupportedPipeline, match="no preview"):
            sampler.predict(sampler.noise([1]), 0)


# Failures


def test_what_a_busy_server_asks_for_is_waited_for():
    times = []

    def answer(seen):
        times.append(time.monotonic())
        return error_reply(429, "busy", **{"Retry-After": "0.3"}) if len(times) == 1 else plain(seen, 0)

    with painting(answer) as server:
        served = ImageServer(at(server), waits=BackOff(tries=3, first=0.001, longest=5))
        assert np.array_equal(served("a circle", seed=5), picture(5))
    assert times[1] - times[0] >= 0.3


@pytest.mark.parametrize(("reply", "says"), [
    (lambda: error_reply(503, "no"), "HTTP status 503"),
    (lambda: image_reply(picture(1), cut=30), "the answer was cut|end"),
    (lambda: Reply(cut=0), "."),
])  # fmt: skip
def test_a_server_that_fails_is_tried_again_and_then_said(reply, says):
    with painting(lambda seen: reply()) as server:
        served = ImageServer(at(server), waits=SOON)
        with pytest.raises(RunInterrupted, match=f"gave no image: .*{says}"):
            served("a circle", seed=1)
        assert len(asked_of(server)) == SOON.tries


def huge():
    """A file of a few kilobytes that holds 900 megapixels."""
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(("body", "says"), [
    ("no JSON", "expected JSON such as"), ({"data": []}, "expected JSON such as"), ({"data": 3}, "expected JSON such"),
    ([], "expected JSON such as"), ({"data": [{"url": "http://127.0.0.1/x.png"}]}, "an address, which is not followed"),
    ({"data": [{"b64_json": "!!"}]}, "expected an image in base64"), ({"data": [{}]}, "got no image"),
    ({"data": [{"b64_json": "aGVsbG8="}]}, "expected a PNG, JPEG or WebP image"),
    ({"data": [{"b64_json": encoded(picture(1), "gif")}]}, "expected a PNG, JPEG or WebP image"),
    ({"data": [{"b64_json": encoded(picture(1))[:60]}]}, "expected a readable image"),
    ({"data": [{"b64_json": huge()}]}, "at most .* pixels are read"), ("[" * 100_000, "expected JSON such as"),
])  # fmt: skip
def test_answers_that_hold_no_image_are_one_line(body, says):
    with painting(lambda seen: Reply(body)) as server:
        with pytest.raises(ValueError, match=says) as caught:
            ImageServer(at(server), waits=SOON)("a circle", seed=1)
        assert len(asked_of(server)) == (1 if "not followed" in says else 3)  # an accident passes
    assert "\n" not in str(caught.value)


def test_an_answer_without_an_image_may_be_an_accident():
    count = iter(range(9))
    with painting(lambda seen: Reply("no JSON") if next(count) < 2 else plain(seen, 0)) as server:
        assert np.array_equal(ImageServer(at(server), waits=SOON)("a circle", seed=5), picture(5))


def test_what_was_made_beside_an_image_that_fails_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("noisewright.samplers.image_server.WAITS", SOON)
    down = threading.Event()

    def answer(seen):
        return error_reply(500, "out of order") if seen.body["seed"] == 5 and not down.is_set() else plain(seen, 0)

    with painting(answer) as server:
        with pytest.raises(RunInterrupted, match="HTTP status 500"):
            search(at(server), tmp_path / "run", budget="9 images", concurrency=4, num_inference_steps=7)
        made = {one.stem for one in (tmp_path / "run" / "images").glob("*.png")}
        assert len(made) == 3  # of four in a micro-batch
        down.set()
        server.seen.clear()
        how = {"trust": True, "pictures": False}
        result = nw.resume(tmp_path / "run", **how)
        assert {one["seed"] for one in asked_of(server)} == {5, 7, 8, 9, 10, 11}
    assert sorted(one.seed for one in result.candidates) == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert (result.images, result.nfe) == (9, 63)
    for one in result.candidates:
        assert np.array_equal(read_image(result.run / one.file)[0], picture(one.seed))


@pytest.mark.parametrize("said", [
    "seed must not be larger than 2147483647", "Unsupported value: 'seed' is 5",
    {"detail": [{"loc": ["body", "seed"], "msg": "Input should be less than 100"}]},
])  # fmt: skip
def test_a_seed_of_a_bad_value_is_not_dropped(said):
    def answer(seen):
        body = said if isinstance(said, dict) else {"error": {"message": said}}
        return Reply(body, 400) if seen.body.get("seed") == 5 else plain(seen, 0)

    with painting(answer) as server:
        served = ImageServer(at(server), waits=SOON)
        with pytest.raises(ValueError, match="HTTP status 400"):
            served("a circle", seed=5)
        assert served.refuses == set()
        assert np.array_equal(served("a circle", seed=6), picture(6))


# Other vendors' words


DIALECTS = {
    # vLLM-Omni and whatever else is FastAPI: a text, or a list of what pydantic found.
    "detail": (lambda field: {"detail": f"Unexpected field: {field}"}, 400),
    "pydantic": (lambda field: {"detail": [
        {"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted", "input": 1},
    ]}, 422),
    # SGLang: an object with its own words beside OpenAI's.
    "flat": (lambda field: {"object": "error", "message": f"{field} is not supported", "type": "BadRequest",
                            "code": 400}, 400),
    "openai": (lambda field: {"error": {"message": f"Unknown parameter: '{field}'.", "param": field}}, 400),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("field", ["seed", "response_format"])
def test_a_field_that_another_server_does_not_know_is_left_out(name, field):
    body, status = DIALECTS[name]

    def answer(seen):
        return Reply(body(field), status) if field in seen.body else image_reply(picture(7))

    with painting(answer) as server:
        served = ImageServer(at(server), waits=SOON)
        assert np.array_equal(served("a circle", seed=5), picture(7))
        assert served.refuses == {field}
        assert served("a circle", seed=6) is not None
        assert len(asked_of(server)) == 3  # it is found out once


@pytest.mark.parametrize(("body", "says"), [
    ({"detail": "prompt too long"}, "prompt too long"),
    ({"detail": [{"loc": ["body", "size"], "msg": "Invalid size"}]}, "Invalid size"),
    ({"object": "error", "message": "no such size", "code": 400}, "no such size"), ("plain words", "plain words"),
    ({"error": "only a text"}, "only a text"), ({"error": {"message": "OpenAI's"}}, "OpenAI's"),
])  # fmt: skip
def test_what_another_server_says_of_a_failure_is_told(body, says):
    with painting(lambda seen: Reply(body, 400)) as server, pytest.raises(ValueError, match=says) as caught:
        ImageServer(at(server), waits=SOON)("a circle", seed=1)
    assert "\n" not in str(caught.value)


def test_answers_with_more_in_them_and_other_formats_are_read():
    def answer(seen):
        return Reply({"id": "x", "created": 1, "inference_time_s": 0.5, "data": [
            {"b64_json": encoded(picture(seen.body["seed"]), "webp"), "url": None, "revised_prompt": None},
        ]})  # fmt: skip

    with painting(answer) as server:
        assert ImageServer(at(server), waits=SOON)("a circle", seed=1).shape == (*SIZE, 3)


# A server that learns what it serves


def knowing(fingerprint):
    """A server whose list says a fingerprint from when ``fingerprint`` holds one on."""
    def answer(seen, number):
        if not seen.path.endswith("/models"):
            return plain(seen, 0)
        known = {"fingerprint": fingerprint[0]} if fingerprint else {}
        return Reply({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "tests", **known}]})

    return serving(answer)


@pytest.mark.parametrize(("then", "now"), [([], ["2:ab"]), (["2:ab"], []), (["2:ab"], ["2:ab"])])
def test_a_run_goes_on_whether_or_not_the_server_knows_its_model_by_now(tmp_path, then, now):
    known = [*then]
    with knowing(known) as server:
        search(at(server), tmp_path / "run", budget="4 images")
        known[:] = now
        result = nw.resume(tmp_path / "run", trust=True, budget="6 images", pictures=False)
        assert replay(result.run / result.candidates[0].file, trust=True).identical
    assert result.images == 6


def test_a_run_does_not_go_on_with_another_model(tmp_path):
    known = ["2:ab"]
    with knowing(known) as server:
        search(at(server), tmp_path / "run", budget="4 images")
        known[:] = ["2:cd"]
        with pytest.raises(RunMismatch):
            nw.resume(tmp_path / "run", trust=True, budget="6 images")


def test_images_of_another_size_are_refused(tmp_path):
    says = pytest.raises(ValueError, match=r"expected images of 16x16 from .*, got 9x8")
    with painting(lambda seen: image_reply(picture(1, (8, 9)))) as server, says:
        search(at(server), tmp_path / "run", height=16, width=16)


def test_an_image_that_the_server_will_not_make_is_none_and_the_others_go_on(tmp_path):
    def answer(seen):
        return error_reply(400, "Your request was rejected") if seen.body["seed"] in (4, 8) else plain(seen, 0)

    result, _ = run_of(answer, tmp_path)
    scores = {one.seed: one.scores["brightness"] for one in result.candidates}
    assert {seed for seed, score in scores.items() if score != score} == {4, 8}
    assert result.best.seed == brightest([3, 5, 6, 7])
    assert any("no image of some seeds" in text and "rejected" in text for text in result.warnings)


def test_a_server_that_makes_no_image_at_all_is_wrong_use(tmp_path):
    says = pytest.raises(ValueError, match=r"HTTP status 400: no prompts about circles$")
    with painting(lambda seen: error_reply(400, "no prompts about circles\x1b[31m")) as server, says:
        search(at(server), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_server_that_begins_to_refuse_everything_ends_the_run(tmp_path):
    def answer(seen):
        return plain(seen, 0) if seen.body["seed"] < 7 else error_reply(403 + 48, "no more")

    with painting(answer) as server, pytest.raises(RunInterrupted, match="no more: so it was with the last 16 images"):
        search(at(server), tmp_path / "run", budget="60 images")
    assert read_run(tmp_path / "run")["status"] == "failed"


# Which server, and who may name it


@pytest.mark.parametrize(("text", "says"), [
    ("http://", "expected a URL"), ("http://me:secret@host/v1", "without a user or password"),
    ("http://host/v1?key=1", "without a query"), ("http://host/v1,key=1", "unknown option of an image server"),
    ("http://host/v1#m,timeout=0", "timeout in seconds above 0"), ("http://ho st/v1", "expected a URL"),
    ("http://host/v1#m,timeout=1,timeout=2", "unknown option"),
])  # fmt: skip
def test_addresses_that_are_none_are_one_line(text, says):
    with pytest.raises(ValueError, match=says) as caught:
        read_address(text)
    assert "secret" not in str(caught.value)


def test_an_address_has_its_parts():
    found = read_address("https://host:8000/v1/#org/model-1,key_env=SOME_KEY,timeout=30")
    assert (found.url, found.model, found.key_env, found.timeout) == (
        "https://host:8000/v1", "org/model-1", "SOME_KEY", 30.0,
    )  # fmt: skip
    assert found.name == "https://host:8000/v1#org/model-1"


def test_nobody_who_answers_is_said():
    with painting() as server:
        url = at(server)
    with pytest.raises(ValueError, match=r"expected an image server at http://127.0.0.1:\d+/v1, got none"):
        ImageServer(url)


def listing(*models):
    return serving(lambda seen, number: models_reply(*models) if seen.path.endswith("/models") else plain(seen, 0))


def test_one_of_several_models_has_to_be_named():
    with listing("one", "two") as server:
        with pytest.raises(ValueError, match="#MODEL, got no model of one, two"):
            ImageServer(at(server))
        with pytest.raises(ValueError, match=r"unknown model of .* 'tow'.*did you mean two"):
            ImageServer(at(server, "#tow"))
        assert ImageServer(at(server, "#two")).model == "two"


def test_a_server_without_a_list_is_taken_as_it_is():
    with serving(lambda seen, number: error_reply(404, "no") if seen.body is None else plain(seen, 0)) as server:
        assert ImageServer(at(server)).model == ""
        assert ImageServer(at(server, "#two"))("a circle", seed=1).shape == (*SIZE, 3)
        assert [one.get("model") for one in asked_of(server)] == ["two"]


def test_the_fingerprint_is_of_what_the_server_says_and_not_of_when():
    with painting() as server:
        assert ImageServer(at(server)).fingerprint == ImageServer(at(server)).fingerprint
        with painting() as other:
            assert ImageServer(at(server)).fingerprint != ImageServer(at(other)).fingerprint


def test_a_redirection_is_not_followed():
    elsewhere = {"Location": "http://127.0.0.1:1/v1"}
    says = pytest.raises(ValueError, match=r"sends requests on to http://127.0.0.1:1/v1: give that address")
    with painting(lambda seen: Reply("", 307, elsewhere)) as server, says:
        ImageServer(at(server), waits=SOON)("a circle", seed=1)


def test_a_key_goes_where_it_was_named_for_and_into_no_record(tmp_path, monkeypatch):
    monkeypatch.setenv("PAINTERS_KEY", "sesame-open-12345")
    monkeypatch.setenv("OPENAI_API_KEY", "of-somebody-else-1")
    with painting() as server:
        search(at(server, ",key_env=PAINTERS_KEY"), tmp_path / "run")
        assert {one.headers.get("authorization") for one in server.seen} == {"Bearer sesame-open-12345"}
        server.seen.clear()
        ImageServer(at(server))
        assert server.seen[0].headers.get("authorization") is None
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"sesame" not in path.read_bytes(), path


def test_a_server_that_refuses_the_key_says_so():
    says = pytest.raises(ValueError, match=r"refuses the key \(none was sent: ,key_env=NAME")
    with serving(lambda seen, number: error_reply(401, "no key")) as server, says:
        ImageServer(at(server))


def test_an_image_says_nothing_of_where_it_was_made(tmp_path):
    with painting() as server:
        result = search(at(server), tmp_path / "run")
        data = result.best.file.read_bytes()
        assert server.url.partition("://")[2].encode() not in data
    assert read_recipe(result.best.file)[1]["sampler"]["model"] == MODEL


# Going on, and making again


def test_a_run_goes_on_where_its_server_went_away_and_asks_for_trust(tmp_path, monkeypatch):
    monkeypatch.setattr("noisewright.samplers.image_server.WAITS", SOON)
    down = threading.Event()

    def answer(seen):
        if seen.body["seed"] >= 6 and not down.is_set():
            return error_reply(500, "out of order")
        return plain(seen, 0)

    with painting(answer) as server:
        with pytest.raises(RunInterrupted, match="gave no image: HTTP status 500"):
            nw.search(at(server), **ASIDE, budget="8 images", out=tmp_path / "run", concurrency=2)
        assert read_run(tmp_path / "run")["status"] == "failed"
        down.set()
        with pytest.raises(ValueError, match=r"names the model http://.*, which asks a server: .*--trust"):
            nw.resume(tmp_path / "run")
        server.seen.clear()
        result = nw.resume(tmp_path / "run", trust=True, pictures=False)
        assert {one["seed"] for one in asked_of(server)} == {6, 7}
    assert [one.seed for one in result.candidates] == list(range(8))
    assert result.best.seed == brightest(range(8))


def test_what_is_typed_again_needs_no_trust(tmp_path):
    with painting() as server:
        search(at(server), tmp_path / "run", budget="4 images")
        result = nw.resume(tmp_path / "run", at(server), budget="6 images", pictures=False)
    assert result.images == 6


def test_an_image_is_made_again_with_trust(tmp_path):
    with painting() as server:
        result = search(at(server), tmp_path / "run")
        with pytest.raises(ValueError, match="--trust asks that server"):
            replay(result.best.file)
        again = replay(result.best.file, trust=True)
        assert (again.identical, again.seed) == (True, result.best.seed)
        elsewhere = tmp_path / "shared.png"
        elsewhere.write_bytes(result.best.file.read_bytes())
        with pytest.raises(ValueError, match="expected --model http://HOST/v1#MODEL"):
            replay(elsewhere, trust=True)
        assert replay(elsewhere, model=at(server)).identical


def test_an_image_of_a_server_that_changed_is_said(tmp_path):
    with painting() as server:
        result = search(at(server), tmp_path / "run")
        with listing("another") as other, pytest.raises(RunMismatch, match="says something else of its model"):
            replay(result.best.file, model=at(other))
    with painting() as elsewhere, pytest.raises(RunMismatch):
        replay(result.best.file, model=at(elsewhere))


def test_an_image_that_is_another_one_now_is_said(tmp_path):
    shift = [0]
    with painting(lambda seen: image_reply(picture(seen.body["seed"] + shift[0]))) as server:
        result = search(at(server), tmp_path / "run")
        shift[0] = 50
        again = replay(result.best.file, model=at(server))
    assert not again.identical
    assert any("is another one now" in text for text in again.reasons)


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with painting() as server:
        given = ["generate", "two red circles", "--model", at(server)]
        given += ["--verifier", "brightness", "--budget", "5 images"]
        ended = run_command(capsys, [*given, "--concurrency", "2", "--steps", "4", "--out", "run", "--json"])
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["best"]["seed"] == brightest(range(5))
        assert run_command(capsys, ["resume", "run", "--budget", "6 images"]).code == 2
        assert run_command(capsys, ["resume", "run", "--budget", "6 images", "--trust"]).code == 0
        assert run_command(capsys, ["replay", "run:best", "--trust"]).code == 0
        assert run_command(capsys, ["show", "run"]).code == 0
        fit = ["schedule", "fit", "--method", "gits", "--steps", "4", "--out", "x.json"]
        for wrong, says in (
            ([*fit, "--model", at(server)], "expected"),
            ([*given[:3], f"{at(server)}#nothing", *given[4:]], "unknown model of"),
            ([*given, "--pipeline-arg", "quality=3"], "quality"),
        ):  # fmt: skip
            ended = run_command(capsys, wrong)
            assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
            assert says in ended.err


def test_a_server_in_a_card_or_a_recipe_is_not_asked(tmp_path):
    from noisewright.registry import trust

    for name in ("http://127.0.0.1:9/v1", "HTTPS://example.org/v1#m"):
        with pytest.raises(trust.Untrusted, match="which asks a server"):
            trust.check_model(name)
