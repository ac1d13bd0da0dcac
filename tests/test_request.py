"""A request: one set of names everywhere, refused in one line, recorded by every run, and enough to go on from."""

import inspect
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import noisewright as nw
import tiny
from loras import needs_peft, write
from noisewright import cli
from noisewright.api import planned
from noisewright.cli.generate import generate
from noisewright.errors import RunMismatch
from noisewright.request import OPTIONS, Request, read_request
from noisewright.run.reading import read_run
from noisewright.samplers.mixture import MixtureSampler

PROMPT = "two red circles"
SHORT = {"budget": "2 images", "num_inference_steps": 2, "pictures": False}
NOT_PYTHONS = {"model", "given_pipeline", "pipeline_args"}
NOT_OPTIONS = {"given_pipeline"}
BESIDES = {"pipe", "out", "progress", "pictures", "pipe_kwargs"}
COMMANDS_OWN = {"prompt_file", "out", "dry_run", "json", "workers", "gpus_per_worker", "verifier_workers",
                "serve"}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("request") / "model"
    tiny.sd().save_pretrained(path, safe_serialization=True)
    return path


def warmth(images, prompt):
    return images[:, 0].mean((1, 2))


def refused(capsys, argv, *parts, code=2):
    capsys.readouterr()
    assert cli.main([str(one) for one in argv]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    return err


# One set of names


def test_python_takes_the_fields_with_their_defaults():
    taken = inspect.signature(nw.search).parameters
    assert set(taken) == set(Request.model_fields) - NOT_PYTHONS | BESIDES
    asked = Request(prompt=PROMPT)
    for name in set(Request.model_fields) - NOT_PYTHONS - {"prompt"}:
        default = taken[name].default
        assert getattr(Request(prompt=PROMPT, **{name: default}), name) == getattr(asked, name), name


def test_the_command_takes_the_fields_with_their_defaults():
    taken = inspect.signature(generate).parameters
    named = {name: OPTIONS.get(name, name) for name in set(Request.model_fields) - NOT_OPTIONS}
    assert set(taken) == set(named.values()) | COMMANDS_OWN
    asked = Request(prompt=PROMPT)
    for name, option in named.items():
        if name not in ("model", "prompt"):
            default = taken[option].default
            assert getattr(Request(prompt=PROMPT, **{name: default}), name) == getattr(asked, name), name


# A value


def test_a_request_is_frozen_and_comes_back_from_json():
    asked = Request(
        prompt=PROMPT, model="noisewright/shapes", verifier=["clip", "brightness"], judge=[], budget="64 images, 30 s",
        search_args={"n": np.int64(3), "cosine": (0.1, 0.2)}, seed=np.int64(4), guidance_scale=np.float32(2),
        target={"clip": 0.5}, loras=["a:b.safetensors:0.5", ("c.safetensors", 2)], dtype=torch.float16,
        pipeline_args={"clip_skip": 1}, keep=3,
    )  # fmt: skip
    assert read_request(json.loads(json.dumps(asked.to_json())), "x") == asked
    assert asked.budget == ["64 images", "30 seconds"]
    assert asked.judge == ["none"]
    assert asked.search_args == {"n": 3, "cosine": [0.1, 0.2]}
    assert asked.loras == [{"file": "a:b.safetensors", "weight": 0.5}, {"file": "c.safetensors", "weight": 2.0}]
    with pytest.raises(ValueError, match="frozen"):
        asked.seed = 5


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ({"ensemble": {"a": np.float32(2), "b": np.int64(1)}}, {"a": 2.0, "b": 1}),
        ({"target": {"a": np.float16(0.5)}}, {"a": 0.5}),
        ({"target": np.float64(-0.0)}, 0.0),
        ({"pipeline_args": {"gate": np.float32(1.5), "size": (1, (np.int8(2),))}}, {"gate": 1.5, "size": [1, [2]]}),
        ({"pipeline_args": {"text": "\u2028 \u00e9 \U0001f600", "none": None}}, None),
        ({"search_args": {"flag": np.bool_(True), "file": Path("a/b")}}, {"flag": True, "file": "a/b"}),
        ({"loras": [(Path("a"), np.float32(0.5)), {"file": "b:c", "weight": -1}]},
         [{"file": "a", "weight": 0.5}, {"file": "b:c", "weight": -1.0}]),
        ({"seed": 2**63 - 2**32 - 1}, None),
        ({"verifier": ("a:b,c=d,e", "f"), "judge": "none"}, ["a:b,c=d,e", "f"]),
        ({"class_label": np.int16(3)}, 3),
    ],
    ids=range(10),
)  # fmt: skip
def test_odd_values_come_back_from_json_with_one_digest(given, becomes):
    asked = Request(prompt=PROMPT, **given)
    name = next(iter(given))
    assert getattr(asked, name) == (given[name] if becomes is None else becomes)
    again = read_request(json.loads(json.dumps(asked.to_json(), allow_nan=False, sort_keys=True)), "x")
    assert again == asked
    assert again.digest == asked.digest


