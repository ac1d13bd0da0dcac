"""What each kind of draft computes, held to the same thing made by hand; and that nothing of it is left behind."""

import copy
import importlib
import re
import sys

import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxPipeline
from torch import nn

import tiny
from families import cogvideox, flux
from families.parts import picture
from noisewright import registry
from noisewright.diffusion.solvers import Ddim
from noisewright.errors import UnsupportedPipeline
from noisewright.samplers import optional
from noisewright.samplers.drafts import drafted
from noisewright.samplers.drafts.passes import passes_of
from noisewright.samplers.drafts.sampler import pooled
from noisewright.samplers.mixture import MixtureSampler
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.schemas.drafts import CACHES, read_draft

STEPS = 6
PROMPT = "two red circles"


def sampler(pipe=None, **more):
    return PipelineSampler(pipe or tiny.sd(), PROMPT, num_inference_steps=STEPS, guidance_scale=4.0, **more)


def flow(**more):
    return PipelineSampler(tiny.class_flow(), class_label=1, num_inference_steps=STEPS, guidance_scale=2.0, **more)


def draft_of(full, text):
    return drafted(full, read_draft(text).with_steps(STEPS))


def made(one, seeds=(3, 4)):
    """Clean states, and what they cost: NFE and forwards."""
    before = one.meter.snapshot()
    x, _ = one.denoise(one.noise(list(seeds)), 0, one.schedule.steps)
    taken = one.meter.since(before)
    return x, taken["nfe"], taken["forwards"]


# By kind


def test_fewer_steps_are_the_same_model_on_fewer_steps():
    full = sampler()
    draft = draft_of(full, "steps,n=3")
    assert torch.equal(draft.noise([5]), full.noise([5]))
    assert torch.equal(made(draft)[0], made(full.with_steps(3))[0])
    assert made(draft)[1:] == (2 * 3, 2 * 3 * 2)


def test_half_the_steps_by_default():
    assert draft_of(sampler(), "steps").schedule.steps == STEPS // 2


def test_truncate_gives_the_clean_estimate_of_an_index():
    full = sampler()
    draft = draft_of(full, "truncate,at=0.5")
    x, _ = full.denoise(full.noise([3, 4]), 0, 3)
    found, nfe, forwards = made(draft)
    assert torch.equal(found, full.predict(x, 3))
    assert torch.equal(draft.decode(found), full.decode(found))
    assert (nfe, forwards) == (2 * 4, 2 * 4 * 2)
    assert draft.nfe(0, 4) == 4
    assert draft.schedule.steps == 4
    assert draft.schedule.sigma[:4] == full.schedule.sigma[:4]


def test_a_truncated_way_may_be_cut_and_previewed():
    full = sampler(solver=Ddim())
    draft = draft_of(full, "truncate,at=0.5")
    half, state = draft.denoise(draft.noise([3]), 0, 2)
    clean = draft.predict(half, 2)
    assert torch.equal(clean, full.predict(half, 2))
    after, state = draft.advance(half, 2, clean, state)
    end, _ = draft.denoise(after, 3, 4, state)
    assert torch.allclose(end, made(draft, [3])[0], atol=1e-5)
    assert torch.equal(draft.advance(after, 3, end)[0], end)


def test_guidance_until_an_index_and_the_condition_alone_from_there():
    full = sampler()
    draft = draft_of(full, "guidance,until=0.5")
    alone = PipelineSampler(full.pipe, PROMPT, num_inference_steps=STEPS, guidance_scale=1.0)
    x, state = full.denoise(full.noise([3, 4]), 0, 3)
    wanted, _ = alone.denoise(x, 3, STEPS, state)
    found, nfe, forwards = made(draft)
    assert torch.equal(found, wanted)
    assert (nfe, forwards) == (2 * STEPS, 2 * (3 * 2 + 3))


