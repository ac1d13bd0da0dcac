"""LoRA files: what diffusers makes of them, what is refused, and how runs and recipes know them again."""

import importlib.util
import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

import tiny
from loras import PLACE, needs_peft, weights, write
from noisewright.samplers.fingerprint import fingerprint
from noisewright.samplers.load import load_pipeline
from noisewright.samplers.lora import add_loras, read_loras
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.source import source_of

PROMPT = "two red circles"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny.sd().save_pretrained(folder)
    return folder


def image(pipe):
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(3)
    return pipe(PROMPT, num_inference_steps=3, generator=generator, output_type="pt").images


def line(function, *args, **kwargs):
    with pytest.raises((ValueError, TypeError)) as caught:
        function(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


# With peft


@pytest.mark.slow
@needs_peft
@pytest.mark.parametrize("weight", [1.0, 0.4, -0.5, 0.0])
def test_a_lora_is_what_diffusers_makes_of_it(weight, tmp_path, saved):
    file = write(tmp_path / "style.safetensors")
    found = load_pipeline(saved, "cpu", loras=[(file, weight)])
    plain = tiny.sd()
    plain.load_lora_weights(str(file), adapter_name="style")
    plain.set_adapters(["style"], [weight])
    assert torch.equal(image(found), image(plain))
    assert torch.equal(image(found), image(tiny.sd())) == (weight == 0)


@needs_peft
def test_several_are_added_with_their_weights(tmp_path, saved):
    one, two = write(tmp_path / "1.safetensors"), write(tmp_path / "2.safetensors", weights(1, text=False))
    found = load_pipeline(saved, "cpu", loras=[(one, 0.5), (two, 0.7)])
    plain = tiny.sd()
    plain.load_lora_weights(str(one), adapter_name="a")
    plain.load_lora_weights(str(two), adapter_name="b")
    plain.set_adapters(["a", "b"], [0.5, 0.7])
    assert torch.equal(image(found), image(plain))


@pytest.mark.slow
@needs_peft
def test_names_of_other_trainers_are_understood(tmp_path, saved):
    held = {}
    for key, one in weights(text=False).items():
        layer, _, side = key.removeprefix("unet.").removesuffix(".weight").rpartition(".")
        name = f"lora_unet_{layer.replace('.', '_')}"
        held[f"{name}.lora_{'down' if side == 'lora_A' else 'up'}.weight"] = one
        held[f"{name}.alpha"] = torch.tensor(1.0)  # of rank 2: half of the change
    file = write(tmp_path / "kohya.safetensors", held)
    plain = tiny.sd()
    plain.load_lora_weights(str(file))
    found = image(load_pipeline(saved, "cpu", loras=[(file, 1.0)]))
    assert torch.equal(found, image(plain))
    half = load_pipeline(saved, "cpu", loras=[(write(tmp_path / "half.safetensors", weights(text=False)), 0.5)])
    assert torch.equal(found, image(half))


@pytest.mark.slow
@needs_peft
def test_the_settings_that_diffusers_writes_beside_a_lora_are_taken(tmp_path, saved):
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe = tiny.sd()
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=8, target_modules=["to_q", "to_k"], init_lora_weights=False))
    type(pipe).save_lora_weights(
        str(tmp_path), get_peft_model_state_dict(pipe.unet),
        unet_lora_adapter_metadata=pipe.unet.peft_config["default"].to_dict(),
    )  # fmt: skip
    file = tmp_path / "pytorch_lora_weights.safetensors"
    assert torch.equal(image(load_pipeline(saved, "cpu", loras=[(file, 1.0)])), image(pipe))


@pytest.mark.slow
@needs_peft
def test_a_lora_is_recorded_by_its_content_and_weight_not_by_its_place(tmp_path, saved):
    file = write(tmp_path / "style.safetensors")
    (tmp_path / "moved").mkdir()
    moved = write(tmp_path / "moved" / "other.safetensors")
    about = [load_pipeline(saved, "cpu", loras=[(one, 0.5)]) for one in (file, moved)]
    assert fingerprint(about[0]) == fingerprint(about[1]) != fingerprint(tiny.sd())
    sampler = PipelineSampler(about[0], PROMPT, num_inference_steps=2)
    (recorded,) = sampler.description["loras"]
    assert recorded["file"] == "style.safetensors"
    assert recorded["weight"] == 0.5
    assert str(tmp_path) not in json.dumps(sampler.description["loras"])
    assert recorded["sha256"] == source_of(about[1]).loras[0].sha256
    assert fingerprint(load_pipeline(saved, "cpu", loras=[(file, 0.6)])) != fingerprint(about[0])
    other = write(tmp_path / "third.safetensors", weights(1))
    assert fingerprint(load_pipeline(saved, "cpu", loras=[(other, 0.5)])) != fingerprint(about[0])
    assert "loras" not in PipelineSampler(tiny.sd(), PROMPT, num_inference_steps=2).description


