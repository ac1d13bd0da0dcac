"""Arguments of the pipeline's call in runs and recipes: told apart, continued, replayed; those of earlier versions."""

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
from noisewright.images.metadata import encode_png, read_recipe
from noisewright.replay import replay
from noisewright.run.reading import read_journal, read_run
from noisewright.samplers.fingerprint import older_fingerprint
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.settings import Description, older_settings, restored

PROMPT = "two red circles"


def control():
    sd = tiny.sd()
    torch.manual_seed(3)
    network = ControlNetModel.from_unet(sd.unet, conditioning_embedding_out_channels=(16, 32)).eval()
    with torch.no_grad():
        for one in network.parameters():
            one.add_(torch.randn_like(one) * 0.05)
    parts = {key: value for key, value in sd.components.items() if key != "image_encoder"}
    pipe = StableDiffusionControlNetPipeline(**parts, controlnet=network, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, make in (("control", control), ("sdxl", tiny.sdxl), ("sd", tiny.sd)):
        make().save_pretrained(root / name, safe_serialization=True)
    return root


def stripes(shift=0):
    rows = (np.arange(32) * 8 + shift) % 256
    return Image.fromarray(np.broadcast_to(rows[None, :, None], (32, 32, 3)).astype(np.uint8))


def search(pipe, out, **more):
    given = {"verifier": "brightness", "budget": "2 images", "num_inference_steps": 2, "guidance_scale": 3.0, **more}
    return nw.search(pipe, PROMPT, out=out, pictures=False, **given)


# One run, another run


def tensor(value=0.0):
    made = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made[0, 1, 16, 16] = value
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (tensor, lambda: tensor(1.0)),
        (lambda: tensor().numpy().transpose(0, 2, 3, 1), lambda: tensor(1.0).numpy().transpose(0, 2, 3, 1)),
        (stripes, lambda: stripes(1)),
        (lambda: [stripes()], lambda: [stripes(1)]),
    ],
    ids=["tensor", "array", "image", "list"],
)
def test_another_control_image_is_another_run(tmp_path, one, other):
    pipe = control()
    first = search(pipe, tmp_path / "run", image=one())
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(RunMismatch, match="expected image ") as caught:
        search(pipe, tmp_path / "run", image=other())
    assert "\n" not in str(caught.value)
    was, got = str(caught.value).split("expected image ")[1].split(", got ")
    assert was != got
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before

    again = search(pipe, tmp_path / "run", image=one(), budget="3 images")  # an equal one, at another address
    assert again.images == 3
    assert {c.id for c in first.candidates} <= {c.id for c in again.candidates}
    made = search(pipe, tmp_path / "new", image=other(), budget="3 images")
    assert [c.id for c in made.candidates] == [c.id for c in again.candidates]
    assert made.best.scores != again.best.scores


def test_what_is_recorded_is_what_is_used():
    image = tensor()
    sampler = PipelineSampler(control(), PROMPT, num_inference_steps=2, pipe_kwargs={"image": image})
    described = sampler.description
    before = sampler.denoise(sampler.noise([1]), 0, 2)[0]
    image.zero_()  # the caller's
    described["image"]["$tensor"] = "mine"
    assert torch.equal(sampler.denoise(sampler.noise([1]), 0, 2)[0], before)
    assert sampler.description["image"] == PipelineSampler(
        control(), PROMPT, num_inference_steps=2, pipe_kwargs={"image": tensor()}
    ).description["image"]


@pytest.mark.parametrize("value", [object(), lambda: 0, iter([1]), [{"a": print}]])
def test_what_cannot_be_recorded_is_refused_before_anything_is_spent(tmp_path, value):
    with pytest.raises(TypeError, match=r"^expected .* for cross_attention_kwargs, got a \w+$"):
        search(tiny.sd(), tmp_path / "run", cross_attention_kwargs=value)
    assert not (tmp_path / "run").exists()


# Replayed