@pytest.mark.parametrize("make", [sampler, flow])
def test_a_network_in_half_precision_and_nothing_else(make):
    full = make()
    draft = draft_of(full, "dtype,to=bfloat16")
    plain = made(full)[0]
    found, nfe, forwards = made(draft)
    name = "unet" if hasattr(full.pipe, "unet") else "transformer"
    other = copy.deepcopy(getattr(full.pipe, name)).bfloat16()
    own = getattr(full.pipe, name).forward

    def by_hand(x, time, *args, **kwargs):
        cast = lambda one: one.bfloat16() if torch.is_tensor(one) and one.is_floating_point() and one.ndim > 1 else one  # noqa: E731
        answer = other(cast(x), time, *map(cast, args), **{key: cast(one) for key, one in kwargs.items()})
        if isinstance(answer, tuple):
            return tuple(one.float() for one in answer)
        answer.sample = answer.sample.float()
        return answer

    getattr(full.pipe, name).forward = by_hand
    wanted = made(full)[0]
    getattr(full.pipe, name).forward = own
    assert torch.equal(found, wanted)
    assert not torch.equal(found, plain)
    assert torch.allclose(found, plain, atol=0.2 * float(plain.abs().max()))
    assert (nfe, forwards) == (2 * STEPS, 2 * STEPS * 2)
    assert found.dtype == draft.noise([0]).dtype == torch.float32