def test_a_request_keeps_what_it_was_given():
    mine = {"x": [1]}
    asked = Request(prompt=PROMPT, pipeline_args=mine, search_args=mine)
    digest = asked.digest
    mine["x"].append(2)
    assert asked.digest == digest


def test_the_digest_is_that_of_the_fields():
    asked = Request(prompt=PROMPT, budget=16)
    assert asked.digest == Request(prompt=PROMPT, budget="16 images", schedule="pipeline").digest
    changes = {"seed": 1, "budget": 17, "verifier": "clip", "judge": "none", "pipeline_args": {"x": 1}, "keep": 1}
    found = {asked.changed(**{name: value}).digest for name, value in changes.items()} | {asked.digest}
    assert len(found) == len(changes) + 1


def test_paths_are_resolved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "levels.json", "lora.safetensors", "model.safetensors"):
        Path(name).touch()
    Path("pipeline").mkdir()
    asked = Request(
        prompt=PROMPT, model="model.safetensors", config="pipeline", verifier="mine.py:warm",
        loras="lora.safetensors:2", schedule="levels.json", score_cache="scores",
    ).located()  # fmt: skip
    assert asked.model == f"{tmp_path}/model.safetensors"
    assert asked.config == f"{tmp_path}/pipeline"
    assert asked.verifier == [f"{tmp_path}/mine.py:warm"]
    assert asked.loras == [{"file": f"{tmp_path}/lora.safetensors", "weight": 2.0}]
    assert asked.schedule == f"{tmp_path}/levels.json"
    assert asked.score_cache == f"{tmp_path}/scores"
    assert asked.located() == asked
    assert Request(prompt=PROMPT, model="noisewright/shapes").located().model == "noisewright/shapes"
    assert Request(prompt=PROMPT, model="owner/name").located().model == "owner/name"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"prompt": ""}, "an empty one"), ({"prompt": 3}, "as text"),
        ({"bugdet": 3}, "did you mean budget?"), ({"model": 3}, "a model as a name"), ({"model": "a\nb"}, "a path"),
        ({"verifier": 3}, "a verifier as its name"), ({"verifier": []}, "at least one verifier"),
        ({"verifier": ["clip"] * 99}, "at most 64"), ({"judge": [3]}, "a judge"), ({"budget": "2 parsecs"}, "parsecs"),
        ({"search_args": {"n": math.nan}}, "finite numbers"), ({"search_args": {"n": object()}}, "plain values"),
        ({"seed": -1}, "a seed"), ({"seed": True}, "a seed"), ({"keep": 0}, "keep of at least 1"),
        ({"keep": 10**9}, "keep of at most"), ({"variant": "../x"}, "as variant"), ({"variant": ""}, "as variant"),
        ({"config": 3}, "a config as a directory"), ({"executor": 3}, "an executor as a name"),
        ({"loras": 3}, "loras as files"), ({"loras": [3]}, "loras as files"), ({"loras": ["a:nan"]}, "finite weight"),
        ({"loras": [("a", math.inf)]}, "loras"), ({"loras": [("a", "b", "c")]}, "loras"),
        ({"loras": ["a"] * 65}, "at most 64"), ({"pipeline_args": 3}, "pipeline_args as a mapping"),
        ({"pipeline_args": {"x": np.ones(2)}}, "plain values"), ({"search_args": {"n": {1: 2}}}, "plain values"),
        ({"pipeline_args": {"x": {1: 2}}}, "plain values"), ({"budget": []}, "got none"),
        ({"pipeline_args": {"seed": 3}}, "seed as a setting of its own"), ({"pipeline_args": {3: 3}}, "pipeline_args"),
        ({"height": 2**15, "width": 2**15}, "pixels"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(given, says):
    with pytest.raises((ValueError, TypeError)) as caught:
        Request(**{"prompt": PROMPT, **given})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


# Recorded by every run


@pytest.mark.slow
def test_a_run_from_python_is_resumed_from_the_shell(folder, tmp_path, capsys):
    for name, pipe in (("named", str(folder)), ("held", nw.load(str(folder), device="cpu"))):
        first = nw.search(pipe, PROMPT, verifier="brightness", out=tmp_path / name, **SHORT)
        capsys.readouterr()
        assert cli.main(["resume", str(tmp_path / name), "--budget", "3 images", "--json"]) == 0
        again = json.loads(capsys.readouterr().out)
        assert again["images"] == 3
        whole = nw.search(pipe, PROMPT, verifier="brightness", **{**SHORT, "budget": "3 images"})
        assert again["best"]["id"] == whole.best.id
        assert first.baseline.id == again["baseline"]["id"]


def test_a_run_by_a_relative_path_is_resumed_from_elsewhere(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    nw.search(folder.name, PROMPT, verifier="brightness", out=tmp_path / "run", **SHORT)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["resume", "run", "--budget", "3 images", "--json"]) == 0


@pytest.mark.slow
def test_what_no_file_holds_is_said_and_given_again(tmp_path, capsys):
    pipe = tiny.sd()
    nw.search(pipe, PROMPT, verifier=["brightness", warmth], out=tmp_path / "run", **SHORT)
    say = ("pipe= (a StableDiffusionPipeline)", "verifiers= 'warmth'", "a function of", "noisewright.resume(")
    refused(capsys, ["resume", tmp_path / "run", "--budget", "3 images"], *say)
    with pytest.raises(ValueError, match="pipe= "):
        nw.resume(tmp_path / "run", verifiers=warmth)
    with pytest.raises(ValueError, match="verifiers= 'warmth'"):
        nw.resume(tmp_path / "run", pipe)
    with pytest.raises(ValueError, match="expected verifiers that the run has, got 'cold'"):
        nw.resume(tmp_path / "run", pipe, verifiers=[warmth, cold])
    found = nw.resume(tmp_path / "run", pipe, verifiers=warmth, budget="3 images", pictures=False)
    assert found.images == 3
    assert set(found.best.scores) == {"brightness", "warmth"}
    with pytest.raises(RunMismatch, match="fingerprint"):
        nw.resume(tmp_path / "run", tiny.sd(seed=1), verifiers=warmth, budget="4 images")


def cold(images, prompt):
    return images[:, 2].mean((1, 2))


def test_a_sampler_is_given_again(tmp_path, capsys):
    sampler = MixtureSampler(steps=2, prompt=PROMPT)
    nw.search(sampler, PROMPT, verifier="brightness", out=tmp_path / "run", budget="2 images", pictures=False)
    refused(capsys, ["resume", tmp_path / "run", "--budget", "3"], "pipe= (a MixtureSampler)")
    assert nw.resume(tmp_path / "run", sampler, budget=3, pictures=False).images == 3


@pytest.mark.slow
def test_a_pipeline_that_its_name_no_longer_gives_is_said(folder, tmp_path, capsys):
    pipe = nw.load(str(folder), device="cpu")
    with torch.no_grad():
        next(pipe.unet.parameters()).mul_(1.5)
    nw.search(pipe, PROMPT, verifier="brightness", out=tmp_path / "run", **SHORT)
    refused(capsys, ["resume", tmp_path / "run", "--budget", "3"], "which is another", "pipe=...")
    assert nw.resume(tmp_path / "run", pipe, budget=3, pictures=False).images == 3


@pytest.mark.slow
def test_tensors_are_recorded_by_their_hash_and_given_again(folder, tmp_path, capsys):
    pipe = nw.load(str(folder), device="cpu")
    embeds = pipe.encode_prompt(PROMPT, "cpu", 1, True)
    given = {"prompt_embeds": embeds[0], "negative_prompt_embeds": embeds[1]}
    shape = ", ".join(map(str, embeds[0].shape))
    found = nw.search(pipe, PROMPT, verifier="brightness", out=tmp_path / "run", **given, **SHORT)
    text = nw.search(pipe, PROMPT, verifier="brightness", **SHORT)
    assert found.best.scores == text.best.scores
    record = read_run(tmp_path / "run")["request"]["pipeline_args"]["prompt_embeds"]["$tensor"]
    assert record[1:] == ["float32", list(embeds[0].shape)]
    say = (f"prompt_embeds= (a tensor of shape ({shape}))", "negative_prompt_embeds=")
    refused(capsys, ["resume", tmp_path / "run", "--budget", "3"], *say)
    assert nw.resume(tmp_path / "run", budget=3, pictures=False, **given).images == 3
    with pytest.raises(RunMismatch, match="prompt_embeds"):
        nw.resume(tmp_path / "run", budget=4, **{**given, "prompt_embeds": 2 * embeds[0]})


@pytest.mark.slow
def test_a_smaller_budget_than_is_spent_is_refused_and_not_written_down(folder, tmp_path, capsys):
    nw.search(str(folder), PROMPT, verifier="brightness", out=tmp_path / "run", **{**SHORT, "budget": "3 images"})
    before = (tmp_path / "run" / "run.json").read_bytes()
    for budget, said in (("2 images", "at least 3 images"), ("5 nfe", "at least 6 nfe"), ("0.001 s", "seconds")):
        refused(capsys, ["resume", tmp_path / "run", "--budget", budget], said, "has spent already")
        with pytest.raises(ValueError, match="has spent already"):
            nw.resume(tmp_path / "run", budget=budget)
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    assert cli.main(["resume", str(tmp_path / "run"), "--budget", "3 images"]) == 0  # as it was


@pytest.mark.slow
def test_a_target_is_changed(folder, tmp_path):
    nw.search(str(folder), PROMPT, verifier="brightness", out=tmp_path / "run", **SHORT)
    found = nw.resume(tmp_path / "run", budget="9 images", target=0.0, pictures=False)
    assert found.stopped == "target"
    assert read_run(tmp_path / "run")["request"]["target"] == 0.0


@pytest.mark.slow
def test_a_run_directory_is_data_for_python_too(folder, tmp_path):
    (tmp_path / "look.py").write_text("def score(images, prompt):\n    return [0.0] * len(images)\n")
    text = f"{tmp_path / 'look.py'}:score"
    nw.search(str(folder), PROMPT, verifier=text, out=tmp_path / "run", **SHORT)
    with pytest.raises(ValueError, match="--trust"):
        nw.resume(tmp_path / "run", budget=3)
    assert nw.resume(tmp_path / "run", budget=3, trust=True, pictures=False).images == 3


# Plans


@pytest.mark.slow
def test_a_plan_of_a_request_runs_like_the_call(folder):
    asked = Request(model=str(folder), prompt=PROMPT, verifier="brightness", budget=2, num_inference_steps=2)
    one, other = nw.plan(asked), planned(str(folder), PROMPT, verifier="brightness", budget=2, num_inference_steps=2)
    assert one.spec == other.spec
    assert one.request == other.request == asked
    held = nw.plan(asked.changed(model=None), pipe=nw.load(str(folder), device="cpu"))
    assert held.request.given_pipeline == "StableDiffusionPipeline"
    assert held.request.model == str(folder)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"executor": "local:workers=2"}, "takes no options"),
        ({"executor": "locl"}, "did you mean local?"),
        ({"config": "nowhere"}, "config"),
        ({"loras": "nowhere.safetensors"}, "not there"),
        ({"device": "cpu"}, "loaded already"),
        ({"variant": "fp16"}, "loaded already"),
        ({"search": "randm"}, "random"),
        ({"pipeline_args": {"latents": 1}}, "sets itself"),
        ({"pipeline_args": {"clip_skp": 1}}, "clip_skip"),
        ({"pipeline_args": {"gate": {"$tensor": ["0" * 64, "float32", [1]]}}}, "takes no gate"),
    ],
)
def test_a_plan_refuses(given, says):
    pipe = tiny.sd()
    with pytest.raises(ValueError, match=r"expected|unknown|takes|available") as caught:
        nw.plan(Request(prompt=PROMPT, verifier="brightness", **given), pipe=pipe)
    assert says in str(caught.value)


