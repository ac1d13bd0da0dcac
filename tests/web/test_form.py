import json

import pytest

from noisewright import registry
from noisewright.request import Request
from noisewright.web.asked import requested
from noisewright.web.form import FIELDS
from noisewright.web.form import fields_of as fields_of_request
from noisewright.web.typed import command_of
from serving import settings_of


def fields_of(client):
    return {one["name"]: one for group in client.get("/api/form").json()["groups"] for one in group["fields"]}


def test_help_and_options_are_the_command_lines_own(client, capsys):
    from noisewright import cli

    assert cli.main(["generate", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, one in fields_of(client).items():
        assert one["option"].strip("-") in shown, name
        assert one["help"].partition(".")[0][:30] in shown, name


def test_every_field_is_one_of_a_request(client):
    assert set(fields_of(client)) == set(FIELDS) <= set(Request.model_fields)


@pytest.mark.parametrize("name", ["config", "loras", "score_cache", "device", "executor", "pipeline_args", "dtype",
                                  "given_pipeline", "variant", "compile", "out", "force"])  # fmt: skip
def test_what_names_files_or_devices_is_not_asked_for(settings, name):
    assert name not in FIELDS
    with pytest.raises(ValueError, match="unknown field"):
        requested({"prompt": "any", name: "x"}, settings)


SAID = {
    "all as it was": ({"guidance_scale": 0.0, "eta": 0.0, "target": 0.0, "num_inference_steps": 3, "no_check": True,
                       "draft": "truncate,at=0.5", "judge": "none", "height": 64}, []),
    "what the form has not": ({"loras": ["x.safetensors"], "dtype": "bfloat16", "executor": "local"},
                              ["--dtype", "--lora"]),
    "a model of somebody else": ({"model": "some/model"}, ["--model"]),
    "a verifier of somebody else": ({"verifier": ["brightness", "clip:some/model"]}, ["--verifier"]),
    "weights": ({"verifier": ["brightness", "sharpness"], "ensemble": {"brightness": 1.0, "sharpness": 2.0}},
                ["--ensemble"]),
    "a schedule file": ({"schedule": "/tmp/own.json"}, ["--schedule"]),
    "where it starts": ({"search": "refine", "search_args": {"start": "x.png", "population": 3}}, ["--search-arg"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_a_run_is_asked_for_again_as_it_was_or_it_is_said_what_is_left_out(settings, name):
    given, left_out = SAID[name]
    request = Request(**{"model": "noisewright/shapes", "prompt": "any", **given})
    fields, found = fields_of_request(request, settings)
    assert found == left_out
    again = requested(fields, settings)
    if not left_out:
        assert again == request
    else:
        assert again.prompt == "any"


def test_each_search_has_its_arguments(client):
    found = client.get("/api/form").json()["searches"]
    assert set(found) == set(registry.names("search"))
    assert {one["name"] for one in found["zero-order"]} == set(registry.search_arguments("zero-order"))
    failing = next(one for one in found["zero-order"] if one["name"] == "on_failure")
    assert failing["choices"] == ["keep", "restart", "shrink"]
    assert "start" not in {one["name"] for one in found["refine"]}  # the page gives it, where it has a candidate


@pytest.mark.parametrize(("fields", "said"), [
    ({"model": "some/other"}, "started with"),
    ({"model": "/etc"}, "started with"),
    ({"model": "http://169.254.169.254/v1"}, "started with"),
    ({"verifier": ["vlm:http://evil.example/#m"]}, "started with"),
    ({"verifier": ["/tmp/evil.py:score"]}, "started with"),
    ({"verifier": ["evil.py:score"]}, "started with"),
    ({"judge": ["https://evil.example/score"]}, "started with"),
    ({"verifier": ["clip:some/model"]}, "started with"),
    ({"schedule": "/etc/passwd"}, "unknown schedule"),
    ({"schedule": "../../x.json"}, "unknown schedule"),
    ({"search": "refine", "search_args": {"start": "/etc/passwd"}}, "plain values"),
    ({"search": "no-such"}, "unknown search"),
    ({"search": "random", "search_args": {"x": 1}}, "unknown argument of random"),
    ({"search": "zero-order", "search_args": {"neighbours": 10**9}}, "at most"),
    ({"budget": ["10001 images"]}, "at most 10000 images"),
    ({"budget": ["100000000 nfe"]}, "at most"),
    ({"budget": ["1000 hours"]}, "at most"),
    ({"num_inference_steps": 1001}, "at most 1000"),
    ({"height": 4097}, "at most 4096"),
    ({"width": 10**9}, ""),
    ({"height": 4096, "width": 4097}, "at most"),
    ({"batch_size": 257}, "at most 256"),
    ({"keep": 10_001}, ""),
    ({"prompt": "x" * 10**6}, ""),
    ({"prompt": ["x"]}, ""),
    ({"seed": -1}, ""),
    ({"seed": 1.5}, ""),
    ({"guidance_scale": float("inf")}, ""),
    ({"frames": "all; rm"}, ""),
    ("no fields", "fields of a run"),
    (None, "fields of a run"),
])  # fmt: skip
def test_what_is_not_allowed_is_refused_in_one_line(settings, fields, said):
    with pytest.raises((ValueError, TypeError)) as caught:
        requested({"prompt": "any", **fields} if isinstance(fields, dict) else fields, settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_refused_leaves_no_directory(client, runs):
    answer = client.post("/api/start", json={"fields": {"prompt": "any", "model": "some/other"}})
    assert answer.status_code == 400
    assert [one.name for one in runs.iterdir() if not one.name.startswith(".")] == ["first"]


def test_a_field_that_is_empty_is_as_by_default(settings):
    found = requested({"prompt": "any", "budget": [], "solver": "", "seed": 0, "verifier": None}, settings)
    assert found == Request(prompt="any", model="noisewright/shapes")


def test_typed_models_and_verifiers_are_allowed(runs, tmp_path):
    settings = settings_of(runs, tmp_path, models=("own/model",), verifiers=("clip:own/clip",))
    found = requested({"prompt": "any", "verifier": ["clip:own/clip"]}, settings)
    assert (found.model, found.verifier) == ("own/model", ["clip:own/clip"])


@pytest.mark.parametrize("fields", [
    {"prompt": "two 'red' circles; $(rm -rf /)"},
    {"prompt": "-x", "seed": 7},
    {"prompt": "a", "search": "zero-order", "search_args": {"neighbours": 3, "cosine": 0.9}},
    {"prompt": "a", "verifier": ["brightness", "sharpness"], "ensemble": "zsum", "judge": "none"},
    {"prompt": "a", "budget": ["64 images", "30 s"], "target": 0.5, "keep": 2},
    {"prompt": "a", "target": {"brightness": 0.5}},
    {"prompt": "a", "num_inference_steps": 5, "guidance_scale": 2.5, "negative_prompt": "blur", "no_check": True},
    {"class_label": "cat"},
])  # fmt: skip
def test_a_request_as_a_command_is_the_same_request(fields, monkeypatch):
    """What is typed is read by the command line itself, up to the request that it would run."""
    import shlex

    from noisewright import cli

    found = []
    monkeypatch.setattr("noisewright.cli.generate.run_request", lambda request, *more, **named: found.append(request))
    request = Request(model="noisewright/shapes", **fields)
    assert cli.main(shlex.split(command_of(request))[1:]) == 0
    typed, meant = found[0].to_json(), request.to_json()
    for one in (typed, meant):  # what is typed is text until the search's signature says what it is
        one["search_args"] = registry.check_arguments(request.search, one["search_args"])
    assert json.dumps(typed) == json.dumps(meant)