@needs_peft
def test_a_search_with_a_lora_gives_the_images_of_plain_diffusers(tmp_path, saved):
    file = write(tmp_path / "style.safetensors")
    pipe = load_pipeline(saved, "cpu", loras=[(file, 0.5)])
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=3)
    mine = sampler.decode(sampler.denoise(sampler.noise([3]), 0, 3)[0])
    assert (mine - image(pipe)).abs().max() <= 0.5 / 255 + 1e-5  # rounded to 8 bits
    before = fingerprint(pipe)
    sampler.denoise(sampler.noise([3, 4, 5]), 0, 3)
    assert fingerprint(pipe) == before


QUERY = "encoder.layers.0.self_attn.q_proj"
@needs_peft
def test_a_lora_that_was_taken_out_again_is_not_recorded(tmp_path, saved):
    pipe = load_pipeline(saved, "cpu", loras=[(write(tmp_path / "style.safetensors"), 0.5)])
    assert "loras" in PipelineSampler(pipe, PROMPT, num_inference_steps=2).description
    pipe.unload_lora_weights()
    about = PipelineSampler(pipe, PROMPT, num_inference_steps=2).description
    assert "loras" not in about
    assert about["fingerprint"] == fingerprint(tiny.sd())


UNFIT = {
    "other layers": {"unet.nothing.lora_A.weight": (2, 8), "unet.nothing.lora_B.weight": (8, 2)},
    "other shapes": weights(width=64, text=False),
    "other text": {**weights(text=False), "text_encoder.encoder.layers.7.self_attn.q_proj.lora_A.weight": (2, 32),
                   "text_encoder.encoder.layers.7.self_attn.q_proj.lora_B.weight": (32, 2)},
    "a transformer's": {"transformer.blocks.0.attn.to_q.lora_A.weight": (2, 32),
                        "transformer.blocks.0.attn.to_q.lora_B.weight": (32, 2)},
    "layers besides": {**weights(text=False), "unet.up_blocks.9.to_q.lora_A.weight": (2, 32),
                       "unet.up_blocks.9.to_q.lora_B.weight": (32, 2)},
    "a second text encoder": {**weights(text=False), f"text_encoder_2.{QUERY}.lora_A.weight": (2, 32),
                              f"text_encoder_2.{QUERY}.lora_B.weight": (32, 2)},
    "half of a layer": {key: one for key, one in weights().items() if not key.endswith("attn1.to_q.lora_A.weight")},
    "the other half": {key: one for key, one in weights().items() if not key.endswith("attn1.to_q.lora_B.weight")},
    "kohya of another": {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight": (2, 640),
                         "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_up.weight": (640, 2)},
    "not finite": {key: one * float("nan") for key, one in weights(text=False).items()},
}  # fmt: skip


@pytest.mark.sampled(2)
@needs_peft
@pytest.mark.parametrize("name", UNFIT)
def test_a_lora_that_does_not_fit_is_refused(name, tmp_path, saved, capfd):
    held = {key: torch.ones(one) if isinstance(one, tuple) else one for key, one in UNFIT[name].items()}
    file = write(tmp_path / "unfit.safetensors", held)
    said = line(load_pipeline, saved, "cpu", loras=[(file, 1.0)])
    assert said.startswith(f"expected a LoRA for StableDiffusionPipeline, got {file}")
    assert capfd.readouterr() == ("", "")


@needs_peft
def test_a_pipeline_that_takes_no_lora_says_so(tmp_path):
    tiny.class_flow().save_pretrained(tmp_path / "flow")
    file = write(tmp_path / "style.safetensors")
    said = line(load_pipeline, tmp_path / "flow", "cpu", loras=[(file, 1)])
    assert said == "ClassConditionalFlowPipeline takes no LoRA"


@pytest.mark.parametrize("length", range(500, 1400, 64))
def test_a_header_of_any_length_is_read(length, tmp_path):
    from noisewright.samplers.checkpoint import read_checkpoint

    file = tmp_path / "style.safetensors"
    save_file({"a.lora_A.weight": torch.ones(1, 2)}, file, metadata={"note": "x" * (length - 110)})
    assert read_checkpoint(file, "a LoRA").shapes == {"a.lora_A.weight": (1, 2)}


