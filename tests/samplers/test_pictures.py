"""Images that are given by their files: opened, recorded, continued and made again with the same pixels or not."""

import json

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from PIL import Image

import noisewright as nw
import tiny
from noisewright import cli
from noisewright.errors import RunMismatch
from noisewright.replay import replay
from noisewright.samplers.identity import canonical
from noisewright.samplers.pictures import as_recorded, from_record, names_file
from noisewright.schemas.typed import read_pipeline_args


def controlled():
    """Stable Diffusion with a ControlNet whose output is not zero."""
    pipe = tiny.sd()
    torch.manual_seed(1)
    net = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(8, 8))
    for one in net.parameters():
        torch.nn.init.normal_(one, std=0.1)
    return StableDiffusionControlNetPipeline(
        **{**pipe.components, "controlnet": net.eval()}, requires_safety_checker=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "controlled"
    controlled().save_pretrained(path)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(values).save("a.png")
    Image.fromarray(255 - values).save("b.png")
    (tmp_path / "text.png").write_text("no image")
    return tmp_path


def test_a_record_is_the_path_and_the_pixels(here):
    record = as_recorded(here / "a.png", "image")
    assert names_file(record)
    assert record["$file"][0] == str(here / "a.png")
    found = from_record(json.loads(json.dumps(record)), "image")
    assert canonical(found, "image")["$image"] == record["$file"][1:]
    assert canonical(Image.open("a.png").convert("RGB"), "image") == canonical(found, "image")
    several = as_recorded([here / "a.png", here / "b.png"], "image")
    assert [one.size for one in from_record(several, "image")] == [(32, 32)] * 2
    (here / "b.png").replace(here / "a.png")
    with pytest.raises(RunMismatch, match="got another image"):
        from_record(record, "image")
    (here / "a.png").unlink()
    with pytest.raises(ValueError, match="which is not there"):
        from_record(record, "image")


def test_what_is_typed_names_files(here):
    found = read_pipeline_args(["image=a.png", 'mask-image="b.png"', 'control_image=["a.png", "b.png"]',
                                "image_guidance_scale=1.5", "strength=0.5"])  # fmt: skip
    assert {name: str(one) for name, one in found.items()} == {
        "image": "a.png", "mask_image": "b.png", "control_image": str([*map(type(here), ("a.png", "b.png"))]),
        "image_guidance_scale": "1.5", "strength": "0.5",
    }  # fmt: skip


def common(folder):
    return ["generate", "a cat", "--model", str(folder), "--steps", "2", "--verifier", "sharpness"]


@pytest.mark.slow
def test_the_command_line_takes_an_image(here, folder, capsys):
    given = [*common(folder), "--budget", "2", "--pipeline-arg"]
    scores = {}
    for name in ("a", "b"):
        assert cli.main([*given, f"image={name}.png", "--out", name, "--json"]) == 0
        scores[name] = json.loads(capsys.readouterr().out)["best"]["scores"]
    assert scores["a"] != scores["b"], "the image matters"
    held = json.loads((here / "a" / "run.json").read_text())
    assert held["request"]["pipeline_args"]["image"]["$file"][0] == str(here / "a.png")
    assert held["spec"]["sampler"]["image"]["$image"] == held["request"]["pipeline_args"]["image"]["$file"][1:]
    assert cli.main(["resume", "a", "--budget", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3
    assert replay("a:best").identical

    (here / "a.png").rename(here / "moved.png")
    assert cli.main(["resume", "a", "--budget", "4"]) == 2
    assert "a.png" in capsys.readouterr().err
    assert cli.main(["replay", "a:best", "--pipeline-arg", "image=moved.png"]) == 0
    capsys.readouterr()
    (here / "b.png").rename(here / "a.png")
    assert cli.main(["replay", "a:best"]) == 2
    assert "another image" in capsys.readouterr().err


@pytest.mark.slow
def test_python_takes_a_path_and_an_image_alike(here, folder):
    more = {"verifier": "sharpness", "budget": "1 images", "num_inference_steps": 2, "pictures": False}
    paths = [nw.search(str(folder), "a cat", image=one, **more).best.scores for one in ("a.png", here / "a.png")]
    (here / "c").mkdir()
    assert paths[0] == paths[1] == nw.search(str(folder), "a cat", image=Image.open("a.png"), **more).best.scores


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "expected an image as image for StableDiffusionControlNetPipeline, got none: --pipeline-arg image=FILE"),
        (["--pipeline-arg", "image=nowhere.png"], "which is not there"),
        (["--pipeline-arg", "image=text.png"], "expected a readable image"),
        (["--pipeline-arg", "control_image=a.png"], "takes no control_image; did you mean image?"),
        (["--pipeline-arg", "image=a.png", "--pipeline-arg", "clip_skip=a.png"], "NAME=JSON"),
    ],
)
def test_the_command_line_refuses_in_one_line(here, folder, capsys, more, says):
    capsys.readouterr()
    assert cli.main([*common(folder), *more, "--budget", "2", "--out", "run"]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert (out, err.count("\n")) == ("", 1)
    assert not (here / "run").exists()