@pytest.mark.slow
def test_arguments_come_back_from_a_recipe_as_they_were_given(models, tmp_path):
    given = {"original_size": (64, 64), "crops_coords_top_left": (np.int64(8), 8), "guidance_rescale": np.float32(0.25),
             "target_size": torch.Size([64, 64]), "negative_prompt": "a dog"}  # fmt: skip
    pipe = nw.load(str(models / "sdxl"), device="cpu")
    found = search(pipe, tmp_path / "run", **given)
    plain = pipe(PROMPT, num_inference_steps=2, guidance_scale=3.0, generator=torch.Generator().manual_seed(0),
                 output_type="pt", **given).images[0]  # fmt: skip
    shown = torch.from_numpy(np.asarray(found.baseline.image).copy()).permute(2, 0, 1) / 255
    assert (shown - plain).abs().max() < 1.5 / 255
    _, recipe = read_recipe(found.best.file)
    made = restored({key: recipe["sampler"][key] for key in given}, None, older=False)
    assert made == {"original_size": (64, 64), "crops_coords_top_left": (8, 8), "guidance_rescale": 0.25,
                    "target_size": (64, 64), "negative_prompt": "a dog"}  # fmt: skip
    assert all(isinstance(made[key], tuple) for key in ("original_size", "target_size"))
    for one in ("best", "baseline"):
        assert replay(f"{tmp_path / 'run'}:{one}").identical


