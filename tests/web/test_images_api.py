"""The images endpoint as its clients use it: the openai SDK, curl, many at once."""

import base64
import io
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest
from PIL import Image

import noisewright as nw
import tiny
from noisewright.images.reading import read_image
from noisewright.run.reading import read_run
from noisewright.web.openai.settings import ImagesSettings
from web.serving_images import PROMPT, QUICK, SHAPES, client_of, generate, got, posted, serving_images, settings_of


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving_images(settings_of(tmp_path_factory.mktemp("api") / "runs")) as found:
        yield found


@pytest.fixture
def client(served):
    with client_of(served) as found:
        yield found


def pixels(one):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(one.b64_json))).convert("RGB"))


def run_of(served, answer):
    return served.settings.runs / answer.id


def test_the_best_n_are_those_of_the_search_itself(served, client, tmp_path):
    search = {"verifiers": "brightness", "judges": ["sharpness"], "budget": "6 images"}
    found = generate(client, n=3, seed=5, search=search, model=SHAPES, size="64x64", quality="high", user="me")
    own = nw.search(SHAPES, PROMPT, verifier="brightness", judge="none", budget="6 images", seed=5, keep=3,
                    num_inference_steps=2, pictures=False, out=tmp_path / "run", device="cpu")  # fmt: skip
    assert [one.id for one in found.data] == [one.id for one in own.kept]
    assert [one.seed for one in found.data] == [one.seed for one in own.kept]
    for one, kept in zip(found.data, own.kept, strict=True):
        assert np.array_equal(pixels(one), read_image(kept.file)[0])
        assert one.score == pytest.approx(kept.scores["brightness"])
        assert set(one.scores) == {"brightness", "sharpness"}
    scores = [one.score for one in found.data]
    assert scores == sorted(scores, reverse=True)
    assert len({one.b64_json for one in found.data}) == 3
    assert (found.size, found.quality, found.output_format, found.background) == ("64x64", "high", "png", "opaque")
    assert found.usage.images == 6
    assert found.usage.nfe == 12
    assert "me" not in (run_of(served, found) / "run.json").read_text().split('"')


@pytest.mark.parametrize(("quality", "images"), [("low", 1), ("medium", 8), ("auto", 8), (None, 8), ("standard", 8)])
def test_quality_is_how_many_images_are_searched_among(client, quality, images):
    found = generate(client, **({} if quality is None else {"quality": quality}))
    assert found.usage.images == images


def test_at_least_n_images_are_made(client):
    found = generate(client, n=4, quality="low")
    assert (found.usage.images, len(found.data)) == (4, 4)


def test_a_seed_is_another_one_each_time_and_the_same_where_it_is_said(client):
    one, two = (generate(client, quality="low").data[0] for _ in range(2))
    assert one.seed != two.seed
    again = generate(client, quality="low", seed=one.seed).data[0]
    assert np.array_equal(pixels(again), pixels(one))


@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_formats(client, kind):
    more = {} if kind == "png" else {"output_compression": 60}
    found = generate(client, quality="low", output_format=kind, **more)
    image = Image.open(io.BytesIO(base64.b64decode(found.data[0].b64_json)))
    assert (image.format, image.size, found.output_format) == (kind.upper(), (64, 64), kind)


def test_addresses_in_place_of_images(served, client):
    found = generate(client, quality="low", response_format="url", output_format="webp")
    address = found.data[0].url
    assert address.startswith(f"{served.url}/v1/images/files/{found.id}/1.webp")
    with urllib.request.urlopen(address) as answer:
        assert answer.headers["Content-Type"] == "image/webp"
        assert Image.open(io.BytesIO(answer.read())).format == "WEBP"


def test_a_target_ends_a_search(client):
    found = generate(client, search={"verifiers": ["brightness"], "budget": 40, "target": 0.0})
    assert found.stopped == "target"
    assert found.usage.images < 40


def test_drafts(client):
    found = generate(client, search={"draft": 1, "budget": 5})
    renders = 1 if found.usage.images == 4 else 2  # where the baseline is the winner it is rendered once
    assert found.usage.nfe == 3 * 1 + renders * 2


