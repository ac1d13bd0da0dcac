"""Runs on a GPU: gone on with elsewhere, out of memory, with weights that are offloaded."""

import pytest
import torch

import noisewright as nw
import tiny
from noisewright.images.metadata import read_image
from noisewright.replay import replay
from noisewright.run.reading import read_journal
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.places import home, there

SETTINGS = {"verifier": "brightness", "judge": "none", "num_inference_steps": 4, "guidance_scale": 3.0}
ACROSS = 2  # of 255: sums are rounded in another order on another device
LARGE = {"height": 256, "width": 256}
OFFLOADS = ["enable_model_cpu_offload", "enable_sequential_cpu_offload"]


def test_a_search_on_a_gpu_is_the_same_twice(device, tmp_path):
    found = [
        nw.search(tiny.sd().to(device), "a cat", search="halving", budget="40 nfe", out=tmp_path / name, **SETTINGS)
        for name in "ab"
    ]
    assert [one.id for one in found[0].candidates] == [one.id for one in found[1].candidates]
    pixels = [read_image(one.best.file)[0] for one in found]
    assert (pixels[0] == pixels[1]).all()


def test_a_run_that_goes_on_on_another_device_says_so_and_its_images_are_made_again(saved, cuda, tmp_path):
    run = nw.search(str(saved), "a cat", device="cpu", budget=2, out=tmp_path, **SETTINGS)
    assert not any("made on" in one for one in run.warnings)
    again = replay(run.best.file, device="cuda")
    assert again.max_difference <= ACROSS
    assert again.identical or any("device cpu then, cuda" in reason for reason in again.reasons)
    more = nw.search(str(saved), "a cat", device="cuda", dtype="float32", budget=3, out=tmp_path, **SETTINGS)
    assert more.images == 3
    assert any("made on cpu until here and on cuda" in one for one in more.warnings)


def test_a_run_of_a_gpu_goes_on_there(saved, device, tmp_path):
    settings = {"device": device, "dtype": "float32", "out": tmp_path, **SETTINGS}
    nw.search(str(saved), "a cat", budget=2, **settings)
    found = nw.search(str(saved), "a cat", search="random", budget=2, **settings)
    assert found.images == 2
    assert nw.resume(tmp_path, budget=4).images == 4
    assert replay(found.best.file).identical


def test_micro_batches_are_halved_where_memory_runs_out(cuda, tmp_path):
    pipe = tiny.sd().to(cuda)
    sampler = PipelineSampler(pipe, "a cat", num_inference_steps=1, **LARGE)

    def peak(size):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        x, _ = sampler.denoise(sampler.noise(range(size)), 0, 1)
        sampler.decode(x)
        return torch.cuda.max_memory_reserved()

    enough = 2 * peak(8)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(enough / torch.cuda.get_device_properties(cuda).total_memory)
    before = torch.cuda.memory_stats()["num_ooms"]
    found = nw.search(pipe, "a cat", budget=64, batch_size=64, out=tmp_path, **LARGE, **SETTINGS)
    assert torch.cuda.memory_stats()["num_ooms"] > before, "memory did not run out"
    assert found.images == 64
    sizes = [len(line["ids"]) for line in read_journal(tmp_path) if line["verb"] == "finish"]
    assert sizes
    assert max(sizes) < 64
    torch.cuda.set_per_process_memory_fraction(1.0)
    alone = nw.search(pipe, "a cat", budget=1, **LARGE, **SETTINGS).baseline
    difference = read_image(found.baseline.file)[0].astype(int) - read_image(alone.file)[0]
    assert abs(difference).max() <= ACROSS


@pytest.mark.parametrize("offload", OFFLOADS)
def test_weights_that_are_offloaded_give_the_same_image(offload, cuda, tmp_path):
    here = tiny.sd().to(cuda)
    there_ = tiny.sd()
    getattr(there_, offload)(device=cuda)
    images = []
    for number, pipe in enumerate((here, there_)):
        found = nw.search(pipe, "a cat", budget=3, out=tmp_path / str(number), **SETTINGS)
        images.append(read_image(found.baseline.file)[0].astype(int))
        assert found.images == 3
    assert abs(images[0] - images[1]).max() <= 1


def test_states_go_and_come_back_as_they_were(cuda):
    state = {"history": [torch.randn(3, 4, 8, 8), None], "step": 2, "generators": torch.Generator().get_state()[None]}
    sent = there(state, cuda)
    assert sent["history"][0].device == cuda
    assert sent["generators"].device.type == "cpu"
    found = home(sent)
    assert torch.equal(found["history"][0], state["history"][0])
    assert not found["history"][0].is_pinned(), "states would hold on to pinned memory"
