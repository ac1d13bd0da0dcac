"""What the endpoint promises: n images, one job for a key, health as it is, no word about the operator's machine."""

import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from PIL import Image

from noisewright.errors import VerifierFailed
from noisewright.run.reading import read_run
from noisewright.web.openai.app import images_app
from noisewright.web.openai.asking import check_offered, request_of
from noisewright.web.openai.errors import ApiError
from noisewright.web.openai.fields import EditFields, GenerationFields, read_fields
from noisewright.web.openai.public import by_public_name, public_verifier, without_paths
from noisewright.web.openai.service import ImagesService
from noisewright.web.work import Works
from serving import talking_to
from web.serving_images import PROMPT, QUICK, SHAPES, client_of, generate, got, posted, serving_images, settings_of

LOW = {"prompt": PROMPT, **QUICK, "quality": "low"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving_images(settings_of(tmp_path_factory.mktemp("bounds") / "runs")) as found:
        yield found


def until(true, seconds=120):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


# As many as were asked for


SHORT = {
    "a target that the first image reaches": ({"target": 0.0, "budget": 20}, "target"),
    "a target of drafts": ({"target": 0.0, "budget": 20, "draft": 1}, "target"),
    "seconds that are over at once": ({"budget": "0.001 s"}, "budget"),
    "seconds and images": ({"budget": ["0.001 s", "9 images"]}, "budget"),
}


@pytest.mark.parametrize("name", SHORT)
def test_as_many_images_as_were_asked_for_come_back(served, name):
    search, stopped = SHORT[name]
    with client_of(served) as client:
        found = generate(client, n=4, seed=3, search={"verifiers": "brightness", **search})
        one = generate(client, n=1, seed=3, search={"verifiers": "brightness", **search})
    assert len(found.data) == len({one.id for one in found.data}) == 4
    assert len({one.b64_json for one in found.data}) == 4
    assert [one.score for one in found.data] == sorted((one.score for one in found.data), reverse=True)
    assert found.stopped.partition(":")[0] == one.stopped.partition(":")[0] == stopped
    assert found.usage.images >= 4
    assert len(one.data) == 1


def test_a_budget_in_nfe_that_does_not_hold_n_images_is_refused(served):
    def asked(nfe, **more):
        return posted(served, {"prompt": PROMPT, "n": 3, "search": {"budget": f"{nfe} nfe"}, **more})

    status, _, found = asked(5, num_inference_steps=2)
    assert (status, found["error"]["param"], found["error"]["code"]) == (400, "search.budget", "invalid_value")
    assert found["error"]["message"].endswith("at least the 6 NFE of n = 3 images at 2 steps, got 5")
    assert asked(5)[0] == 400  # the model's card says its steps
    status, _, found = asked(7, num_inference_steps=2)
    assert (status, len(found["data"]), found["usage"]["nfe"]) == (200, 3, 6)


# One job for a key


def test_a_key_with_another_body_is_refused(served):
    key = {"Idempotency-Key": "body"}
    first = posted(served, LOW, **key)[2]
    status, _, found = posted(served, {**LOW, "prompt": "a blue star"}, **key)
    assert (status, found["error"]["code"], found["error"]["type"]) == (
        422, "idempotency_key_reused", "invalid_request_error",
    )  # fmt: skip
    assert posted(served, {**LOW, "user": "me"}, **key)[2]["id"] == first["id"]  # who asks is no part of it


def drawn(side):
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, "png")
    return file.getvalue()


def test_a_key_with_another_picture_is_refused(tmp_path):
    service = ImagesService(settings_of(tmp_path / "runs"))  # which is never started
    service.settings.notes.mkdir(parents=True)
    fields = read_fields(EditFields, LOW)
    one, other = drawn(8), drawn(9)
    job = service.submit(fields, "edit", "key", {"image": one})
    assert service.submit(fields, "edit", "key", {"image": one}) is job
    with pytest.raises(ApiError) as caught:
        service.submit(fields, "edit", "key", {"image": other})
    assert caught.value.status == 422
    assert service.submit(fields, "edit", "another", {"image": other}) is not job