def test_drafts_by_name_are_cheaper_and_the_winner_is_a_full_image(client):
    asked = {"budget": 9, "draft": "truncate,at=0.5,pilot=0,best=2"}
    found = generate(client, seed=3, num_inference_steps=4, search=asked)
    assert found.usage.images == 9
    assert found.usage.nfe < 9 * 4
    plain = generate(client, seed=found.data[0].seed, num_inference_steps=4, quality="low")
    assert np.array_equal(pixels(found.data[0]), pixels(plain.data[0]))


def test_a_stream_shows_the_best_so_far_and_then_the_winner(client):
    search = {"verifiers": "brightness", "budget": 24}
    with generate(client, seed=1, search=search, stream=True, partial_images=2) as stream:
        events = list(stream)
    kinds = [one.type for one in events]
    assert kinds[-1] == "image_generation.completed"
    partial = events[:-1]
    assert {one.type for one in partial} <= {"image_generation.partial_image"}
    assert 1 <= len(partial) <= 2
    assert [one.partial_image_index for one in partial] == list(range(len(partial)))
    assert pixels(partial[0]).shape == (64, 64, 3)
    last = events[-1]
    assert (last.size, last.output_format, last.quality) == ("64x64", "png", "medium")
    assert last.usage.images == 24
    assert float(pixels(last).mean()) >= max(float(pixels(one).mean()) for one in partial) - 1e-6


def test_a_stream_without_partial_images_is_one_event(client):
    with generate(client, quality="low", stream=True, partial_images=0) as stream:
        assert [one.type for one in stream] == ["image_generation.completed"]


def test_a_stream_of_several_has_an_event_for_each(client):
    with generate(client, quality="low", n=3, stream=True) as stream:
        assert len({one.seed for one in stream}) == 3


# What is wrong


