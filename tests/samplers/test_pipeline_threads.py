"""One pipeline object and several threads: searches take turns, a plain call beside one is told."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import StableDiffusionPipeline

import noisewright as nw
import tiny
from noisewright.errors import PipelineBusy
from noisewright.samplers.pipeline import PipelineSampler

STEPS = 3
PROMPT = "two red circles"


def make():
    pipe = tiny.sd()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def plain(pipe, seed=3, **more):
    given = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "output_type": "latent", **more}
    return pipe(PROMPT, generator=torch.Generator("cpu").manual_seed(seed), **given).images


def whole(sampler, seed=3):
    return sampler.denoise(sampler.noise([seed]), 0, sampler.schedule.steps)[0]


def in_a_thread(work):
    """What ``work`` gives or raises in another thread, which is waited for."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(timeout=60)


@pytest.mark.slow
def test_searches_in_threads_take_turns_and_count_their_own_work():
    pipe = make()
    settings = [{"guidance_scale": 1.0 + n, "negative_prompt": "blue" if n else None} for n in range(4)]
    expected = [whole(PipelineSampler(pipe, PROMPT, num_inference_steps=STEPS, **one)) for one in settings]
    start = threading.Barrier(len(settings))

    def work(one):
        start.wait()
        sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=STEPS, **one)
        found = [whole(sampler) for _ in range(3)]
        sampler.decode(found[0])
        return found, sampler.meter

    with ThreadPoolExecutor(len(settings)) as pool:
        for number, (found, meter) in enumerate(pool.map(work, settings)):
            assert all(torch.equal(one, expected[number]) for one in found)
            assert (meter.nfe, meter.forwards) == (3 * STEPS, 3 * STEPS * (2 if number else 1))
    assert type(pipe) is StableDiffusionPipeline
    assert torch.equal(plain(pipe), plain(make()))


@pytest.mark.slow
def test_whole_searches_in_threads_are_those_of_one_thread(tmp_path):
    pipe = make()

    def search(seed, out):
        return nw.search(
            pipe, PROMPT, verifier="brightness", budget="3 images", num_inference_steps=STEPS, seed=seed,
            batch_size=2, out=tmp_path / out, pictures=False,
        )  # fmt: skip

    alone = [search(seed, f"alone-{seed}") for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda seed: search(seed, f"beside-{seed}"), range(4)))
    for one, other in zip(alone, beside, strict=True):
        assert [c.pixels for c in one.candidates] == [c.pixels for c in other.candidates]
        assert (one.nfe, one.forwards, one.images) == (other.nfe, other.forwards, other.images)


def test_a_plain_call_while_a_search_is_inside_is_told_and_spoils_nothing():
    pipe, other = make(), make()
    expected = plain(other)
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=STEPS, guidance_scale=4.0)
    said, free = [], []

    def beside(module, args):
        def call():
            with pytest.raises(PipelineBusy, match="a noisewright search is inside it") as caught:
                plain(pipe, guidance_scale=9.0)
            said.append(str(caught.value))
            free.append(plain(other))

        in_a_thread(call)

    hook = pipe.unet.register_forward_pre_hook(beside)
    found = whole(sampler)
    hook.remove()
    assert torch.equal(found, expected)
    assert len(said) == STEPS
    assert "\n" not in said[0]
    assert all(torch.equal(one, expected) for one in free)  # another object of the same class is nobody's business
    assert (sampler.meter.nfe, sampler.meter.forwards) == (STEPS, 2 * STEPS)
    assert torch.equal(plain(pipe), expected)


def test_a_plain_call_by_the_thread_that_is_inside_is_told_too():
    pipe = make()
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=STEPS)
    hook = pipe.unet.register_forward_pre_hook(lambda module, args: plain(pipe))
    with pytest.raises(PipelineBusy, match="a noisewright search is inside it"):
        whole(sampler)
    hook.remove()
    assert torch.equal(plain(pipe), plain(make()))


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_search_in_the_middle_of_a_plain_call_is_told_and_spoils_nothing(elsewhere):
    pipe = make()
    expected = plain(pipe)
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=STEPS, guidance_scale=9.0)
    noise, said = sampler.noise([5]), []

    works = [lambda: sampler.denoise(noise, 0, STEPS), lambda: PipelineSampler(pipe, "x", num_inference_steps=2)]

    def beside(given, step, time, tensors):
        for work in works:
            with pytest.raises(PipelineBusy, match="plain call of it that is running") as caught:
                in_a_thread(work) if elsewhere else work()
            said.append(str(caught.value))
        return tensors

    assert torch.equal(plain(pipe, callback_on_step_end=beside), expected)
    assert len(said) == 2 * STEPS
    assert type(pipe) is StableDiffusionPipeline
    whole(sampler)


def test_a_function_that_takes_a_pipeline_is_no_call_of_it():
    pipe = make()

    class Maker:
        @torch.no_grad()
        def __call__(self, given):
            return PipelineSampler(given, PROMPT, num_inference_steps=STEPS)

    @torch.no_grad()
    def made(given):
        return Maker()(given)

    assert made(pipe).meter.nfe == 0


@pytest.mark.slow
def test_pipelines_that_share_a_network_take_turns_too():
    pipe = make()
    twin = StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    twin.set_progress_bar_config(disable=True)
    expected = plain(make())
    first = PipelineSampler(pipe, PROMPT, num_inference_steps=STEPS, guidance_scale=4.0)
    second = PipelineSampler(twin, PROMPT, num_inference_steps=STEPS, guidance_scale=4.0)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda one: [whole(one) for _ in range(3)], (first, second)))
    assert all(torch.equal(one, expected) for some in found for one in some)
    for sampler in (first, second):
        assert (sampler.meter.nfe, sampler.meter.forwards) == (3 * STEPS, 6 * STEPS)
    # a plain call of the twin runs the same network beside a search: it is right, and not counted
    hook = pipe.unet.register_forward_pre_hook(lambda module, args: beside())
    found = []

    def beside():
        hook.remove()
        found.append(in_a_thread(lambda: plain(twin)))

    counted = first.meter.forwards
    assert torch.equal(whole(first), expected)
    assert torch.equal(found[0], expected)
    assert first.meter.forwards == counted + 2 * STEPS


@pytest.mark.slow
def test_other_threads_may_draw_from_their_own_world_of_randomness():
    """A verifier elsewhere that draws from torch's global generator is no fault of the pipeline."""
    pipe = make()
    sampler = PipelineSampler(pipe, PROMPT, num_inference_steps=STEPS, guidance_scale=4.0)
    expected = whole(sampler)
    drawn = []
    hook = pipe.unet.register_forward_pre_hook(
        lambda module, args: drawn.append(in_a_thread(lambda: torch.randn(3))) if len(drawn) < STEPS else None
    )
    assert torch.equal(whole(sampler), expected)
    hook.remove()
    assert len({tuple(one.tolist()) for one in drawn}) == STEPS
    assert not sampler.warnings