def test_two_that_send_at_once_make_one_job(tmp_path):
    service = ImagesService(settings_of(tmp_path / "runs"))
    service.settings.notes.mkdir(parents=True)
    fields, together = read_fields(GenerationFields, LOW), threading.Barrier(8)

    def send(number):
        together.wait()
        return service.submit(fields, "generation", "together").id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(8)))) == 1
    assert len(list(service.settings.notes.glob("img_*"))) == 1
    assert service.waiting == 1


def test_who_leaves_takes_no_answer_from_others(served):
    long = {"prompt": PROMPT, "num_inference_steps": 25, "search": {"budget": 20, "verifiers": "brightness"}}
    head = {"Idempotency-Key": "shared"}
    with client_of(served) as client, ThreadPoolExecutor(1) as pool:
        other = pool.submit(posted, served, long, **head)
        until(lambda: served.service.running == 1)
        body = {key: long[key] for key in ("num_inference_steps", "search")}
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=1.0).images.generate(prompt=PROMPT, extra_body=body, extra_headers=head)
        status, _, found = other.result()
    assert (status, found["usage"]["images"]) == (200, 20)


def test_a_key_is_known_however_many_came_after_it_and_to_the_next_server(tmp_path, monkeypatch):
    monkeypatch.setattr("noisewright.web.openai.service.REMEMBERED", 2)
    settings = settings_of(tmp_path / "runs")
    with serving_images(settings) as served:
        first = posted(served, LOW, **{"Idempotency-Key": "first"})[2]["id"]
        for number in range(4):
            posted(served, LOW, **{"Idempotency-Key": f"later {number}"})
        assert posted(served, LOW, **{"Idempotency-Key": "first"})[2]["id"] == first
    with serving_images(settings) as served:
        assert posted(served, LOW, **{"Idempotency-Key": "first"})[2]["id"] == first


def test_keys_of_notes_that_an_earlier_version_left_are_known(tmp_path):
    settings = settings_of(tmp_path / "runs")
    with serving_images(settings) as served:
        first = posted(served, LOW, **{"Idempotency-Key": "first"})[2]["id"]
    for path in settings.notes.glob("key_*"):
        path.unlink()
    note = settings.notes / f"{first}.json"
    held = json.loads(note.read_text())
    note.write_text(json.dumps({key: value for key, value in held.items() if key not in ("body", "stopped")}))
    with serving_images(settings) as served:
        assert posted(served, LOW, **{"Idempotency-Key": "first"})[2]["id"] == first


@pytest.mark.slow
def test_a_client_of_the_sdk_that_meets_a_full_queue_comes_again(tmp_path, monkeypatch):
    monkeypatch.setattr("noisewright.web.openai.doing.FIRST_GUESS", 1.0)
    with serving_images(settings_of(tmp_path / "runs", queue=1, at_once=1)) as served:
        long = {"prompt": PROMPT, "num_inference_steps": 25, "search": {"budget": 20, "verifiers": "brightness"}}
        with ThreadPoolExecutor(2) as pool, client_of(served) as client:
            first = pool.submit(posted, served, long)
            until(lambda: served.service.running == 1)
            second = pool.submit(posted, served, long)
            until(lambda: served.service.waiting == 1)
            found = client.with_options(max_retries=60).images.generate(
                prompt=PROMPT, quality="low", extra_body=QUICK, extra_headers={"Idempotency-Key": "again"},
            )  # fmt: skip
            assert len(found.data) == 1
            assert first.result()[0] == second.result()[0] == 200
        assert len(list(served.settings.notes.glob("img_*.json"))) == 3


# Health


def health(served):
    status, found = 200, None
    try:
        found = json.loads(got(served, "/healthz"))
    except Exception as error:  # of urllib
        status, found = error.code, json.loads(error.read())
    return status, found


