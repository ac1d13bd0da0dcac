"""A third party's package, installed as pip lays it out, adds one of each kind; each is used end to end."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

import noisewright as nw
import warm
from commands import done
from noisewright import registry
from noisewright.testing import (
    CONTRACT,
    Case,
    check_executor,
    check_sampler,
    check_schedule_rule,
    check_solver,
    check_verifier,
)

PLUGIN = Path(__file__).parents[1] / "plugin"


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.syspath_prepend(str(PLUGIN))
    registry.entries.cache_clear()
    yield
    registry.entries.cache_clear()


def run(*words, check=True):
    """The command line in a process of its own, where the package is installed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "noisewright", *map(str, words)]
    found = warm.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not check or found.returncode == 0, found.stderr[-1000:]
    return found


def generate(prompt, out, *words):
    """What ``generate --json`` says of a run of two steps."""
    return json.loads(run("generate", prompt, "--steps", 2, "--out", out, "--json", *words).stdout)


# In this process


@pytest.mark.sampled(4)
@pytest.mark.parametrize("check", CONTRACT.values(), ids=CONTRACT)
def test_its_search_holds_the_contract(check, installed, tmp_path):
    arguments = registry.check_arguments("example-tournament", {"pairs": 2})
    case = Case(registry.make_search("example-tournament"), arguments, nfe=lambda steps: steps * 2 * (2 + 2))
    check(case, tmp_path)


def test_its_arguments_and_options_are_checked_as_ours(installed):
    with pytest.raises(ValueError, match="did you mean pairs"):
        registry.check_arguments("example-tournament", {"pair": 2})
    assert registry.make_verifier("example-redness").name == "example-redness"
    assert registry.make_verifier("example-redness:weight=3,name=red").fingerprint == "example-redness-1-3"
    with pytest.raises(ValueError, match="did you mean weight"):
        registry.make_verifier("example-redness:wieght=3")
    with pytest.raises(ValueError, match="expected no eta for solver example-ab2"):
        registry.make_solver("example-ab2", 0.5)


@pytest.mark.slow
def test_its_solver_verifier_and_sampler_hold_theirs(installed):
    from noisewright_example.sampler import BlobPipeline, BlobSampler

    check_solver(registry.make_solver("example-ab2"), order=1.5)
    check_verifier(registry.make_verifier("example-redness"))
    pipe = BlobPipeline()
    check_sampler(BlobSampler(pipe, "a red blob"), plain=lambda seed: pipe("a red blob", 8, seed))


def test_its_sampler_is_made_of_its_pipeline(installed, tmp_path):
    from noisewright_example.sampler import BlobPipeline, BlobSampler

    pipe = BlobPipeline()
    assert registry.sampler_entry(pipe).name == "example-blobs"
    sampler = registry.make_sampler(pipe, "a red blob", {"num_inference_steps": 4, "height": None, "pipe_kwargs": {}})
    assert isinstance(sampler, BlobSampler)
    assert sampler.schedule.steps == 4
    with pytest.raises(ValueError, match="no height beside the sampler example-blobs, which has its own, got 64"):
        registry.make_sampler(pipe, "a red blob", {"height": 64})
    result = nw.search(pipe, "a red blob", verifier="example-redness", budget="3 images", out=tmp_path / "run")
    torch.testing.assert_close(result.baseline.scores["example-redness"], redness_of(pipe("a red blob", 8, 0)))
    with pytest.raises(ValueError, match="expected a prompt with one of red"):
        nw.search(pipe, "a square", verifier="example-redness", budget="3 images", out=tmp_path / "none")
    with pytest.raises(ValueError, match="takes no colour"):
        nw.search(pipe, "a red blob", verifier="example-redness", colour=3)


def redness_of(image):
    return float((image[0] - image[1:].mean(0)).mean())


