import json
import os
import shutil
import signal
import time

import httpx
import pytest

from noisewright.errors import RunMismatch
from noisewright.request import Request
from noisewright.run.locks import locked
from noisewright.run.reading import read_run
from noisewright.web.process import Process
from noisewright.web.queue import FOLDER, Full, Queue
from noisewright.web.settings import Limits
from serving import served, settings_of, talking_to

SECONDS = 120


def until(true, seconds=SECONDS):
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.05)


def jobs_of(client):
    return client.get("/api/jobs").json()["jobs"]


def state_of(client, key):
    return next(one["state"] for one in jobs_of(client) if one["id"] == key)


FIELDS = {"prompt": "a red circle", "verifier": ["brightness"], "judge": "none", "budget": ["2 images"],
          "num_inference_steps": 2}  # fmt: skip


def start(client, **fields):
    answer = client.post("/api/start", json={"fields": {**FIELDS, **fields}})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.slow
def test_a_form_starts_a_run_which_goes_on_and_is_refined(client, runs):
    """Start, more budget, more like this, the seed with more steps, another verifier: as the page asks for them."""
    found = start(client)
    until(lambda: state_of(client, found["job"]) == "done")
    name = found["run"]
    assert read_run(runs / name)["summary"]["images"] == 2
    plan = client.post("/api/forecast", json={"fields": FIELDS}).json()
    assert (plan["busy"], plan["images"], plan["nfe"]) == (None, 2, 4)

    key = client.get("/api/run", params={"run": name}).json()["rows"][0][0]
    wanted = [
        ("/api/more", {"run": name, "budget": "3 images"}), ("/api/score", {"run": name, "verifier": "sharpness"}),
        ("/api/like", {"run": name, "id": key, "budget": "2 images"}),
        ("/api/steps", {"run": name, "id": key, "steps": 3}),
    ]  # fmt: skip
    made = []
    for path, body in wanted:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        made.append(answer.json())
    until(lambda: all(one["state"] in ("done", "failed") for one in jobs_of(client)))
    assert [one["note"] for one in jobs_of(client) if one["state"] == "failed"] == []
    assert read_run(runs / name)["summary"]["images"] == 3
    opinions = client.get("/api/choices", params={"run": name}).json()["opinions"]
    assert len(opinions["sharpness"]) == 3
    assert read_run(runs / made[2]["run"])["spec"]["search"] == "refine"
    assert read_run(runs / made[3]["run"])["spec"]["sampler"]["num_inference_steps"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("drafts", [{"draft": "truncate,at=0.5,pilot=0"}, {"search_steps": 2}])
def test_a_run_with_drafts_is_gone_on_with(client, runs, drafts):
    """Of a draft and of a full image: more like it, and its seed with more steps."""
    found = start(client, budget=["6 images"], num_inference_steps=4, **drafts)
    until(lambda: state_of(client, found["job"]) == "done")
    rows = client.get("/api/run", params={"run": found["run"]}).json()["rows"]
    keys = {row[8]: row[0] for row in rows}
    assert keys.keys() == {True, False}
    for key in keys.values():
        for path, body in (("/api/like", {"budget": "8 images"}), ("/api/steps", {"steps": 5})):
            answer = client.post(path, json={"run": found["run"], "id": key, **body})
            assert answer.status_code == 200, answer.text
    until(lambda: all(one["state"] in ("done", "failed") for one in jobs_of(client)), seconds=120)
    assert [one["note"] for one in jobs_of(client) if one["state"] == "failed"] == []
    asked = [read_run(runs / one["run"])["spec"] for one in jobs_of(client)][1:]
    assert [one["search"] for one in asked] == ["refine", "random"] * 2
    assert all("draft" not in one and one["search_steps"] == 5 for one in asked[1::2])


@pytest.mark.slow
def test_jobs_survive_a_server_that_is_killed(runs, tmp_path):
    """A server that is killed in the middle of a run: the next one ends it, and what waited."""
    with served(runs) as (address, process):
        made = [httpx.post(f"{address}/api/start", json={"fields": {**FIELDS, "budget": [f"{count} images"]}}).json()
                for count in (40, 2)]  # fmt: skip
        until(lambda: (runs / made[0]["run"] / "journal.jsonl").exists())
        process.send_signal(signal.SIGKILL)
        process.wait()
    with talking_to(settings_of(runs, tmp_path)) as client:
        until(lambda: all(state_of(client, one["job"]) == "done" for one in made))
    assert [read_run(runs / one["run"])["summary"]["images"] for one in made] == [40, 2]


@pytest.mark.slow
def test_a_server_that_ends_stops_its_run_which_goes_on_with_the_next(runs, tmp_path):
    settings = settings_of(runs, tmp_path)
    with talking_to(settings) as client:
        made = start(client, budget=["300 images"])
        until(lambda: (runs / made["run"] / "journal.jsonl").exists())
    assert read_run(runs / made["run"])["status"] == "interrupted"
    with talking_to(settings) as client:
        until(lambda: state_of(client, made["job"]) == "running")
        until(lambda: read_run(runs / made["run"])["status"] == "running")
        assert client.post("/api/stop", json={"run": made["run"]}).status_code == 200
        until(lambda: state_of(client, made["job"]) == "stopped")


@pytest.mark.slow
def test_a_process_that_is_killed_is_started_again(client, runs):
    made = start(client)
    until(lambda: state_of(client, made["job"]) == "done")
    process = client.app.state.parts.worker.pid
    os.kill(process, signal.SIGKILL)
    again = start(client)
    until(lambda: state_of(client, again["job"]) == "done")


@pytest.mark.slow
def test_what_fails_says_why_and_the_next_is_done(client):
    bad = start(client, verifier=["shapes-oracle"], target={"no-such": 1.0})
    good = start(client)
    until(lambda: state_of(client, good["job"]) == "done")
    one = next(job for job in jobs_of(client) if job["id"] == bad["job"])
    assert one["state"] == "failed"
    assert "no-such" in one["note"]
    assert not (client.app.state.parts.settings.runs / bad["run"]).exists()


def queue_of(settings):
    return Queue(settings, Process(settings.runs / FOLDER))


@pytest.fixture
def still(settings):
    """A queue that takes jobs and does none."""
    return queue_of(settings)


def test_a_job_that_waits_can_be_taken_out(still, runs):
    name = still.new_run("a red circle")
    job = still.add("run", name, "x", request={})
    still.cancel(job["id"])
    assert still.jobs()[0]["state"] == "cancelled"
    assert not (runs / name).exists()
    with pytest.raises(ValueError, match="expected a job"):
        still.cancel(job["id"])
    with pytest.raises(ValueError, match="expected a job"):
        still.cancel("nothing")


def test_no_two_runs_get_one_directory(still):
    assert len({still.new_run("a red circle") for _ in range(5)}) == 5


@pytest.mark.parametrize("prompt", ["../../etc", "a/b", "..", "\0", "日本", "x" * 5000, "-rf"])
def test_a_prompt_names_a_directory_inside(still, runs, prompt):
    assert (runs / still.new_run(prompt)).parent == runs


def test_a_full_queue_takes_no_more(runs, tmp_path):
    queue = queue_of(settings_of(runs, tmp_path, limits=Limits(waiting=2)))
    (runs / ".serve").mkdir()
    for number in range(2):
        queue.add("score", "first", str(number), verifier="brightness")
    with pytest.raises(Full):
        queue.add("score", "first", "3", verifier="brightness")


def test_the_page_says_that_it_is_full(runs, tmp_path):
    with talking_to(settings_of(runs, tmp_path, limits=Limits(waiting=0))) as client:
        answer = client.post("/api/score", json={"run": "first", "verifier": "brightness"})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
        assert client.post("/api/start", json={"fields": FIELDS}).status_code == 429
    assert [one.name for one in runs.iterdir() if not one.name.startswith(".")] == ["first"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"jobs": 3}', '{"jobs": [1, {"kind": "run"}]}', json.dumps({"jobs": [
    {"id": "a", "kind": "run", "run": "../../etc", "said": "x", "state": "waiting", "asked": "x", "request": {}}]}),
    json.dumps({"jobs": [{"id": "a", "kind": "score", "run": "first", "said": "x", "state": "waiting", "asked": "x",
                          "verifier": "evil.py:score"}]})])  # fmt: skip