def test_a_server_that_cannot_note_requests_says_so(tmp_path):
    runs = tmp_path / "runs"
    with serving_images(settings_of(runs)) as served:
        assert health(served)[0] == 200
        notes = runs / ".requests"
        notes.rename(runs / "elsewhere")
        notes.write_text("")
        status, found = health(served)
        assert (status, found["status"]) == (503, "unavailable")
        assert "cannot be written" in found["reason"]
        assert str(tmp_path) not in json.dumps(found)
        assert posted(served, LOW)[0] == 503
        notes.unlink()
        (runs / "elsewhere").rename(notes)
        assert health(served)[0] == 200


def test_a_second_server_over_the_same_requests_takes_none(tmp_path, caplog):
    settings = settings_of(tmp_path / "runs")
    with serving_images(settings) as first:
        with serving_images(settings) as second:
            status, found = health(second)
            assert (status, found["reason"]) == (503, "another server answers the requests of this directory: ask it")
            status, _, said = posted(second, LOW)
            assert (status, said["error"]["code"]) == (503, "unavailable")
        assert health(first)[0] == 200
        assert posted(first, LOW)[0] == 200
    lines = [one.getMessage() for one in caplog.records if one.name == "noisewright"]
    assert [line for line in lines if "another server answers the requests" in line]
    assert not any("\n" in line for line in lines)
    with serving_images(settings) as third:
        assert health(third)[0] == 200


def test_a_server_that_is_being_stopped_says_so(tmp_path):
    service = ImagesService(settings_of(tmp_path / "runs"))
    service.settings.notes.mkdir(parents=True)
    assert service.why_not is None
    service.end()
    assert service.why_not == "the server is being stopped"


class Fails:
    """A worker that says of each job what a test wants."""

    def __init__(self, **answer):
        self.answer = {"ok": False, **answer}

    def do(self, job, tell):
        return self.answer

    def stop(self, key):
        pass


def serviced(settings, worker):
    service = ImagesService(settings, worker)
    service.start()
    return service


def test_a_model_that_cannot_be_loaded_is_said_until_one_can(tmp_path):
    model = tmp_path / "secret" / "model"
    settings = settings_of(tmp_path / "runs", models={"model": str(model)})
    worker = Fails(why="failed", error=f"expected a model in {model}, got none")
    service = serviced(settings, worker)
    try:
        until(lambda: service.settled and service.why_not)
        assert service.why_not == "the first model cannot be loaded: expected a model in model, got none"
        worker.answer = {"ok": True, "result": {
            "images": 1, "nfe": 2, "seconds": {}, "stopped": "budget", "interrupted": False,
        }}  # fmt: skip
        service.submit(read_fields(GenerationFields, {**LOW, "search": {"verifiers": "brightness"}}))
        until(lambda: service.why_not is None)
    finally:
        service.close()


# Whose fault it is


def works_that_fail(monkeypatch, where, error):
    def fail(*given, **more):
        raise error

    monkeypatch.setattr(where, fail)
    return Works()


JOB = {"id": "0", "kind": "run", "pictures": False, "request": {
    "model": SHAPES, "prompt": PROMPT, "verifier": ["brightness"], "judge": ["none"], "budget": ["2 images"],
    "num_inference_steps": 2, "device": "cpu",
}}  # fmt: skip


@pytest.mark.parametrize(("where", "error", "why"), [
    ("noisewright.planning.load_requested", ValueError("weights are damaged"), "failed"),
    ("noisewright.planning.load_requested", TypeError("no such class"), "failed"),
    ("noisewright.planning.plan_on", ValueError("expected size"), "wrong"),
    ("noisewright.execute.execute", ValueError("the disk is full"), "failed"),
    ("noisewright.execute.execute", VerifierFailed("no answer"), "verifier"),
])  # fmt: skip
def test_only_what_could_not_be_planned_is_the_clients_fault(tmp_path, monkeypatch, where, error, why):
    found = works_that_fail(monkeypatch, where, error).do({**JOB, "out": str(tmp_path / "run")})
    assert (found["ok"], found["why"]) == (False, why)