OTHERS = {
    "sdxl": {f"unet.{PLACE}.attn1.to_q": 64, "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": 32,
             "text_encoder_2.text_model.encoder.layers.1.self_attn.v_proj": 32},
    "sd3": {"transformer.transformer_blocks.0.attn.to_q": 32,
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": 32},
}  # fmt: skip


@pytest.mark.slow
@needs_peft
@pytest.mark.parametrize("name", OTHERS)
def test_pipelines_of_other_families_take_loras_too(name, tmp_path):
    held = {}
    torch.manual_seed(0)
    for layer, width in OTHERS[name].items():
        held[f"{layer}.lora_A.weight"] = torch.randn(2, width)
        held[f"{layer}.lora_B.weight"] = torch.randn(width, 2)
    file = write(tmp_path / "style.safetensors", held)
    pipe, plain = getattr(tiny, name)(), getattr(tiny, name)()
    before = image(pipe)
    add_loras(pipe, read_loras([(file, 0.5)]))
    plain.load_lora_weights(str(file), adapter_name="style")
    plain.set_adapters(["style"], [0.5])
    assert torch.equal(image(pipe), image(plain))
    assert not torch.equal(image(pipe), before)


# Without it


def test_without_peft_it_is_said_how_to_get_it(tmp_path, saved, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: None if name == "peft" else find(name, *more))
    file = write(tmp_path / "style.safetensors")
    assert "pip install 'noisewright[lora]'" in line(load_pipeline, saved, loras=[(file, 1.0)])
    write(file, {"a": torch.ones(1)})
    assert "which holds whole weights" in line(load_pipeline, saved, loras=[(file, 1.0)])


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("name", ["style.bin", "style.pt", "style.safetensors"])
def test_a_pickled_lora_is_refused(name, tmp_path, saved):
    (tmp_path / name).write_bytes(pickle.dumps(Evil(tmp_path / "it-ran")))
    assert "pickles can run code" in line(load_pipeline, saved, loras=[(tmp_path / name, 1.0)])
    assert not (tmp_path / "it-ran").exists()


def test_what_is_no_lora_is_told(tmp_path, saved):
    file = tmp_path / "file.safetensors"
    assert "which does not exist" in line(load_pipeline, saved, loras=[(file, 1.0)])
    other = write(tmp_path / "style.sft")
    assert "whose name does not end in .safetensors" in line(load_pipeline, saved, loras=[(other, 1.0)])
    file.mkdir()
    assert "is a directory" in line(load_pipeline, saved, loras=[(file, 1.0)])
    file.rmdir()
    file.write_text("a red circle, " * 20)
    assert "which is text" in line(load_pipeline, saved, loras=[(file, 1.0)])
    write(file, tiny.sd().unet.state_dict())
    assert "is it a model?" in line(load_pipeline, saved, loras=[(file, 1.0)])
    write(file, {"lora_unet_a.hada_w1_a": torch.ones(2, 2), "lora_unet_a.hada_w1_b": torch.ones(2, 2)})
    assert "which is a LoHa" in line(load_pipeline, saved, loras=[(file, 1.0)])
    write(file, {**weights(), f"unet.{PLACE}.attn1.to_q.dora_scale": torch.ones(32, 1)})
    assert "which is a DoRA" in line(load_pipeline, saved, loras=[(file, 1.0)])
    write(file)
    file.write_bytes(file.read_bytes()[:-8])
    assert "which is torn" in line(load_pipeline, saved, loras=[(file, 1.0)])


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -float("inf"), 1e9])
def test_a_weight_is_a_finite_number(weight, tmp_path, saved):
    assert "expected a weight of" in line(load_pipeline, saved, loras=[(write(tmp_path / "a.safetensors"), weight)])


@pytest.mark.parametrize("given", ["a", ("a",), ("a", "1"), (1, 1.0), ("a", True), None, ("a", 1.0, 2.0)])
def test_a_lora_is_a_file_and_a_weight(given, saved):
    with pytest.raises(TypeError, match=r"expected (a LoRA as a file and a weight|the (file|weight) of)"):
        load_pipeline(saved, loras=[given])


def test_the_same_lora_twice_is_refused(tmp_path, saved):
    one, two = write(tmp_path / "1.safetensors"), write(tmp_path / "2.safetensors")
    assert "twice" in line(load_pipeline, saved, loras=[(one, 1.0), (two, 0.5)])


EVIL = {
    "a module to import": {"megatron_config": {"a": 1}, "megatron_core": "evil"},
    "a module by another name": {"unet.megatron_core": "evil"},
    "weights of the model": {"unet.init_lora_weights": "pissa"},
    "layers saved whole": {"unet.modules_to_save": ["conv_in"]},
    "another method": {"unet.peft_type": "VERA"},
    "a rank past memory": {"unet.r": 10**9},
    "a rank by layer": {"unet.r": 1, "unet.rank_pattern": {"to_q": 10**9}},
    "a rank as text": {"unet.r": "__import__"},
    "an expression that never ends": {"unet.target_modules": "(a+)+$"},
    "expressions by layer": {"unet.target_modules": ["to_q", "(a|a)*b"]},
    "an expression as a rank's place": {"unet.rank_pattern": {"(a+)+": 2}},
    "copies of layers": {"unet.layer_replication": [[0, 10**6]]},
    "something unknown": {"unet.surprise_config": {"path": "/etc/passwd"}},
}


@pytest.mark.parametrize("name", EVIL)
def test_the_metadata_of_a_lora_runs_nothing(name, tmp_path, saved):
    file = write(tmp_path / "evil.safetensors", **EVIL[name])
    assert "which noisewright never runs" in line(load_pipeline, saved, loras=[(file, 1.0)])


@pytest.mark.parametrize("raw", ["[]", "{", "[" * 10**5, "7"])
def test_damaged_metadata_is_told(raw, tmp_path, saved):
    file = tmp_path / "evil.safetensors"
    save_file(weights(), file, metadata={"lora_adapter_metadata": raw})
    assert "whose metadata is damaged" in line(load_pipeline, saved, loras=[(file, 1.0)])