def test_a_class_derived_from_its_pipeline_is_taken_too(installed):
    from noisewright_example.sampler import BlobPipeline

    assert registry.sampler_entry(type("Mine", (BlobPipeline,), {})()).name == "example-blobs"


def test_its_schedule_places_levels_on_any_model(installed):
    from noisewright.diffusion.clock import Clock
    from noisewright.diffusion.schedules import named_schedule

    made = named_schedule(registry.schedule_rule("example-arctan"), Clock("flow"), 5)
    assert made.steps == 5
    assert made.sigma[-1] == 0
    check_schedule_rule(registry.schedule_rule("example-arctan").levels)
    with pytest.raises(ValueError, match="did you mean example-arctan"):
        registry.schedule_rule("example-actan")


# On the command line


def test_all_are_listed(installed, capsys):
    for kind, name in (
        ("searches", "example-tournament"), ("verifiers", "example-redness"), ("solvers", "example-ab2"),
        ("schedules", "example-arctan"), ("models", "example/blobs"), ("executors", "example-eager"),
        ("samplers", "example-blobs"),
    ):  # fmt: skip
        assert name in done(capsys, ["list", kind])


@pytest.mark.slow
def test_search_verifier_solver_and_schedule_on_the_bundled_model(tmp_path):
    found = generate(
        "one red circle", tmp_path / "run", "--search", "example-tournament", "--search-arg", "pairs=1", "--verifier",
        "example-redness:weight=2", "--judge", "none", "--solver", "example-ab2", "--schedule", "example-arctan",
    )  # fmt: skip
    assert found["nfe"] == 2 * (2 + 2)
    assert set(found["best"]["scores"]) == {"example-redness"}
    spec = json.loads((tmp_path / "run" / "run.json").read_text())["spec"]["sampler"]
    assert (spec["solver"], spec["levels"]) == ("example-ab2", "example-arctan")
    same = run("replay", tmp_path / "run" / "best.png").stdout
    assert "identical" in same or "same" in same


@pytest.mark.slow
def test_its_model_goes_through_its_sampler_and_is_resumed(tmp_path):
    words = ["--model", "example/blobs", "--verifier", "example-redness", "--solver", "example-ab2"]
    found = generate("a red blob", tmp_path / "run", *words, "--budget", "2 images")
    assert found["images"] == 2
    again = json.loads(run("resume", tmp_path / "run", "--budget", "4 images", "--json").stdout)
    assert again["images"] == 4
    assert again["baseline"]["scores"] == found["baseline"]["scores"]
    refused = run("generate", "a red blob", *words, "--width", 64, "--height", 64, check=False)
    assert refused.returncode == 2
    assert "expected no height beside the sampler example-blobs" in refused.stderr


@pytest.mark.slow
def test_its_executor_writes_the_same_journal(tmp_path):
    found = {}
    for executor in ("local", "example-eager"):
        out = tmp_path / executor
        words = ["--model", "example/blobs", "--verifier", "example-redness", "--budget", "5 images"]
        found[executor] = generate("a red blob", out, *words, "--executor", executor)
        assert json.loads((out / "run.json").read_text())["request"]["executor"] == executor
    assert found["local"]["best"]["id"] == found["example-eager"]["best"]["id"]
    assert found["local"]["best"]["scores"] == found["example-eager"]["best"]["scores"]
    refused = run("generate", "a red blob", "--executor", "example-eagre", check=False)
    assert refused.returncode == 2
    assert "did you mean example-eager" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_its_executor_holds_the_contract(installed, tmp_path):
    check_executor(lambda: registry.make_executor("example-eager"), tmp_path)


@pytest.mark.slow
def test_what_its_verifier_says_of_a_prompt_costs_nothing(tmp_path):
    found = run(
        "generate", "one blue circle", "--verifier", "example-redness", "--out", tmp_path / "run", check=False
    )  # fmt: skip
    assert found.returncode == 2
    assert "expected a prompt without blue for example-redness" in found.stderr
    assert not (tmp_path / "run" / "images").exists()
