"""Images and schedule files are shared: they tell nothing of where things lie on the machine that made them."""

import json
import shutil

import pytest
from PIL import Image

from commands import refused
from hostile import PLAIN, with_recipe
from noisewright import cli
from noisewright.images.metadata import public, public_name
from noisewright.replay import replay
from noisewright.samplers.load import load_pipeline
from noisewright.trajectory.files import identity


@pytest.fixture
def private(saved, tmp_path):
    """A run with everything local below a directory with a person's name."""
    home = tmp_path / "home" / "jane-doe"
    home.mkdir(parents=True)
    shutil.copytree(saved, home / "my-model")
    (home / "look.py").write_text(PLAIN)
    given = ["generate", "a cat", "--model", str(home / "my-model"), "--verifier", f"{home / 'look.py'}:score"]
    more = ["--steps", "2", "--budget", "3", "--score-cache", str(home / "scores"), "--out", str(home / "run")]
    assert cli.main([*given, *more]) == 0
    search = ["--search", "refine", "--search-arg", f"start={home / 'run' / 'best.png'}"]
    search += ["--search-arg", "population=2", "--search-arg", "elites=1"]
    assert cli.main([*given, *more[:-1], str(home / "again"), *search]) == 0
    return home


@pytest.mark.slow
def test_no_picture_of_a_run_tells_a_path(private, capsys):
    pictures = [*private.glob("run/**/*.png"), *private.glob("again/**/*.png")]
    assert len(pictures) > 10
    for file in pictures:
        with Image.open(file) as opened:
            opened.load()
            said = json.dumps({key: str(value) for key, value in opened.info.items()})
        assert "jane-doe" not in said, file
        assert str(private) not in said
        assert b"jane-doe" not in file.read_bytes()
    assert str(private / "my-model") in (private / "run" / "run.json").read_text()  # so that resume finds it


@pytest.mark.slow
def test_a_picture_is_replayed_where_its_run_is_or_with_its_model(private, capsys, tmp_path):
    for source in (private / "run" / "best.png", f"{private / 'run'}:baseline", *private.glob("run/images/*.png")):
        assert replay(str(source)).identical
    shutil.copy(private / "run" / "best.png", tmp_path / "sent.png")
    refused(capsys, ["replay", tmp_path / "sent.png"], "--model DIR", "my-model")
    assert replay(str(tmp_path / "sent.png"), model=str(private / "my-model")).identical
    shutil.move(private / "my-model", private / "moved")
    refused(capsys, ["replay", private / "run" / "best.png"], "--model DIR", "my-model")
    assert replay(str(private / "run" / "best.png"), model=str(private / "moved")).identical


@pytest.mark.slow
def test_a_picture_of_before_is_still_replayed(private, tmp_path):
    place = str(private / "my-model")
    best = private / "run" / "best.png"
    old = with_recipe(best, tmp_path / "old.png", lambda one: one["sampler"].update(model=place))
    assert replay(str(old)).identical


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("noisewright/shapes", "noisewright/shapes"), ("owner/name", "owner/name"), ("/home/jane/sdxl", "sdxl"),
        ("/sdxl", "sdxl"), ("./sdxl", "sdxl"), ("../jane/sdxl", "sdxl"), ("~/jane/sdxl", "sdxl"), ("a/b/sdxl/", "sdxl"),
        ("C:\\Users\\jane\\sdxl", "sdxl"), ("\\\\server\\jane\\sdxl", "sdxl"), ("sdxl", "sdxl"),
        ("StableDiffusionPipeline", "StableDiffusionPipeline"),
    ],
)  # fmt: skip
def test_public_names(name, said):
    assert public_name(name) == said
    assert public({"sampler": {"model": name, "prompt": "x"}})["sampler"]["model"] == said


def test_a_directory_of_two_names_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jane" / "sdxl").mkdir(parents=True)
    assert public_name("jane/sdxl") == "sdxl"
    monkeypatch.chdir(tmp_path / "jane" / "sdxl")
    assert public_name(".") == "sdxl"
    assert public_name("..") == "jane"


def test_settings_that_are_paths_are_called_by_their_own_names_and_prompts_stay():
    sampler = {
        "model": "owner/name", "prompt": "/home is where the heart is", "negative_prompt_2": "/x",
        "lora": "/home/jane/a.pt",
        "scales": {"adapter": ["~/jane/b.safetensors", "C:\\jane\\c", 0.5, None]}, "guidance_scale": 4.0,
        "fraction": "1/2", "file": "file:///home/jane/d.png", "class_label": "/cat",
    }  # fmt: skip
    assert public({"sampler": sampler})["sampler"] == {
        **sampler, "lora": "a.pt", "scales": {"adapter": ["b.safetensors", "c", 0.5, None]}, "file": "d.png",
    }  # fmt: skip


def test_a_schedule_file_tells_no_path(saved):
    from noisewright.samplers.pipeline import PipelineSampler

    sampler = PipelineSampler(load_pipeline(saved, device="cpu"), "a cat", num_inference_steps=2, model=str(saved))
    assert identity(sampler)["model"] == "model"
