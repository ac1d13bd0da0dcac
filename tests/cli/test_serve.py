import importlib.util
import socket

import pytest

from commands import refused

pytest.importorskip("fastapi", reason='no fastapi here (pip install "noisewright[web]")')


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    """What gets as far as a server fails."""
    monkeypatch.setattr("noisewright.web.serving.serve", None)
    monkeypatch.delenv("NOISEWRIGHT_TOKEN", raising=False)


@pytest.fixture
def started(monkeypatch):
    """The settings that a server would be started with."""
    found = []
    monkeypatch.setattr("noisewright.web.serving.serve", lambda settings, say, open_page: found.append(settings))
    return found


@pytest.mark.parametrize(("words", "said"), [
    (["--host", "0.0.0.0"], "expected --token"),
    (["--host", "192.168.1.5", "--token", "short"], "at least 16"),
    (["--token", "short"], "at least 16"),
    (["--port", "0"], "port"),
    (["--model", "no/such/model.safetensors"], "no/such/model"),
    (["--verifier", "no-such"], "unknown verifier"),
    (["--verifier", "no-such:model"], "unknown verifier"),
    (["--quality", "best=3"], "unknown quality"),
    (["--quality", "low"], "expected low=IMAGES"),
    (["--quality", "low=0"], "1 to 10000 images"),
    (["--limit", "image=3"], "unknown limit 'image'"),
    (["--limit", "images"], "expected images=VALUE"),
    (["--limit", "images=0"], "1 to 1000000"),
    (["--limit", "side=-1"], "1 to 1000000"),
    (["--limit", "n=11"], "1 to 10"),
    (["--allow-host", "img.example.com"], "expected --token with --allow-host"),
    (["--allow-host", "http://img.example.com", "--token", "a-long-enough-token"], "expected --allow-host as a name"),
    (["--device", "cud"], "device"),
    (["--dtype", "float17"], "unknown dtype"),
])  # fmt: skip
def test_wrong_use_is_said_in_one_line(here, capsys, words, said):
    (here / "runs").mkdir()
    refused(capsys, ["serve", "runs", *words], said)


def test_a_directory_that_is_not_there_is_said(here, capsys):
    refused(capsys, ["serve", "gone"], "expected a directory of runs", "gone")


def test_without_the_extra_it_says_how_to_install_it(here, capsys, monkeypatch):
    find = importlib.util.find_spec
    instead = lambda name, *more: None if name == "uvicorn" else find(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", instead)
    refused(capsys, ["serve"], 'pip install "noisewright[web]"', "uvicorn")


def test_a_port_that_somebody_has_is_said(here, capsys):
    (here / "runs").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(capsys, ["serve", "runs", "--port", taken.getsockname()[1]], "expected an address")


def test_the_default_directory_is_made_and_the_next_port_is_taken(here, started):
    from noisewright import cli

    assert cli.main(["serve"]) == 0
    assert started[0].runs == here / "runs"
    assert started[0].token is None
    assert "noisewright/shapes" in started[0].models
    assert {"shapes-clip", "shapes-oracle"} <= set(started[0].verifiers)
    assert not {"vlm", "vqa", "http", "https", "human"} & set(started[0].verifiers)
    with socket.create_server(("127.0.0.1", started[0].port)):
        assert cli.main(["serve"]) == 0
    assert started[1].port != started[0].port


def test_qualities_are_named_and_a_typed_model_is_loaded_at_once(here, started):
    from noisewright import cli

    assert cli.main(["serve", "--quality", "high=100", "--quality", "low=2"]) == 0
    assert started[0].tiers == {"low": 2, "medium": 8, "high": 100}
    assert started[0].preload is False
    assert cli.main(["serve", "--model", "noisewright/shapes"]) == 0
    assert (started[1].tiers, started[1].preload) == ({"low": 1, "medium": 8, "high": 32}, True)


def test_limits_hold_for_the_page_and_for_the_endpoint(here, started):
    from noisewright import cli
    from noisewright.web.openai.mounted import images_settings

    typed = {"images": 9, "seconds": 20, "steps": 30, "side": 512, "queue": 5, "n": 2}
    words = [word for name, value in typed.items() for word in ("--limit", f"{name}={value}")]
    assert cli.main(["serve", *words, "--device", "cpu", "--dtype", "float32"]) == 0
    limits, of_endpoint = started[0].limits, images_settings(started[0])
    assert (limits.images, limits.seconds, limits.steps, limits.side, limits.pixels, limits.waiting) == (
        9, 20, 30, 512, 512 * 512, 5,
    )  # fmt: skip
    assert (of_endpoint.most_images, of_endpoint.most_seconds, of_endpoint.most_steps, of_endpoint.most_side,
            of_endpoint.queue, of_endpoint.most_n) == (9, 20, 30, 512, 5, 2)  # fmt: skip
    assert of_endpoint.tiers == {"low": 1, "medium": 8, "high": 9}  # of those that were not typed
    assert (of_endpoint.device, of_endpoint.dtype) == (started[0].device, started[0].dtype) == ("cpu", "float32")
    assert cli.main(["serve"]) == 0
    assert started[1].limits.images == 10_000
    assert images_settings(started[1]).most_images == 64


def test_names_of_a_proxy(here, started):
    from noisewright import cli

    words = ["--allow-host", "img.example.com", "--allow-host", "images.svc:8443", "--token", "a-long-enough-token"]
    assert cli.main(["serve", *words]) == 0
    assert started[0].hosts == ("img.example.com", "images.svc:8443")


def test_one_run_is_served_alone(here, started):
    from noisewright import cli

    (here / "runs" / "one").mkdir(parents=True)
    (here / "runs" / "one" / "run.json").write_text("{}")
    assert cli.main(["serve", "runs/one"]) == 0
    assert (started[0].runs, started[0].only) == (here / "runs", "one")


def test_the_token_may_be_in_the_environment(here, started, monkeypatch):
    from noisewright import cli

    monkeypatch.setenv("NOISEWRIGHT_TOKEN", "a-long-enough-token")
    assert cli.main(["serve", "--host", "0.0.0.0"]) == 0
    assert started[0].token == "a-long-enough-token"
