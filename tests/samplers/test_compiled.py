"""Networks that are compiled, and convolutions with channels last: the same images, recorded, refused in one line."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import noisewright as nw
from noisewright.images.metadata import read_recipe
from noisewright.replay import replay
from noisewright.samplers import compiled
from noisewright.samplers.compiled import compile_networks, put_channels_last
from noisewright.samplers.load import load_pipeline
from noisewright.samplers.pipeline import PipelineSampler

NEAR = 1 / 255 + 1e-6
SETTINGS = {"num_inference_steps": 2, "guidance_scale": 3.0}


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    """What was traced, as for any backend; no code is generated, which takes a C++ compiler minutes."""
    found = []

    def backend(graph, inputs):
        found.append(graph)
        return graph.forward

    monkeypatch.setattr(compiled, "BACKEND", backend)
    yield found
    torch.compiler.reset()


def image(pipe):
    sampler = PipelineSampler(pipe, "a cat", **SETTINGS)
    x, _ = sampler.denoise(sampler.noise([5]), 0, 2)
    return sampler.decode(x), sampler.description


@pytest.fixture(scope="module")
def plain(saved):
    return image(load_pipeline(saved, "cpu"))


@pytest.mark.slow
def test_repeated_blocks_are_compiled_and_give_the_image(saved, plain, graphs):
    pipe = load_pipeline(saved, "cpu", compile=True)
    assert len(graphs) == 1, "more than the small function is compiled before the first step"
    found, description = image(pipe)
    assert len(graphs) > 1, "no block was compiled"
    kinds = {str(name).split("_")[0] for one in graphs[1:] for name, _ in one.named_modules()}
    assert not any("conv" in name for name in kinds), "more than the repeated blocks, which are transformers, is"
    assert (found - plain[0]).abs().max() <= NEAR
    assert description.pop("compile") is True
    assert description == plain[1], "it is another model"


def test_channels_last_gives_the_image(saved, plain):
    pipe = load_pipeline(saved, "cpu", channels_last=True)
    for net in (pipe.unet, pipe.vae):
        kernels = [one.weight for one in net.modules() if isinstance(one, nn.Conv2d) and one.kernel_size != (1, 1)]
        assert all(one.is_contiguous(memory_format=torch.channels_last) for one in kernels)
        assert not all(one.is_contiguous() for one in kernels)
    found, description = image(pipe)
    assert (found - plain[0]).abs().max() <= NEAR
    assert description.pop("channels_last") is True
    assert description == plain[1], "it is another model"


@pytest.mark.slow
def test_a_run_goes_on_with_both_and_is_made_again_with_both(saved, tmp_path):
    how = {"verifier": "brightness", "judge": "none", "device": "cpu", "compile": True, "channels_last": True}
    result = nw.search(str(saved), "a cat", budget=2, out=tmp_path / "run", **SETTINGS, **how)
    spec = json.loads((tmp_path / "run" / "run.json").read_text())["spec"]
    assert (spec["sampler"]["compile"], spec["sampler"]["channels_last"]) == (True, True)
    again = nw.resume(tmp_path / "run", budget=3)
    assert again.images == 3
    assert again.best.seed in (0, 1, 2)
    found = replay(result.best.file, out=tmp_path / "again.png", device="cpu")
    assert found.identical
    recipe = read_recipe(tmp_path / "again.png")[1]
    assert (recipe["sampler"]["compile"], recipe["sampler"]["channels_last"]) == (True, True)


@pytest.mark.slow
def test_a_pipeline_that_was_loaded_so_is_recorded_so(saved, tmp_path):
    pipe = nw.load(saved, device="cpu", channels_last=True)
    settings = {"verifier": "brightness", "judge": "none", "budget": 1, **SETTINGS}
    nw.search(pipe, "a cat", out=tmp_path / "run", **settings)
    request = json.loads((tmp_path / "run" / "run.json").read_text())["request"]
    assert (request["compile"], request["channels_last"]) == (False, True)
    assert nw.resume(tmp_path / "run", budget=2).images == 2


@pytest.mark.parametrize("name", ["compile", "channels_last"])
def test_a_pipeline_object_is_taken_as_it_is(pipe, name):
    with pytest.raises(ValueError, match=f"expected no {name} beside a pipeline that is loaded already, got True"):
        nw.search(pipe, "a cat", verifier="brightness", budget=1, **{name: True})


def test_without_repeated_blocks_the_forward_is_compiled():
    pipe = SimpleNamespace(transformer=nn.Sequential(nn.Linear(2, 3), nn.SiLU()))
    x = torch.ones(1, 2)
    before = pipe.transformer(x)
    seen = []
    compile_networks(pipe, "cpu")
    pipe.transformer.register_forward_pre_hook(lambda module, args: seen.append(args))
    assert torch.equal(pipe.transformer(x), before)
    assert seen, "a hook of the call is not called"
    assert "forward" in vars(pipe.transformer)
    assert list(pipe.transformer.state_dict()) == ["0.weight", "0.bias"]


def test_what_cannot_be_is_one_line(monkeypatch):
    without = SimpleNamespace(transformer=nn.Linear(2, 2))
    with pytest.raises(ValueError, match="expected a pipeline with convolutions of images for channels_last"):
        put_channels_last(without)
    with pytest.raises(ValueError, match="expected a pipeline with a network to compile, got SimpleNamespace"):
        compile_networks(SimpleNamespace(), "cpu")
    monkeypatch.setattr(compiled, "BACKEND", "none of torch's")
    with pytest.raises(ValueError, match="expected a torch that compiles on cpu for compile") as caught:
        compile_networks(without, "cpu")
    assert "\n" not in str(caught.value)