@pytest.mark.slow
def test_an_image_is_given_again(models, tmp_path, capsys):
    pipe = nw.load(str(models / "control"), device="cpu")
    more = {"controlnet_conditioning_scale": 0.7}
    source = str(search(pipe, tmp_path / "run", image=stripes(), **more).best.file)
    capsys.readouterr()
    assert cli.main(["replay", source]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "expected the image that" in err
    assert "pipe_kwargs" in err
    assert replay(source, pipe_kwargs={"image": stripes()}).identical
    assert replay(source, pipe_kwargs={"image": stripes(), **more}).identical
    with pytest.raises(RunMismatch, match="expected the image that the image was made with, "):
        replay(source, pipe_kwargs={"image": stripes(1)})
    with pytest.raises(RunMismatch, match="expected the controlnet_conditioning_scale"):
        replay(source, pipe_kwargs={"image": stripes(), "controlnet_conditioning_scale": 0.8})
    with pytest.raises(ValueError, match="got control_image, which was not given then"):
        replay(source, pipe_kwargs={"control_image": stripes()})
    again = tmp_path / "again.png"
    assert replay(source, pipe_kwargs={"image": stripes()}, out=again).identical
    assert replay(str(again), model=str(models / "control"), pipe_kwargs={"image": stripes()}).identical


@pytest.mark.parametrize("held", [{"$tuple": 3}, {"$what": 1}, {"$dtype": "zeros"}])
def test_a_damaged_argument_is_one_line(models, tmp_path, capsys, held):
    found = search(nw.load(str(models / "sd"), device="cpu"), tmp_path / "run", guidance_rescale=0.1)
    pixels, recipe = read_recipe(found.best.file)
    recipe["sampler"]["guidance_rescale"] = held
    (tmp_path / "odd.png").write_bytes(encode_png(pixels, recipe))
    capsys.readouterr()
    assert cli.main(["replay", str(tmp_path / "odd.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# Of earlier versions


def as_earlier(root, pipe, settings):
    """A run as earlier versions recorded it: another fingerprint, and arguments as Python shows them."""
    older = {"fingerprint": older_fingerprint(pipe), **older_settings(settings)}
    run = read_run(root)
    run["spec"]["sampler"].update(older)
    (root / "run.json").write_text(json.dumps(run))
    for file in [*root.glob("*.png"), *root.glob("images/*.png")]:
        if file.name in ("best.png", "baseline.png") or file.parent.name == "images":
            pixels, recipe = read_recipe(file)
            recipe["sampler"].update(older)
            file.write_bytes(encode_png(pixels, recipe))


@pytest.mark.slow
def test_an_earlier_run_goes_on_and_is_replayed(models, tmp_path, capsys):
    pipe = nw.load(str(models / "sdxl"), device="cpu")
    given = {"original_size": (64, 64), "target_size": (64, 64), "negative_prompt": "(64, 64)", "guidance_rescale": 0.1,
             "prompt_2": "a dog"}  # fmt: skip
    search(pipe, tmp_path / "run", **given)
    as_earlier(tmp_path / "run", pipe, given)
    assert read_run(tmp_path / "run")["spec"]["sampler"]["original_size"] == "(64, 64)"
    assert cli.main(["show", str(tmp_path / "run")]) == 0
    assert replay(f"{tmp_path / 'run'}:best").identical
    with pytest.raises(RunMismatch, match="expected original_size "):
        search(pipe, tmp_path / "run", **{**given, "original_size": (64, 63)})
    with pytest.raises(RunMismatch, match="expected fingerprint "):
        search(tiny.sdxl(seed=1), tmp_path / "run", **given)
    lines = len(read_journal(tmp_path / "run"))
    found = search(pipe, tmp_path / "run", budget="3 images", **given)
    assert found.images == 3
    assert len(read_journal(tmp_path / "run")) > lines
    assert read_run(tmp_path / "run")["spec"]["sampler"]["fingerprint"].startswith("2:")  # from now on


@pytest.mark.slow
def test_an_earlier_run_with_a_tensor_goes_on(models, tmp_path):
    pipe = nw.load(str(models / "control"), device="cpu")
    search(pipe, tmp_path / "run", image=tensor())
    as_earlier(tmp_path / "run", pipe, {"image": tensor()})
    source = str(tmp_path / "run" / "best.png")
    with pytest.raises(ValueError, match=r"expected the image that .* holds only what Python shows of it"):
        replay(source)
    assert replay(source, pipe_kwargs={"image": tensor()}).identical
    with pytest.raises(RunMismatch, match="expected the image"):
        replay(source, pipe_kwargs={"image": tensor()[..., :16]})
    assert search(pipe, tmp_path / "run", image=tensor(), budget="3 images").images == 3


@pytest.mark.slow
def test_an_earlier_image_with_an_address_is_compared_by_its_pixels(models, tmp_path):
    pipe = nw.load(str(models / "control"), device="cpu")
    search(pipe, tmp_path / "run", image=stripes())
    as_earlier(tmp_path / "run", pipe, {"image": stripes()})
    source = str(tmp_path / "run" / "best.png")
    with pytest.raises(ValueError, match="what Python shows of it"):
        replay(source)
    assert replay(source, pipe_kwargs={"image": stripes()}).identical
    assert not replay(source, pipe_kwargs={"image": stripes(100)}).identical


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(64, 64)", (64, 64)), ("[1, 2]", [1, 2]), ("{'scale': 0.5}", {"scale": 0.5}), ("a dog", "a dog"),
        ("64", "64"), ("(a dog)", "(a dog)"), ("(1,  2)", "(1,  2)"), ("None", "None"),
        ("((" * 500, "((" * 500), ("", ""),
    ],
)  # fmt: skip
def test_what_python_showed_is_read(text, value):
    assert restored({"extra": text}, None, older=True) == {"extra": value}
    assert restored({"negative_prompt": text}, None, older=True) == {"negative_prompt": text}
    assert restored({"extra": text}, None, older=False) == {"extra": text}


@pytest.mark.parametrize(
    "text",
    ["tensor([[0., 1.]])", "<PIL.Image.Image image mode=RGB size=8x8 at 0x7F00AB>", "array([1, 2])", "[tensor([1])]",
     "<function f at 0x7f00ab>", "<PIL.Image.Image image mode=RGB size=8x8 at 0x7f00ab>"],
)  # fmt: skip
def test_what_python_showed_of_objects_is_refused(text):
    with pytest.raises(ValueError, match="expected the extra that"):
        restored({"extra": text}, None, older=True)


def test_a_description_in_the_form_of_its_record():
    sampler = PipelineSampler(tiny.sd(), PROMPT, num_inference_steps=2, pipe_kwargs={"guidance_rescale": 0.5})
    now = sampler.description
    assert isinstance(now, Description)
    assert json.loads(json.dumps(now)) == now
    assert now.as_recorded(dict(now)) == now
    older = now.as_recorded({"fingerprint": older_fingerprint(sampler.pipe)})
    assert older == {**now, "fingerprint": older_fingerprint(sampler.pipe)}
    assert now.as_recorded({"fingerprint": "0" * 16})["fingerprint"] == now["fingerprint"]
    assert now.as_recorded({}) == now
