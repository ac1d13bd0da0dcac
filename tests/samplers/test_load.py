"""What a pipeline is loaded from: variants of weights, single-file checkpoints, and what is no such thing."""

import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

import ldm
import tiny
from noisewright import registry
from noisewright.samplers.fingerprint import fingerprint
from noisewright.samplers.load import load_pipeline
from noisewright.samplers.source import source_of

PROMPT = "two red circles"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny Stable Diffusion on disk, in half precision too."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny.sd().save_pretrained(folder)
    tiny.sd().to(torch.float16).save_pretrained(folder, variant="fp16")
    return folder


@pytest.fixture
def model(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def image(pipe):
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(3)
    return pipe(PROMPT, num_inference_steps=3, generator=generator, output_type="pt").images


def line(function, *args, **kwargs):
    """The one line that something is refused with."""
    with pytest.raises((ValueError, TypeError)) as caught:
        function(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


# Variants


@pytest.mark.slow
def test_a_variant_is_what_diffusers_loads(saved):
    from diffusers import StableDiffusionPipeline

    found = load_pipeline(saved, "cpu", variant="fp16")
    plain = StableDiffusionPipeline.from_pretrained(saved, variant="fp16", torch_dtype=torch.float32)
    assert torch.equal(image(found), image(plain))
    assert not torch.equal(image(found), image(load_pipeline(saved, "cpu")))  # half precision rounds
    assert source_of(found).to_json() == {"variant": "fp16"}
    assert source_of(load_pipeline(saved, "cpu")).to_json() == {}


def test_a_variant_that_is_not_there_names_those_that_are(model):
    assert "it has the variant fp16" in line(load_pipeline, model, variant="bf16")
    for file in model.rglob("*.fp16.safetensors"):
        file.rename(file.with_name(file.name.replace("fp16", "ema")))
    (model / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"")
    assert "it has the variants ema, fp16" in line(load_pipeline, model, variant="int8")
    for file in [*model.rglob("*.ema.safetensors"), *model.rglob("*.fp16.safetensors")]:
        file.unlink()
    assert line(load_pipeline, model, variant="fp16").endswith("it has none")


def test_weights_that_are_there_only_as_a_variant_say_so(model):
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert "--variant fp16" in line(load_pipeline, model)
    assert image(load_pipeline(model, "cpu", variant="fp16")).isfinite().all()


@pytest.mark.slow
def test_parts_of_a_variant_are_its_own(model, saved):
    unet = tiny.sd().unet.to(torch.float16)
    shutil.rmtree(model / "unet")
    unet.save_pretrained(model / "unet", variant="fp16", max_shard_size="50KB")
    assert len(list((model / "unet").glob("*.safetensors"))) > 1
    found, whole = (image(load_pipeline(one, "cpu", variant="fp16")) for one in (model, saved))
    assert torch.equal(found, whole)
    assert "--variant fp16" in line(load_pipeline, model)


@pytest.mark.parametrize("name", ["", "..", "fp 16", ".*", "a/b", "\n", "x" * 200])
def test_a_variant_is_a_plain_name(saved, name):
    assert "expected a variant" in line(load_pipeline, saved, variant=name)


def test_a_variant_is_text(saved):
    with pytest.raises(TypeError, match="expected a variant as text such as fp16, got int"):
        load_pipeline(saved, variant=16)


# Single files


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return ldm.save(tiny.sd(), tmp_path_factory.mktemp("single") / "one.safetensors")


@pytest.fixture
def config(saved, tmp_path):
    """The configurations of a pipeline without any weights, as ``hf download --include`` leaves them."""
    folder = tmp_path / "config"
    shutil.copytree(saved, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def test_a_single_file_gives_the_images_of_its_pipeline(single, config):
    pipe = load_pipeline(single, "cpu", config=config)
    assert torch.equal(image(pipe), image(tiny.sd()))
    assert fingerprint(pipe) == fingerprint(tiny.sd())
    assert pipe.name_or_path == str(single)
    assert source_of(pipe).to_json() == {"config": str(config)}


def test_a_single_file_is_read_in_the_precision_that_was_asked_for(single, config):
    pipe = load_pipeline(single, "cpu", "float16", config=config)
    assert {one.dtype for one in pipe.unet.parameters()} == {torch.float16}


def test_a_part_that_a_single_file_leaves_out_comes_from_the_config(tmp_path, saved, config):
    texts = {key: None for key in ldm.state_dict(tiny.sd()) if key.startswith("cond_stage_model.")}
    file = ldm.save(tiny.sd(), tmp_path / "no-texts.safetensors", **texts)
    assert torch.equal(image(load_pipeline(file, "cpu", config=saved)), image(tiny.sd()))
    assert "which has no weights of text_encoder" in line(load_pipeline, file, config=config)


def test_a_file_of_which_nothing_is_taken_is_no_checkpoint_beside_a_whole_pipeline(tmp_path, saved):
    path = tmp_path / "file.safetensors"
    save_file({"x": torch.ones(2)}, path)
    assert "which has no weights of unet" in line(load_pipeline, path, config=saved)


def text(path):
    path.write_text("a red circle\n" * 20)


def torn(path):
    ldm.save(tiny.sd(), path)
    path.write_bytes(path.read_bytes()[:-100])


def torn_header(path):
    ldm.save(tiny.sd(), path)
    path.write_bytes(path.read_bytes()[:200])


def header(held):
    def write(path):
        path.write_bytes(struct.pack("<Q", len(held)) + held)

    return write


def lora(path):
    save_file({"unet.mid.to_q.lora_A.weight": torch.ones(1, 4), "unet.mid.to_q.lora_B.weight": torch.ones(4, 1)}, path)


def vae(path):
    save_file({key: one for key, one in ldm.state_dict(tiny.sd()).items() if key.startswith("first_stage")}, path)


def unet(path):
    save_file({key: one for key, one in ldm.state_dict(tiny.sd()).items() if key.startswith("model.")}, path)


def pickle_inside(path):
    torch.save(ldm.state_dict(tiny.sd()), path)


NO_CHECKPOINTS = {
    "text": (text, "which is text"),
    "empty": (lambda path: path.write_bytes(b""), "which is empty"),
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 9), "which is none"),
    "torn": (torn, "which is torn"),
    "torn header": (torn_header, "which is none"),
    "no JSON": (header(b"{" * 64), "whose header is damaged"),
    "deep": (header(b"[" * 10**6), "whose header is damaged"),
    "a list": (header(b"[1, 2]"), "whose header is damaged"),
    "no offsets": (header(b'{"a": {"shape": [1]}}'), "whose header is damaged"),
    "nothing": (header(b"{}"), "which holds no weights"),
    "GGUF": (lambda path: path.write_bytes(b"GGUF" + bytes(100)), "which is GGUF"),
    "pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "pickle": (pickle_inside, "pickles can run code"),
    "LoRA": (lora, "which is a LoRA: --lora"),
    "VAE": (vae, "which holds a VAE alone"),
    "unet alone": (unet, "which has no weights of"),
    "a component": (lambda path: save_file(tiny.sd().unet.state_dict(), path), "which"),
}


@pytest.mark.parametrize("name", NO_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint_is_told_in_one_line(name, tmp_path, config):
    write, said = NO_CHECKPOINTS[name]
    path = tmp_path / "file.safetensors"
    write(path)
    assert said in line(load_pipeline, path, config=config)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin", ".CKPT"])
def test_a_pickle_is_refused_with_the_way_to_convert_it(suffix, tmp_path, config):
    path = tmp_path / f"file{suffix}"
    pickle_inside(path)
    said = line(load_pipeline, path, config=config)
    assert "pickles can run code" in said
    assert "safetensors.torch.save_file(torch.load(FILE, weights_only=True), NEW)" in said
    save_file(torch.load(path, weights_only=True), tmp_path / "new.safetensors")  # as it says
    assert image(load_pipeline(tmp_path / "new.safetensors", "cpu", config=config)).isfinite().all()


def test_a_file_by_another_name_is_told(single, tmp_path, config):
    path = tmp_path / "one.sft"
    shutil.copy(single, path)
    assert "whose name does not end in .safetensors" in line(load_pipeline, path, config=config)


def test_a_file_that_is_not_there_is_told(tmp_path, config):
    assert "which does not exist" in line(load_pipeline, tmp_path / "none.safetensors", config=config)
    assert "which does not exist" in line(load_pipeline, tmp_path / "none.ckpt", config=config)


def deeper(pipe):
    from diffusers import UNet2DConditionModel

    made = UNet2DConditionModel.from_config(pipe.unet.config, layers_per_block=2)
    return type(pipe)(**{**pipe.components, "unet": made}, requires_safety_checker=False)


def wider(pipe):
    from diffusers import UNet2DConditionModel

    made = UNet2DConditionModel.from_config(pipe.unet.config, block_out_channels=(16, 64))
    return type(pipe)(**{**pipe.components, "unet": made}, requires_safety_checker=False)


def longer(pipe):
    config = type(pipe.text_encoder.config)(**{**pipe.text_encoder.config.to_dict(), "num_hidden_layers": 3})
    made = type(pipe.text_encoder)(config)
    return type(pipe)(**{**pipe.components, "text_encoder": made}, requires_safety_checker=False)


@pytest.mark.slow
@pytest.mark.parametrize("change", [deeper, wider, longer])
def test_a_file_of_another_model_than_the_config_is_refused_either_way(change, single, config, tmp_path):
    other = change(tiny.sd())
    file = ldm.save(other, tmp_path / "other.safetensors")
    other.save_pretrained(tmp_path / "other")
    assert "expected a checkpoint of the" in line(load_pipeline, file, "cpu", config=config)
    assert "expected a checkpoint of the" in line(load_pipeline, single, "cpu", config=tmp_path / "other")
    assert image(load_pipeline(file, "cpu", config=tmp_path / "other")).isfinite().all()


@pytest.mark.slow
def test_a_weight_that_is_left_out_is_missed(tmp_path, config):
    for key in ("model.diffusion_model.out.2.weight", "first_stage_model.post_quant_conv.weight",
                "cond_stage_model.transformer.text_model.final_layer_norm.bias"):  # fmt: skip
        file = ldm.save(tiny.sd(), tmp_path / "file.safetensors", **{key: None})
        assert "which lacks" in line(load_pipeline, file, "cpu", config=config)


def test_a_config_brings_no_code(single, config, tmp_path):
    marker = tmp_path / "it-ran"
    (config / "unet" / "look.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    index = json.loads((config / "model_index.json").read_text())
    (config / "model_index.json").write_text(json.dumps({**index, "unet": ["look", "score"]}))
    assert "code of its own is never run" in line(load_pipeline, single, config=config)
    assert not marker.exists()


def test_a_config_is_the_directory_of_a_pipeline(single, tmp_path, saved):
    assert "expected a config directory with model_index.json" in line(load_pipeline, single, config=tmp_path)
    assert "a file" in line(load_pipeline, single, config=single)
    assert "which is not here" in line(load_pipeline, single, config=tmp_path / "none")
    assert "expected no config" in line(load_pipeline, saved, config=saved)
    assert "expected no variant" in line(load_pipeline, single, variant="fp16", config=saved)


def test_a_pipeline_that_no_single_file_is_of_is_told(single, tmp_path):
    tiny.class_flow().save_pretrained(tmp_path / "flow")
    assert "expected a pipeline that single files are of" in line(load_pipeline, single, config=tmp_path / "flow")


def test_a_damaged_file_among_good_names_is_told(tmp_path, config):
    held = load_file(ldm.save(tiny.sd(), tmp_path / "a.safetensors"))
    held["model.diffusion_model.out.2.weight"] = torch.ones(3)
    save_file(held, tmp_path / "b.safetensors")
    assert "whose weights do not fit" in line(load_pipeline, tmp_path / "b.safetensors", config=config)


def test_the_registry_passes_files_on(single):
    assert registry.find_model(str(single)) == str(single)
    assert registry.find_model("none.safetensors") == "none.safetensors"


def test_loading_says_nothing_and_leaves_the_libraries_as_they_were(single, config, saved, capfd, recwarn):
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    for one in libraries:
        one.enable_progress_bar()
    before = [one.get_verbosity() for one in libraries]
    load_pipeline(single, "cpu", config=config)
    load_pipeline(saved, "cpu", variant="fp16")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert [one.get_verbosity() for one in libraries] == before
    assert all(one.is_progress_bar_enabled() for one in libraries)