@pytest.mark.parametrize(("why", "status", "code"), [
    ("wrong", 400, "invalid_value"), ("failed", 500, "failed"), ("verifier", 500, "verifier_failed"),
])  # fmt: skip
def test_no_error_names_a_place_of_this_machine(tmp_path, why, status, code):
    runs, model, look = tmp_path / "runs", tmp_path / "models" / "mine", tmp_path / "private" / "look.py"
    said = (f"expected {model}/unet/config.json, {look}:score and {runs}/img_1/images/x.png, got none "
            f"(/etc/passwd, /home/somebody/.cache/x, {look}: no such file)")  # fmt: skip
    settings = settings_of(runs, models={"mine": str(model)}, verifiers=(f"{look}:score", "brightness"))
    service = serviced(settings, Fails(why=why, error=said))
    try:
        job = service.submit(read_fields(GenerationFields, {**LOW, "search": {"verifiers": "brightness"}}))
        until(lambda: job.is_over)
        assert (job.error.status, job.error.code) == (status, code)
        for text in (str(job.error), job.why, json.dumps(job.error.to_json())):
            assert str(tmp_path) not in text
            assert not [part for part in ("/etc", "/home", "private", "models/") if part in text]
            assert "look.py" in text
            assert "x.png" in text
    finally:
        service.close()


def test_messages_that_hold_no_path_stay_as_they_are(tmp_path):
    settings = settings_of(tmp_path)
    for text in ("expected and/or, got 1/2", "GET http://host/v1/models of noisewright/shapes", "50 nfe/s at 3:4",
                 "expected 'noisewright/shapes', got evil/model"):  # fmt: skip
        assert without_paths(text, settings) == text


def test_verifiers_of_files_are_named_without_their_places(tmp_path):
    one, two = (tmp_path / place / "look.py" for place in ("one", "two"))
    typed = (f"{one}:score", f"{two}:score", f"{one}:other,name=mine", "clip:openai/clip-vit-base-patch32",
             "brightness", f"clip:{tmp_path / 'weights'}", "http://127.0.0.1:9/score?key=abc,key_env=KEY")  # fmt: skip
    names = by_public_name(typed, public_verifier)
    assert list(names) == ["look.py:score", "look.py:score-2", "mine", "clip:openai/clip-vit-base-patch32",
                           "brightness", "clip:weights", "http"]  # fmt: skip
    assert tuple(names.values()) == typed
    settings = settings_of(tmp_path / "runs", verifiers=typed)
    for wrong in ("nothing", typed[0]):
        fields = read_fields(GenerationFields, {**LOW, "search": {"verifiers": wrong}})
        with pytest.raises(ApiError) as caught:
            request_of(fields, settings, 0)
        assert caught.value.param == "search.verifiers"
        assert "abc" not in str(caught.value)
        assert str(tmp_path) not in str(caught.value).partition("expected one of")[2]
    fields = read_fields(GenerationFields, {**LOW, "search": {"verifiers": ["look.py:score-2", "brightness"]}})
    assert [*request_of(fields, settings, 0).verifier] == [typed[1], "brightness"]


# A note is data


LARGER = {
    "a budget": {"budget": ["1000000 images"]}, "a long budget": {"budget": ["1 images", "999999 s"]},
    "no budget": {"budget": None}, "many NFE": {"budget": ["1 images", "99999999 nfe"]},
    "steps": {"num_inference_steps": 5000}, "steps of the search": {"search_steps": 1000, "num_inference_steps": 20},
    "a height": {"height": 8192}, "a width": {"width": 4096}, "many images": {"keep": 500},
    "a draft": {"draft": "truncate,at=0.5,pilot=0,best=50"},
}  # fmt: skip


@pytest.mark.parametrize("name", LARGER)
def test_a_note_costs_no_more_than_a_request_may(tmp_path, name):
    settings = settings_of(tmp_path / "runs")
    request = request_of(read_fields(GenerationFields, LOW), settings, 0)
    check_offered(request, settings, settings.notes / "x")
    with pytest.raises(ValueError, match="expected") as caught:
        check_offered(request.changed(**LARGER[name]), settings, settings.notes / "x")
    assert "\n" not in str(caught.value)