def test_a_queue_that_somebody_else_wrote_is_not_believed(runs, tmp_path, text):
    (runs / ".serve").mkdir()
    (runs / ".serve" / "queue.json").write_text(text)
    with talking_to(settings_of(runs, tmp_path)) as client:
        assert jobs_of(client) == []


PLANTED = {
    "a verifier of a file": {"verifier": ["runs/evil.py:score"]},
    "a verifier of a server": {"verifier": ["vlm:http://169.254.169.254/#m"]},
    "a judge of a file": {"judge": ["/tmp/evil.py:score"]},
    "a model of the hub": {"model": "evil/model"},
    "a model of a server": {"model": "http://169.254.169.254/v1"},
    "a cluster": {"executor": "ray:169.254.169.254:6379"},
    "a directory to write to": {"score_cache": "/tmp/elsewhere"},
    "too many images": {"budget": ["1000000000 images"]},
    "too large images": {"height": 8192, "width": 64},
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_job_is_not_done(runs, tmp_path, name):
    """Whoever gave the directory may have written its queue: no job is done that the page would not have taken."""
    request = Request(**{"model": "noisewright/shapes", "prompt": "x", "verifier": ["brightness"], "judge": "none",
                         "budget": ["1 image"], **PLANTED[name]})  # fmt: skip
    (runs / ".serve").mkdir()
    (runs / "new").mkdir()
    job = {"id": "a", "kind": "run", "run": "new", "said": "x", "state": "waiting", "asked": "x", "note": None,
           "request": request.to_json()}  # fmt: skip
    (runs / ".serve" / "queue.json").write_text(json.dumps({"jobs": [job]}))
    with talking_to(settings_of(runs, tmp_path)) as client:
        found = jobs_of(client)
        assert [one["state"] for one in found] == ["failed"]
        assert found[0]["note"]
        assert client.app.state.parts.worker.pid is None
    assert list((runs / "new").iterdir()) == []


@pytest.mark.slow
def test_a_run_that_somebody_else_goes_on_with_is_not_stopped(runs, tmp_path):
    """A job waits for it; neither taking the job out nor the server's end ends what is not the server's."""
    with locked(runs / "first"), talking_to(settings_of(runs, tmp_path)) as client:
        held = client.app.state.parts.queue
        request = json.loads((runs / "first" / "run.json").read_text())["request"]
        for _ in range(2):
            held.add("run", "first", "x", request=request)
        first, second = jobs_of(client)
        until(lambda: state_of(client, first["id"]) == "running")
        assert client.post("/api/cancel", json={"job": first["id"]}).status_code == 200
        until(lambda: state_of(client, first["id"]) == "stopped")
        until(lambda: state_of(client, second["id"]) == "running")
    assert not (runs / "first" / ".stop").exists()


def test_a_directory_that_cannot_be_written_fails_the_job_and_not_the_queue(runs, tmp_path, monkeypatch):
    settings = settings_of(runs, tmp_path)
    with talking_to(settings) as client:
        monkeypatch.setattr(Process, "do", lambda *given: (_ for _ in ()).throw(OSError("no space left on device")))
        for _ in range(2):
            job = start(client)["job"]
            until(lambda: state_of(client, job) == "failed")  # noqa: B023 - asked at once
        assert "no space left" in jobs_of(client)[-1]["note"]


@pytest.mark.slow
def test_a_server_of_one_run_shows_what_was_begun_from_its_page(runs, tmp_path, made):
    shutil.copytree(made, runs / "other")
    with talking_to(settings_of(runs, tmp_path, only="first")) as client:
        assert [one["name"] for one in client.get("/api/runs").json()["runs"]] == ["first"]
        key = client.get("/api/run", params={"run": "first"}).json()["rows"][0][0]
        found = client.post("/api/steps", json={"run": "first", "id": key, "steps": 3}).json()
        until(lambda: state_of(client, found["job"]) in ("done", "failed"))
        assert client.get("/api/run", params={"run": found["run"]}).json()["head"]["status"] == "done"
        assert client.get("/api/run", params={"run": "other"}).status_code == 404


@pytest.mark.slow
def test_names_of_the_servers_start_go_on_and_score_too(runs, tmp_path, saved):
    """A verifier of a file, which no request and no run may name by itself."""
    (tmp_path / "own.py").write_text("def score(images, prompt):\n    return images.mean((1, 2, 3))\n")
    own = f"{tmp_path / 'own.py'}:score"
    settings = settings_of(runs, tmp_path, models=(str(saved),), verifiers=("brightness", own))
    with talking_to(settings) as client:
        found = start(client, verifier=[own], model=str(saved))
        until(lambda: state_of(client, found["job"]) in ("done", "failed"))
        for path, body in (("/api/more", {"budget": "3 images"}), ("/api/score", {"verifier": own})):
            answer = client.post(path, json={"run": found["run"], **body})
            assert answer.status_code == 200, answer.text
        until(lambda: all(one["state"] in ("done", "failed") for one in jobs_of(client)))
        assert [one["note"] for one in jobs_of(client) if one["state"] == "failed"] == []
    with talking_to(settings_of(runs, tmp_path)) as client:
        more = client.post("/api/more", json={"run": found["run"], "budget": "4 images"})
        assert more.status_code == 400
        assert "own.py" in more.text


def test_two_servers_do_not_share_a_directory(runs, tmp_path):
    settings = settings_of(runs, tmp_path)
    with talking_to(settings), pytest.raises(RunMismatch):
        queue_of(settings).start()


def test_a_run_that_names_what_only_a_person_may_does_not_go_on(client, runs):
    held = json.loads((runs / "first" / "run.json").read_text())
    held["request"]["verifier"] = ["/tmp/evil.py:score"]
    (runs / "first" / "run.json").write_text(json.dumps(held))
    answer = client.post("/api/more", json={"run": "first", "budget": "12 images"})
    assert answer.status_code == 400
    assert "evil.py" in answer.json()["error"]["message"]
    assert str(runs) not in answer.text
    assert jobs_of(client) == []


@pytest.mark.parametrize("budget", ["5 images", "10 bananas", "99999999 images", 7])
def test_more_budget_is_more_and_within_bounds(client, budget):
    assert client.post("/api/more", json={"run": "first", "budget": budget}).status_code == 400


def test_a_run_that_has_ended_cannot_be_stopped(client):
    answer = client.post("/api/stop", json={"run": "first"})
    assert answer.status_code == 400
    assert "is done" in answer.json()["error"]["message"]


def test_no_job_says_where_on_this_machine_it_failed(runs, tmp_path):
    """The page shows what a job says to whoever may ask."""
    settings = settings_of(runs, tmp_path)

    class Failing:
        busy = outlived = False

        def do(self, job, tell):
            return {"ok": False, "why": "failed", "error": f"could not write: noisewright resume {job['out']}"}

        def end(self):
            pass

        def stop(self, key):
            pass

    queue = Queue(settings, Failing())
    queue.start()
    try:
        name = queue.new_run("any")
        queue.add("run", name, "x", request=Request(prompt="any").to_json())
        until(lambda: queue.jobs()[0]["state"] == "failed")
    finally:
        queue.close()
    assert queue.jobs()[0]["note"] == f"could not write: noisewright resume {name}"