WRONG = {
    "no prompt": ({}, "prompt", "missing_required_parameter"),
    "a prompt of blanks": ({"prompt": "  "}, "prompt", "invalid_value"),
    "a prompt of a number": ({"prompt": 3}, "prompt", "invalid_value"),
    "a long prompt": ({"prompt": "a" * 6000}, "prompt", "invalid_value"),
    "none of it": ({"n": 0}, "n", "invalid_value"), "too many": ({"n": 11}, "n", "invalid_value"),
    "a size in words": ({"size": "large"}, "size", "invalid_value"),
    "too large a size": ({"size": "4096x64"}, "size", "invalid_value"),
    "a size that the model does not make": ({"size": "63x64"}, "size", "invalid_value"),
    "transparency": ({"background": "transparent"}, "background", "unsupported_value"),
    "compressed png": ({"output_compression": 5}, "output_compression", "invalid_value"),
    "an unknown field": ({"qualty": "low"}, "qualty", "unknown_parameter"),
    "an unknown quality": ({"quality": "best"}, "quality", "invalid_value"),
    "a negative seed": ({"seed": -1}, "seed", "invalid_value"),
    "many steps": ({"num_inference_steps": 5000}, "num_inference_steps", "invalid_value"),
    "many partial images": ({"stream": True, "partial_images": 4}, "partial_images", "invalid_value"),
    "an unknown search": ({"search": {"method": "randon"}}, "search.method", "invalid_value"),
    "an unknown field of search": ({"search": {"budgets": 3}}, "search.budgets", "unknown_parameter"),
    "a large budget": ({"search": {"budget": 65}}, "search.budget", "invalid_value"),
    "a long budget": ({"search": {"budget": "3 h"}}, "search.budget", "invalid_value"),
    "a budget below n": ({"n": 3, "search": {"budget": 2}}, "search.budget", "invalid_value"),
    "a budget of nothing": ({"search": {"budget": "some"}}, "search.budget", "invalid_value"),
    "a file as verifier": ({"search": {"verifiers": "evil.py:run"}}, "search.verifiers", "invalid_value"),
    "a server as verifier": ({"search": {"verifiers": ["http://127.0.0.1:1/"]}}, "search.verifiers", "invalid_value"),
    "a judge of the hub": ({"search": {"judges": "clip:evil/model"}}, "search.judges", "invalid_value"),
    "a target of no verifier": ({"search": {"target": {"clip": 1.0}}}, "search.target", "invalid_value"),
    "true_cfg_scale of a model without": ({"true_cfg_scale": 4.0}, "true_cfg_scale", "invalid_value"),
    "an unknown draft": ({"search": {"draft": "truncat"}}, "search.draft", "invalid_value"),
    "a draft without a value": ({"search": {"draft": "truncate,at="}}, "search.draft", "invalid_value"),
    "a draft of many images in full": (
        {"search": {"draft": "truncate,best=11,pilot=0", "budget": 60}}, "search.draft", "invalid_value",
    ),
    "a draft of no steps": ({"search": {"draft": 0}}, "search.draft", "invalid_value"),
    "a draft of blanks": ({"search": {"draft": " "}}, "search.draft", "invalid_value"),
    "drafts of a search that cannot": (
        {"num_inference_steps": 8, "search": {"method": "fk", "draft": 6}}, "search.draft", "invalid_value",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_has_its_status_and_its_field(served, name):
    fields, param, code = WRONG[name]
    status, _, found = posted(served, {**({"prompt": PROMPT} if name != "no prompt" else {}), **QUICK, **fields})
    error = found["error"]
    assert (status, error["type"], error["param"], error["code"]) == (400, "invalid_request_error", param, code), error
    assert "\n" not in error["message"]
    assert found.keys() == {"error"}


def test_the_sdk_raises_its_own_errors(client):
    with pytest.raises(openai.BadRequestError) as caught:
        generate(client, size="5000x5000")
    assert caught.value.param == "size"
    with pytest.raises(openai.NotFoundError) as caught:
        generate(client, model="noisewright/shape")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "did you mean noisewright/shapes" in str(caught.value)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x", "http://127.0.0.1:1/v1", "hf/evil", "file.py:function", ""])
def test_only_models_that_are_offered_can_be_named(served, name):
    status, _, found = posted(served, {"prompt": PROMPT, "model": name})
    assert status == (404 if name else 400)
    assert found["error"]["param"] == "model"


BODIES = {
    b"{": 400, b"[]": 400, b"null": 400, b'{"prompt": NaN}': 400, b"[" * 5000: 400, b'{"prompt": 1e999}': 400,
    b'{"prompt": "\\ud800"}': 400, b"\xff\xfe": 400, b"": 400, b'{"prompt": "%s"}' % (b"a" * 300_000): 413,
}  # fmt: skip


@pytest.mark.parametrize(("body", "status"), BODIES.items(), ids=range(len(BODIES)))
def test_bodies_that_are_none(served, body, status):
    found, _, said = posted(served, body)
    assert found == status, said
    assert said["error"]["type"] == "invalid_request_error"


def test_another_kind_of_body(served):
    assert posted(served, b"a=1", **{"Content-Type": "application/x-www-form-urlencoded"})[0] == 415


# Many, and those who go away


def test_ten_clients_at_once_mix_nothing_up(served, tmp_path):
    shapes, colours = ("circle", "square", "triangle", "star", "ring"), ("red", "blue")
    prompts = [f"a {colour} {shape}" for colour in colours for shape in shapes]

    def one(number):
        with client_of(served) as client:
            return generate(client, prompts[number], seed=number, n=2, search={"verifiers": "brightness", "budget": 6})

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(one, range(10)))
    assert len({one.id for one in answers}) == 10
    for number, found in enumerate(answers):
        assert read_run(run_of(served, found))["spec"]["sampler"]["prompt"] == prompts[number]
        assert {one.seed - number for one in found.data} <= set(range(6))
    for number in (0, 9):
        own = nw.search(SHAPES, prompts[number], verifier="brightness", judge="none", budget="6 images", seed=number,
                        num_inference_steps=2, pictures=False, device="cpu")  # fmt: skip
        assert answers[number].data[0].seed == own.best.seed
        assert np.array_equal(pixels(answers[number].data[0]), read_image(own.best.file)[0])


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_full_queue_says_when_to_come_again(tmp_path):
    with serving_images(settings_of(tmp_path / "runs", queue=1, at_once=1)) as served:
        long = {"prompt": PROMPT, "num_inference_steps": 25, "search": {"budget": 64}}
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(posted, served, long)
            until(lambda: served.service.running == 1)
            second = pool.submit(posted, served, {"prompt": PROMPT, **QUICK, "quality": "low"})
            until(lambda: served.service.waiting == 1)
            status, headers, found = posted(served, {"prompt": PROMPT, **QUICK})
            assert (status, found["error"]["code"], found["error"]["type"]) == (429, "queue_full", "rate_limit_error")
            assert 1 <= int(headers["Retry-After"]) <= 600
            with client_of(served) as client, pytest.raises(openai.RateLimitError):
                generate(client)
            assert first.result()[0] == second.result()[0] == 200


def test_a_short_request_does_not_wait_for_the_end_of_a_long_one(tmp_path):
    with serving_images(settings_of(tmp_path / "runs", at_once=2)) as served:
        long = {"prompt": PROMPT, "num_inference_steps": 25, "search": {"budget": 64}}
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(posted, served, long)
            until(lambda: served.service.running == 1)
            assert posted(served, {"prompt": PROMPT, **QUICK, "quality": "low"})[0] == 200
            assert not first.done()
            assert first.result()[0] == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_search_ends_where_its_client_goes_away_and_what_was_made_is_kept(served, stream):
    body = json.dumps({"prompt": PROMPT, "num_inference_steps": 25, "stream": stream, "partial_images": 1,
                       "search": {"budget": 64}}).encode()  # fmt: skip
    before = set(served.settings.notes.glob("img_*.json"))
    connection = socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])))
    head = "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def run():
        new = set(served.settings.notes.glob("img_*.json")) - before
        return served.settings.runs / new.pop().stem if new else None

    until(lambda: run() is not None and any((run() / "images").glob("*.png")))
    folder = run()
    connection.close()
    note = served.settings.notes / f"{folder.name}.json"
    until(lambda: json.loads(note.read_text())["state"] == "cancelled")
    held = read_run(folder)
    assert held["status"] == "interrupted"
    assert 0 < held["summary"]["images"] < 64
    assert (folder / "best.png").is_file()
    until(lambda: served.service.running == 0)