# Who may ask the endpoint by itself


def test_the_endpoint_by_itself_is_behind_the_same_checks(served):
    for more, status in (({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403),
                         ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Content-Type": ""}, 415),
                         ({"Content-Type": "text/plain"}, 415), ({"Origin": "http://["}, 403)):  # fmt: skip
        found, headers, body = posted(served, LOW, **more)
        assert (found, list(body)) == (status, ["error"]), more
        assert headers["X-Content-Type-Options"] == "nosniff"
    metrics = got(served, "/metrics").decode()
    assert 'noisewright_refused_total{status="421"} 1' in metrics
    assert 'noisewright_refused_total{status="403"} 3' in metrics


def test_the_endpoint_by_itself_asks_for_a_token_where_others_reach_it(tmp_path):
    from starlette.testclient import TestClient

    settings = settings_of(tmp_path / "runs", load_first=False)
    with pytest.raises(ValueError, match="expected --token"):
        images_app(settings, host="0.0.0.0")
    token = "0123456789abcdef-long"
    app = images_app(settings, host="0.0.0.0", token=token, hosts=("img.example.com",))
    with TestClient(app, base_url="https://img.example.com") as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert client.get("/healthz").status_code == 200


# Words of the SDK


def test_quality_is_the_one_that_was_used_and_who_asks_is_not_kept(served):
    with client_of(served) as client:
        for asked, used in ((None, "medium"), ("auto", "medium"), ("standard", "medium"), ("hd", "high"),
                            ("low", "low")):  # fmt: skip
            given = {} if asked is None else {"quality": asked}
            found = generate(client, search={"budget": 1}, safety_identifier="of-somebody", **given)
            assert found.quality == used
    run = served.settings.runs / found.id
    assert "of-somebody" not in (run / "run.json").read_text()
    assert "of-somebody" not in (served.settings.notes / f"{found.id}.json").read_text()


# Several models


def test_the_list_says_what_identifies_each_model_from_when_it_was_loaded(tmp_path):
    models = {"one": SHAPES, "two": "noisewright/shapes-small"}
    with serving_images(settings_of(tmp_path / "runs", models=models)) as served, client_of(served) as client:
        listed = {one.id: getattr(one, "fingerprint", None) for one in client.models.list()}
        assert listed["one"]
        assert listed["two"] is None
        found = generate(client, model="two", quality="low")
        again = {one.id: getattr(one, "fingerprint", None) for one in client.models.list()}
        made = read_run(served.settings.runs / found.id)["spec"]["sampler"]["fingerprint"]
        assert again == {"one": listed["one"], "two": made}
        assert client.models.retrieve("two").fingerprint == made


# Addresses in answers


def test_addresses_of_images_are_those_that_were_asked(runs, tmp_path):
    from serving import settings_of as page_settings

    token = "0123456789abcdef-long"
    settings = page_settings(runs, tmp_path, token=token, hosts=("img.example.com",))
    with talking_to(settings, base="http://img.example.com") as client:
        client.headers["Authorization"] = f"Bearer {token}"
        for said, scheme in (({"X-Forwarded-Proto": "https"}, "https"), ({}, "http")):
            answer = client.post("/v1/images/generations", json={**LOW, "response_format": "url"}, headers=said)
            address = answer.json()["data"][0]["url"]
            assert address.startswith(f"{scheme}://img.example.com/v1/images/files/"), address
        path = address.partition("img.example.com")[2]
        assert client.get(path).status_code == 200
        assert client.get(path, headers={"Authorization": ""}).status_code == 401


def test_no_port_of_others_is_listened_on_unless_it_is_said():
    import inspect

    from noisewright.cli.serve import serve
    from noisewright.web.settings import Settings, is_loopback

    assert is_loopback(inspect.signature(serve).parameters["host"].default)
    assert is_loopback(Settings.host)