def test_a_plan_needs_a_pipeline():
    with pytest.raises(ValueError, match="the pipeline itself"):
        nw.plan(Request(prompt=PROMPT))


# Moved meanwhile


@pytest.mark.slow
def test_a_model_that_was_moved_is_said_and_given_from_its_new_place(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "model")
    nw.search(str(tmp_path / "model"), PROMPT, verifier="brightness", out=tmp_path / "run", **SHORT)
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    before = (tmp_path / "run" / "run.json").read_bytes()
    refused(capsys, ["resume", tmp_path / "run", "--budget", "3"], "got nothing there", "pipe=...")
    with pytest.raises(ValueError, match="got nothing there"):
        nw.resume(tmp_path / "run", budget=3)
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    with pytest.raises(RunMismatch, match="fingerprint"):
        nw.resume(tmp_path / "run", "noisewright/shapes", budget=3)
    assert nw.resume(tmp_path / "run", tmp_path / "elsewhere", budget=3, pictures=False).images == 3
    assert cli.main(["resume", str(tmp_path / "run"), "--budget", "4"]) == 0  # which remembers the new place


@pytest.mark.slow
@needs_peft
def test_a_lora_that_was_moved_is_said_and_known_by_what_it_holds(folder, tmp_path, capsys):
    file = write(tmp_path / "lora.safetensors")
    given = {"verifier": "brightness", "loras": f"{file}:0.5", "out": tmp_path / "run", **SHORT}
    nw.search(str(folder), PROMPT, **given)
    file.rename(tmp_path / "moved.safetensors")
    refused(capsys, ["resume", tmp_path / "run", "--budget", "3"], "which is not there", "loras=...")
    for weight, says in ((0.25, "fingerprint|loras"), (None, "fingerprint|loras")):
        loras = [] if weight is None else [(tmp_path / "moved.safetensors", weight)]
        with pytest.raises(RunMismatch, match=says):
            nw.resume(tmp_path / "run", nw.load(folder, device="cpu", loras=loras), budget=3)
    pipe = nw.load(folder, device="cpu", loras=[(tmp_path / "moved.safetensors", 0.5)])
    assert nw.resume(tmp_path / "run", pipe, budget=3, pictures=False).images == 3