def test_the_same_key_is_the_same_request(served):
    body, key = {"prompt": PROMPT, **QUICK, "quality": "low"}, {"Idempotency-Key": "mine-1"}
    one, two = (posted(served, body, **key) for _ in range(2))
    assert one[2]["id"] == two[2]["id"]
    assert one[2]["data"] == two[2]["data"]
    assert posted(served, body, **{"Idempotency-Key": "mine-2"})[2]["id"] != one[2]["id"]


def test_a_request_can_be_looked_at_later(served, client):
    found = generate(client, quality="low")
    later = json.loads(got(served, f"/v1/images/generations/{found.id}"))
    assert (later["status"], later["result"]["data"][0]["b64_json"]) == ("completed", found.data[0].b64_json)


@pytest.mark.parametrize("path", [
    "/v1/images/generations/img_000000000000000000000000", "/v1/images/generations/..%2f..%2frun.json",
    "/v1/images/files/img_000000000000000000000000/1.png", "/v1/images/files/..%2f..%2f/1.png", "/v1/models/nothing",
])  # fmt: skip
def test_what_is_not_there_is_404(served, path):
    with pytest.raises(urllib.error.HTTPError) as caught:
        got(served, path)
    assert caught.value.code == 404


def test_models_health_and_metrics(served, client):
    generate(client, quality="low")
    models = list(client.models.list())
    assert [(one.id, one.owned_by) for one in models] == [(SHAPES, "noisewright")]
    assert client.models.retrieve(SHAPES).id == SHAPES
    assert json.loads(got(served, "/healthz"))["status"] == "ok"
    lines = got(served, "/metrics").decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values['noisewright_requests_total{state="done"}']) >= 1
    assert float(values["noisewright_images_total"]) >= 1
    assert float(values['noisewright_seconds_total{phase="denoise"}']) > 0
    assert values["noisewright_running"] == "0"
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} >= {name.split("{")[0] for name in values}