def test_noise_of_a_smaller_size_is_unit_noise_of_the_same():
    x = torch.randn(8, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    small = pooled(x, 2)
    assert small.shape == (8, 4, 32, 32)
    assert float(small.std()) == pytest.approx(1, abs=0.02)
    assert float(small[0, 0, 0, 0]) == pytest.approx(float(x[0, 0, :2, :2].sum() / 2), abs=1e-6)


def test_a_smaller_image_is_the_pipeline_s_own_from_the_noise_averaged():
    full = sampler()
    draft = draft_of(full, "size,by=2")
    small = PipelineSampler(full.pipe, PROMPT, num_inference_steps=STEPS, guidance_scale=4.0, height=16, width=16)
    noise = full.noise([3, 4])
    assert torch.equal(draft.noise([3, 4]), noise)
    wanted, _ = small.denoise(pooled(noise, 2), 0, STEPS)
    found = made(draft)[0]
    assert torch.equal(found, wanted)
    assert draft.decode(found).shape == (2, 3, 16, 16)
    assert draft.composes


# Caches


def evaluated(draft, blocks):
    """How often each block was asked while two images are made, and what that cost."""
    counts = [0] * len(blocks)

    def counting(number):
        def count(*_):
            counts[number] += 1

        return count

    owns = [type(block).forward for block in blocks]
    kinds = [block.__class__ for block in blocks]
    for number, block in enumerate(blocks):  # below what a draft puts over it
        def forward(self, *args, number=number, own=owns[number], **kwargs):
            counts[number] += 1
            return own(self, *args, **kwargs)

        block.__class__ = type(kinds[number].__name__, (kinds[number],), {"forward": forward})
    try:
        return counts, made(draft)
    finally:
        for block, kind in zip(blocks, kinds, strict=True):
            block.__class__ = kind


def test_the_deep_part_of_a_unet_is_asked_at_every_kth_evaluation():
    full = sampler()
    net = full.pipe.unet
    blocks = [*net.down_blocks, net.mid_block, *net.up_blocks]
    counts, (_, nfe, forwards) = evaluated(draft_of(full, "cache,every=3"), blocks)
    assert counts == [6, 2, 2, 2, 6]
    assert (nfe, forwards) == (2 * 2, 2 * 2 * 2)  # of six evaluations two


def test_the_outer_blocks_of_a_unet_go_on_from_the_kept_feature():
    full = sampler()
    taken, entered = [], []
    net = full.pipe.unet
    hooks = [
        net.up_blocks[-1].register_forward_pre_hook(
            lambda module, args, kwargs: taken.append(kwargs["hidden_states"].clone()), with_kwargs=True
        ),
        net.down_blocks[0].register_forward_pre_hook(
            lambda module, args, kwargs: entered.append(kwargs["hidden_states"].clone()), with_kwargs=True
        ),
    ]
    made(draft_of(full, "cache,every=3"))
    for hook in hooks:
        hook.remove()
    assert len(taken) == STEPS
    for number in range(STEPS):
        assert torch.equal(taken[number], taken[number - number % 3])
        assert number == 0 or not torch.equal(entered[number], entered[number - 1])
    assert not torch.equal(taken[0], taken[3])


def test_deep_blocks_of_a_transformer_add_what_they_added_last():
    full = flow()
    first, middle, last = full.pipe.transformer.blocks
    left, entered = [], []
    hooks = [
        first.register_forward_hook(lambda module, args, output: left.append(output.clone())),
        last.register_forward_pre_hook(lambda module, args: entered.append(args[0].clone())),
    ]
    counts, (_, nfe, _) = evaluated(draft_of(full, "cache,every=2"), [middle])
    for hook in hooks:
        hook.remove()
    assert counts == [3]
    assert nfe == 2 * 3
    for number in range(1, STEPS, 2):
        kept = entered[number - 1] - left[number - 1]
        assert torch.allclose(entered[number], left[number] + kept, atol=1e-5)


def test_a_cache_that_answers_nothing_gives_the_full_image_and_costs_it():
    full = sampler()
    found, nfe, forwards = made(draft_of(full, f"cache,every={STEPS}"))
    assert not torch.equal(found, made(full)[0])
    assert (nfe, forwards) == (2, 4)
    again = draft_of(full, "cache,every=2")
    one = again.denoise(again.noise([3]), 0, 1)[0]  # each call begins anew, with a full evaluation
    assert torch.equal(one, full.denoise(full.noise([3]), 0, 1)[0])


def dev():
    pipe = FluxPipeline(**flux.parts(num_layers=2, num_single_layers=2))
    more = {"height": 32, "width": 32, "pipe_kwargs": {"max_sequence_length": 32}}
    return PipelineSampler(pipe, PROMPT, num_inference_steps=STEPS, guidance_scale=3.5, **more)


def test_diffusers_own_caches_by_name():
    full = dev()
    plain = made(full)[0]
    never = made(draft_of(full, "cache,name=FirstBlockCache,threshold=0"))
    always = made(draft_of(full, "cache,name=FirstBlockCache,threshold=1000"))
    assert torch.equal(never[0], plain)
    assert never[1] == 2 * STEPS
    assert not torch.equal(always[0], plain)
    assert always[1] == 2
    assert torch.equal(made(full)[0], plain)


@pytest.mark.parametrize(
    "text", ["cache,name=TaylorSeerCache,cache_interval=2,disable_cache_before_step=2", "cache,name=MagCache",
             "cache,name=PyramidAttentionBroadcast", "cache,name=FasterCache"],
)  # fmt: skip
def test_every_cache_of_diffusers_makes_an_image_and_leaves_the_network_as_it_was(text):
    full = dev()
    plain, hooks = made(full)[0], [name for one in full.pipe.transformer.modules() for name in vars(one)]
    found, nfe, _ = made(draft_of(full, text))
    assert bool(found.isfinite().all())
    assert 2 <= nfe <= 2 * STEPS
    assert torch.equal(made(full)[0], plain)
    assert not full.pipe.transformer.is_cache_enabled
    left = [name for one in full.pipe.transformer.modules() for name in vars(one)]
    assert [name for name in left if name != "_cache_config"] == [name for name in hooks if name != "_cache_config"]


INDEPENDENT = [
    ("cache,every=2", sampler), ("cache,every=3", flow), ("cache,name=FirstBlockCache,threshold=0.3", dev),
    ("cache,name=TaylorSeerCache,cache_interval=2,disable_cache_before_step=2", dev), ("cache,name=MagCache", dev),
    ("cache,name=PyramidAttentionBroadcast", dev), ("cache,name=FasterCache", dev),
    ("cache,name=DBCache,Fn_compute_blocks=1,max_warmup_steps=1,residual_diff_threshold=0.3", dev),
]  # fmt: skip


def test_every_cache_is_held_to_being_independent():
    assert {read_draft(text).parts["cache"]["name"] for text, _ in INDEPENDENT} == set(CACHES)


@pytest.mark.parametrize(("text", "make"), INDEPENDENT)
def test_a_draft_does_not_depend_on_those_that_are_made_with_it(text, make):
    if "DBCache" in text:
        pytest.importorskip("cache_dit")
    draft, seeds = draft_of(make(), text), [3, 4, 5, 6]
    size = optional.most_at_once(draft, len(seeds))
    assert size == (1 if "FirstBlock" in text or "DBCache" in text else 4)
    together = torch.cat([made(draft, seeds[k : k + size])[0] for k in range(0, len(seeds), size)])
    alone = torch.cat([made(draft, [seed])[0] for seed in seeds])
    assert torch.allclose(together, alone, atol=1e-4)


def flux_of(kind, settings=None, **more):
    """A sampler of one of FLUX's pipelines, with its own arguments."""
    values = {"max_sequence_length": 32, "height": 32, "width": 32, **(settings or {})}
    return PipelineSampler(kind(**flux.parts(**more)), PROMPT, num_inference_steps=STEPS, guidance_scale=3.5,
                           pipe_kwargs={key: one for key, one in values.items() if key not in ("height", "width")},
                           height=32, width=32)  # fmt: skip


def img2img():
    return flux_of(FluxImg2ImgPipeline, {"image": picture(), "strength": 0.7})


def true_guidance():
    return flux_of(FluxPipeline, {"true_cfg_scale": 3.0, "negative_prompt": "blurred"})


def schnell():
    return flux_of(FluxPipeline, guidance=False)


def joined(scale=4.0):
    """CogVideoX asks with the prompt and without it in one pass."""
    more = {key: one for key, one in cogvideox.call().items() if key in ("num_frames", "max_sequence_length")}
    size = {"height": cogvideox.SIDE, "width": cogvideox.SIDE}
    settings = {"num_inference_steps": STEPS, "guidance_scale": scale, "pipe_kwargs": more, **size}
    return registry.make_sampler(cogvideox.make(), PROMPT, settings)


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("FasterCache+guidance", joined, "which splits it, got CogVideoXPipeline with draft guidance"),
        ("FasterCache", lambda: joined(1.0), "which splits it, got CogVideoXPipeline without guidance"),
        ("FirstBlockCache", img2img, "names its passes (cache_context) for cache FirstBlockCache, got FluxImg2Img"),
        ("TaylorSeerCache", img2img, "names its passes (cache_context) for cache TaylorSeerCache, got FluxImg2Img"),
        ("PyramidAttentionBroadcast", img2img, "says the time (current_timestep) for cache Pyramid"),
        ("FasterCache", img2img, "says the time (current_timestep) for cache FasterCache, got FluxImg2ImgPipeline"),
        ("PyramidAttentionBroadcast", true_guidance, "expected one pass a step for cache Pyramid"),
        ("FasterCache", true_guidance, "got FluxPipeline, which asks with the prompt and without it apart"),
        ("FasterCache", schnell, "which splits it, got FluxPipeline without guidance"),
    ],
)
def test_a_cache_that_a_pipeline_does_not_tell_enough_is_refused_before_anything_is_made(name, make, says):
    full = make()
    before = full.meter.snapshot()
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        draft_of(full, f"cache,name={name}")
    assert "\n" not in str(error.value)
    assert full.meter.since(before)["forwards"] == 0


