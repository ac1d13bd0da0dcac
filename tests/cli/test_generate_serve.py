"""``generate --serve``: the run goes on, the page watches it, and stays when it is over."""

import json
import signal
import socket
import time

import pytest

from commands import refused
from noisewright.run.reading import read_run
from serving import QUICK, found_in, generating

pytest.importorskip("fastapi", reason='no fastapi here (pip install "noisewright[web]")')
httpx = pytest.importorskip("httpx")

def listed(client):
    """The list of runs, which is read beside: it may lack the newest for a moment."""
    for _ in range(100):
        if found := client.get("/api/runs").json()["runs"]:
            break
        time.sleep(0.2)
    return found


def object_from(stream):
    """The JSON that a command prints, which goes on after it."""
    lines = []
    for line in stream:
        lines.append(line)
        if line.startswith("}"):
            return json.loads("".join(lines))
    raise AssertionError(lines)


def status_of(address):
    return httpx.get(address.replace("/run?name=", "/api/run?run=")).json()["head"]["status"]


@pytest.mark.slow
def test_the_page_shows_the_run_stays_and_goes_on_with_it(tmp_path):
    """After the end more is asked for on the page, and Ctrl-C ends the command with the code of the run."""
    with generating(tmp_path, "--budget", "3 images", "--out", "out", "--json") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert found_in(process, "the page stays at ") == address
        assert object_from(process.stdout)["images"] == 3
        page = httpx.get(address)
        assert (page.status_code, "text/html" in page.headers["content-type"]) == (200, True)
        assert status_of(address) == "done"
        with httpx.Client(base_url=address.partition("/run?")[0], timeout=60) as client:
            assert [one["name"] for one in listed(client)] == ["out"]
            assert client.get("/v1/models").status_code == 404
            assert client.post("/api/more", json={"run": "out", "budget": "4 images"}).status_code == 200
            while [one["state"] for one in client.get("/api/jobs").json()["jobs"]] != ["done"]:
                assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert read_run(tmp_path / "out")["summary"]["images"] == 4


@pytest.mark.slow
def test_a_run_that_is_stopped_on_its_page_leaves_the_page_there(tmp_path):
    """Whoever pressed Stop sees what came of it, and may go on; the code is that of a run that was stopped."""
    with generating(tmp_path, "--budget", "5000 images", "--out", "out") as (process, address):
        with httpx.Client(base_url=address.partition("/run?")[0], timeout=60) as client:
            while not client.get("/api/run", params={"run": "out"}).json().get("rows"):
                assert process.poll() is None
            assert client.post("/api/stop", json={"run": "out"}).status_code == 200
            assert found_in(process, "the page stays at ") == address
            assert status_of(address) == "interrupted"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


@pytest.mark.slow
def test_ctrl_c_ends_the_run_and_its_page(tmp_path):
    with generating(tmp_path, "--budget", "5000 images") as (process, address):
        name = address.partition("name=")[2]
        with httpx.Client(base_url=address.partition("/run?")[0], timeout=60) as client:
            while client.get("/api/run", params={"run": name}).status_code != 200:
                assert process.poll() is None
            answer = client.post("/api/more", json={"run": name, "budget": "6000 images"})
            assert answer.status_code == 400  # the model is at work on this one
            assert "when the run of this command is over" in answer.json()["error"]["message"]
            while not client.get("/api/run", params={"run": name}).json().get("rows"):
                assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert read_run(tmp_path / "runs" / name)["status"] == "interrupted"


@pytest.mark.slow
def test_it_takes_another_port_and_leaves_the_jobs_of_a_server_alone(tmp_path):
    """Beside ``noisewright serve`` on the same directory."""
    from serving import served

    (tmp_path / "runs").mkdir()
    with served(tmp_path / "runs") as (other, _), generating(tmp_path, "--budget", "2 images") as (process, address):
        found_in(process, "the page stays at ")
        assert not address.startswith(other)
        name = address.partition("name=")[2]
        more = httpx.post(address.partition("/run?")[0] + "/api/more", json={"run": name, "budget": "3 images"})
        assert (more.status_code, "other server" in more.text) == (400, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.parametrize(("words", "part"), [
    (["--dry-run"], "--dry-run"), (["--prompt-file", "prompts.txt"], "--prompt-file"),
])  # fmt: skip
def test_there_is_one_run_to_show(here, capsys, words, part):
    (here / "prompts.txt").write_text("a red circle\n")
    prompt = [] if "--prompt-file" in words else ["a red circle"]
    refused(capsys, ["generate", *prompt, "--serve", *words], "expected one run with --serve", part)


def test_without_the_extra_it_says_how_to_install_it(here, capsys, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else find(name))
    refused(capsys, ["generate", "a red circle", "--serve"], 'pip install "noisewright[web]"')


def test_a_run_that_cannot_be_leaves_no_directory(here, capsys, monkeypatch):
    monkeypatch.setattr("noisewright.cli.serve.PORT", 1)
    monkeypatch.setattr(socket.socket, "bind", lambda self, where: (_ for _ in ()).throw(OSError("no")))
    refused(capsys, ["generate", "a red circle", "--serve", *QUICK, "--budget", "1 image"], "expected an address")
    assert list((here / "runs").iterdir()) == []


@pytest.mark.parametrize(("kind", "variable", "opened"), [
    ("GenericBrowser", None, False), ("GenericBrowser", "lynx", True), ("BackgroundBrowser", None, True),
])  # fmt: skip
def test_no_browser_takes_this_terminal_unless_it_is_asked_for(monkeypatch, kind, variable, opened):
    import webbrowser

    from noisewright.web.serving import open_in_browser

    found, seen = getattr(webbrowser, kind)("x"), []
    monkeypatch.setattr(found, "open", seen.append)
    monkeypatch.setattr(webbrowser, "get", lambda: found)
    monkeypatch.delenv("BROWSER", raising=False)
    if variable:
        monkeypatch.setenv("BROWSER", variable)
    open_in_browser("http://x")
    assert bool(seen) is opened