@pytest.mark.skipif(shutil.which("curl") is None, reason="it needs curl")
def test_curl(served):
    body = json.dumps({"prompt": PROMPT, **QUICK, "quality": "low"})
    found = subprocess.run(
        ["curl", "-sS", f"{served.url}/v1/images/generations", "-H", "Content-Type: application/json", "-d", body],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(json.loads(found.stdout)["data"]) == 1
    streamed = subprocess.run(
        ["curl", "-sSN", f"{served.url}/v1/images/generations", "-H", "Content-Type: application/json", "-d",
         json.dumps({**json.loads(body), "stream": True})], capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, second, *_ = streamed.stdout.splitlines()
    assert first == "event: image_generation.completed"
    assert json.loads(second.removeprefix("data: "))["type"] == "image_generation.completed"


# The other way round


def test_our_server_is_a_model_that_can_be_searched(served, tmp_path):
    how = {"verifier": "shapes-clip", "judge": "none", "budget": "5 images", "num_inference_steps": 2, "seed": 11,
           "pictures": False}  # fmt: skip
    found = nw.search(f"{served.url}/v1#{SHAPES}", PROMPT, **how, out=tmp_path / "far")
    own = nw.search(SHAPES, PROMPT, **how, out=tmp_path / "near", device="cpu", batch_size=1)
    assert found.best.seed == own.best.seed
    for one, other in zip(found.candidates, own.candidates, strict=True):
        far, near = (read_image(run / path.file)[0] for run, path in ((found.run, one), (own.run, other)))
        assert np.abs(far.astype(int) - near).max() <= 1  # another micro-batch
    assert not [text for text in found.warnings if "seed" in text or "fingerprint" in text]


# Edits


@pytest.fixture(scope="module")
def editing(tmp_path_factory):
    from diffusers import StableDiffusionImg2ImgPipeline

    folder = tmp_path_factory.mktemp("edits")
    pipe = StableDiffusionImg2ImgPipeline(**tiny.sd().components, requires_safety_checker=False)
    pipe.save_pretrained(folder / "model")
    with serving_images(settings_of(folder / "runs", models={"tiny": str(folder / "model")})) as found:
        yield found


def drawn(seed=0, size=32):
    file = io.BytesIO()
    array = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    Image.fromarray(array).save(file, "png")
    return "picture.png", file.getvalue(), "image/png"


def test_an_image_is_edited_and_the_best_edits_come_back(editing):
    with client_of(editing) as client:
        found = client.images.edit(
            image=drawn(), prompt="two red circles", n=2,
            extra_body={"seed": 4, "strength": 0.6, "num_inference_steps": 5,
                        "search": {"verifiers": ["brightness", "sharpness"], "budget": 5}},
        )  # fmt: skip
        other = client.images.edit(image=drawn(1), prompt="two red circles", extra_body={
            "seed": 4, "strength": 0.6, "num_inference_steps": 5, "search": {"verifiers": "brightness", "budget": 5},
        })  # fmt: skip
    assert len(found.data) == 2
    assert found.usage.images == 5
    assert not np.array_equal(pixels(found.data[0]), pixels(other.data[0]))


def test_a_stream_of_edits_has_its_own_events(editing):
    with client_of(editing) as client:
        stream = client.images.edit(image=drawn(), prompt="two", stream=True, partial_images=1, quality="low",
                                    extra_body={"num_inference_steps": 5})  # fmt: skip
        kinds = [one.type for one in stream]
    assert kinds[-1] == "image_edit.completed"
    assert set(kinds[:-1]) <= {"image_edit.partial_image"}


def test_edits_that_cannot_be(served, editing):
    with client_of(editing) as client:
        for image, param in ((("x.png", b"no image", "image/png"), "image"), ([drawn(), drawn()], "image")):
            with pytest.raises(openai.BadRequestError) as caught:
                client.images.edit(image=image, prompt="two")
            assert caught.value.param == param
        with pytest.raises(openai.BadRequestError, match="image"):
            client.images.generate(prompt="two")
    with client_of(served) as client, pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=drawn(), prompt=PROMPT)
    assert caught.value.param == "image"


# Settings


@pytest.mark.parametrize(("more", "says"), [
    ({"models": {}}, "at least one model"), ({"tiers": {"low": 1}}, "expected images for low, medium, high"),
    ({"tiers": {"low": 1, "medium": 8, "high": 100}}, "expected high as 1 to 64 images"), ({"queue": 0}, "queue"),
])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(tmp_path, more, says):
    with pytest.raises(ValueError, match=says):
        ImagesSettings(runs=tmp_path, **more)