@pytest.mark.parametrize(
    ("name", "make"),
    [("MagCache", img2img), ("FirstBlockCache", true_guidance), ("TaylorSeerCache", true_guidance),
     ("PyramidAttentionBroadcast+guidance", joined), ("MagCache", true_guidance), ("FirstBlockCache", schnell),
     ("PyramidAttentionBroadcast", schnell),
     ("Deep", lambda: flux_of(FluxImg2ImgPipeline, {"image": picture(), "strength": 0.7}, num_layers=3))],
)  # fmt: skip
def test_a_cache_that_is_not_refused_makes_an_image(name, make):
    draft = draft_of(make(), f"cache,name={name}")
    origins = {"origins": [3]} if draft.draws_inside else {}
    found, _ = draft.denoise(draft.noise([3]), 0, draft.schedule.steps, **origins)
    assert bool(found.isfinite().all())


@pytest.mark.parametrize(
    ("module", "kind", "named", "timed", "together"),
    [
        ("flux", "FluxPipeline", True, True, False),
        ("flux", "FluxImg2ImgPipeline", False, False, False),
        ("flux", "FluxKontextPipeline", False, True, False),
        ("cogvideo", "CogVideoXPipeline", True, True, True),
        ("wan", "WanPipeline", True, True, False),
        ("latte", "LattePipeline", False, True, True),
        ("qwenimage", "QwenImagePipeline", True, True, False),
    ],
)
def test_what_a_pipeline_tells_caches_is_read_from_its_code(module, kind, named, timed, together):
    pipe = object.__new__(getattr(importlib.import_module(f"diffusers.pipelines.{module}"), kind))
    found = passes_of(pipe, nn.Identity(), {})
    assert (found.named, found.timed, found.together) == (named, timed, together)


# cache-dit's


def test_without_cache_dit_its_cache_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "cache_dit", None)
    with pytest.raises(ValueError, match=re.escape("pip install 'noisewright[cache-dit]'")) as error:
        draft_of(dev(), "cache,name=DBCache")
    assert "\n" not in str(error.value)


DUAL_BLOCK = "cache,name=DBCache,Fn_compute_blocks=1,max_warmup_steps=1,residual_diff_threshold="


def test_dual_block_cache_leaves_out_what_it_may_and_the_network_as_it_was():
    pytest.importorskip("cache_dit")
    full = dev()
    plain, held = made(full)[0], [sorted(vars(one)) for one in full.pipe.transformer.modules()]
    never, always = made(draft_of(full, f"{DUAL_BLOCK}0")), made(draft_of(full, f"{DUAL_BLOCK}1000"))
    assert torch.equal(never[0], plain)
    assert never[1] == 2 * STEPS
    assert not torch.equal(always[0], plain)
    assert always[1] < 2 * STEPS
    again = made(draft_of(full, f"{DUAL_BLOCK}1000"))
    assert torch.equal(again[0], always[0])  # it begins anew with each call
    assert again[1] == always[1]
    assert torch.equal(made(full)[0], plain)
    assert [sorted(vars(one)) for one in full.pipe.transformer.modules()] == held


def test_a_network_that_cache_dit_does_not_know_is_named():
    pytest.importorskip("cache_dit")
    with pytest.raises(ValueError, match="transformer that cache-dit knows for cache DBCache, got UNet2DCondition"):
        draft_of(sampler(), "cache,name=DBCache")


# Together


@pytest.mark.parametrize(
    "text", ["steps,n=4+truncate,at=0.5", "size+guidance", "dtype+cache,every=2+truncate,at=0.5",
             "steps,n=4+size+dtype+cache,every=2+guidance+truncate,at=0.6"],
)  # fmt: skip
def test_combinations_are_made_and_cost_less(text):
    full = sampler()
    plain = made(full)[0]
    found, _, forwards = made(draft_of(full, text))
    assert bool(found.isfinite().all())
    assert forwards < 2 * STEPS * 2
    assert torch.equal(made(full)[0], plain)


def test_a_combination_is_its_parts_one_after_the_other():
    full = sampler()
    both = draft_of(full, "guidance,until=0.5+truncate,at=0.67")
    guided = draft_of(full, "guidance,until=0.5")
    x, _ = guided.denoise(guided.noise([3, 4]), 0, 4)
    assert torch.equal(made(both)[0], guided.predict(x, 4))


def test_a_pipeline_is_as_it_was_found_after_every_kind():
    pipe = tiny.sd()
    full = sampler(pipe)
    made(full)
    before = [(id(one), sorted(vars(one))) for one in pipe.unet.modules()], sorted(vars(pipe))
    about = dict(full.description)
    for text in ("dtype", "cache", "guidance", "size", "truncate", "steps", "dtype+cache"):
        draft = draft_of(full, text)
        made(draft)
        assert draft.description["fingerprint"] == about["fingerprint"]
    assert ([(id(one), sorted(vars(one))) for one in pipe.unet.modules()], sorted(vars(pipe))) == before
    assert dict(full.description) == about


def test_what_an_error_interrupts_leaves_nothing_behind():
    full = sampler()
    plain = made(full)[0]
    draft = draft_of(full, "dtype+cache")
    hook = full.pipe.unet.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("no")))
    with pytest.raises(RuntimeError, match="no"):
        made(draft)
    hook.remove()
    assert torch.equal(made(full)[0], plain)


# What it says of itself


def test_a_draft_is_described_as_its_full_image_with_the_draft():
    full = sampler()
    draft = draft_of(full, "truncate")
    assert draft.description == {**full.description, "draft": "truncate,at=0.6"}
    assert draft.with_steps(4).schedule.steps == 3
    assert draft_of(full, "steps,n=4+truncate").description["num_inference_steps"] == 4


@pytest.mark.parametrize(
    ("text", "make", "says"),
    [
        ("dtype", lambda: MixtureSampler(steps=STEPS), "expected a diffusers pipeline for draft dtype, got Mixture"),
        ("cache,name=FirstBlockCache", sampler, "got UNet2DConditionModel: it can have cache Deep"),
        ("cache,depth=2", sampler, "expected depth below the 2 blocks of a side of UNet2DConditionModel"),
        ("cache,depth=2", flow, "transformer of more than 4 blocks, for cache Deep, got ClassFlowTransformer of 3"),
        ("size", flow, "expected a pipeline that makes images of other sizes for draft size, got ClassConditional"),
        ("size,by=3", sampler, "with sides that 3 divides"),
        ("steps,n=6", sampler, "expected n below the 6 steps"),
        ("truncate,at=0.95", sampler, "before the last of 6 steps"),
        ("guidance", lambda: PipelineSampler(tiny.sd(), PROMPT, num_inference_steps=2, guidance_scale=1.0),
         "expected a guidance_scale above 1 for draft guidance, got 1"),
        ("guidance", dev, "expected classifier-free guidance for draft guidance, got FluxPipeline"),
        ("dtype+cache,name=FirstBlockCache", dev, "expected cache Deep beside draft dtype, got FirstBlockCache"),
        ("cache,name=MagCache", lambda: sampler(tiny.sd()), "expected a model with the caches of diffusers"),
        ("size", lambda: sampler(solver=Ddim(1.0)), "expected a deterministic solver for draft size"),
    ],
)  # fmt: skip
def test_what_a_model_cannot_have_is_said_in_one_line(text, make, says):
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        draft_of(make(), text)
    assert "\n" not in str(error.value)


def test_blocks_that_give_other_sizes_cannot_be_kept_by_their_difference():
    class Odd(nn.Module):
        def forward(self, x):
            return x[:, :1]

    full = flow()
    full.pipe.transformer.blocks[1] = Odd()
    full.pipe.transformer.blocks[1].skip = None
    full.pipe.transformer.blocks[1].forward = lambda x, modulation, skipped=None: x[:, :1]
    with pytest.raises(UnsupportedPipeline, match="cache Deep"):
        made(draft_of(full, "cache"))
