"""Every scheduler of diffusers, as people configure it: a row each, supported or refused for a reason that is said."""

import contextlib
import copy
import importlib.util
import inspect
import json
import math
import random
import warnings
from dataclasses import dataclass, field
from functools import cache

import diffusers.schedulers
import numpy as np
import pytest
import torch

import noisewright as nw
import tiny
from noisewright.diffusion.schedule import KINDS, estimate
from noisewright.executors.steps import carry
from noisewright.images.metadata import pixels_of
from noisewright.run.particle import Particle, noise_particle
from noisewright.run.reading import read_run
from noisewright.samplers.estimates import own_estimate
from noisewright.samplers.fingerprint import fingerprint
from noisewright.samplers.levels import read_levels
from noisewright.samplers.pipeline import PipelineSampler, load_pipeline

STEPS, SEED, PROMPT = 4, 3, "two red circles"
DIFFERS_BY_ROUNDING = 1
"""In steps of 1/255: Euler in other coordinates."""
CLIPPED = 0.01
FLOAT = 2e-3
"""Of clean estimates, relative to their spread: float32, of states divided by alphas down to 0.07."""


@dataclass(frozen=True)
class Row:
    """A scheduler with a configuration, on a tiny pipeline.

    Attributes:
        name: its class.
        config: beside the pipeline's own.
        on: the pipeline, ``sd`` or ``sd3``.
        refused: part of the refusal; empty where it is supported.
        previews: whether there are clean estimates on the way.
        clips: whether its own estimate is clipped, and ours is compared where it is not.
        needs: a package.
    """

    name: str
    config: dict = field(default_factory=dict)
    on: str = "sd"
    refused: str = ""
    previews: bool = True
    clips: bool = False
    needs: str = ""

    def __str__(self):
        return "-".join([self.name.removesuffix("Scheduler"), self.on, *(f"{k}={v}" for k, v in self.config.items())])


def row(name, /, on="sd", refused="", previews=True, clips=False, needs="", **config):
    scipy = "scipy" if config.get("use_beta_sigmas") else ""
    return Row(f"{name}Scheduler", config, on, refused, previews, clips, needs or scipy)


V = {"prediction_type": "v_prediction"}
KARRAS, EXPONENTIAL, BETA = ({f"use_{one}_sigmas": True} for one in ("karras", "exponential", "beta"))
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", **V}
SDE = {"algorithm_type": "sde-dpmsolver++"}
UNKNOWN, NEEDS = "noise levels noisewright does not know", "needs "
SETTINGS = "expected settings that"

ROWS = [
    # Deterministic, of variance-preserving models
    row("DDIM"), row("DDIM", timestep_spacing="trailing"), row("DDIM", timestep_spacing="linspace"), row("DDIM", **V),
    row("DDIM", **ZERO_SNR), row("DDIM", clip_sample=True, clips=True), row("DDIM", thresholding=True, clips=True),
    row("DDIM", prediction_type="sample"), row("DDIMParallel"), row("DDIMParallel", **ZERO_SNR),
    row("CogVideoXDDIM"), row("CogVideoXDDIM", **V), row("DDIMInverse", previews=False),
    row("DEISMultistep"), row("DEISMultistep", solver_order=3), row("DEISMultistep", **KARRAS),
    row("DEISMultistep", **V), row("DEISMultistep", on="sd3", **FLOW),
    row("DPMSolverMultistep"), row("DPMSolverMultistep", **KARRAS), row("DPMSolverMultistep", **EXPONENTIAL),
    row("DPMSolverMultistep", **BETA), row("DPMSolverMultistep", use_lu_lambdas=True),
    row("DPMSolverMultistep", solver_order=1), row("DPMSolverMultistep", solver_order=3),
    row("DPMSolverMultistep", solver_type="heun"), row("DPMSolverMultistep", thresholding=True, clips=True),
    row("DPMSolverMultistep", timestep_spacing="leading"), row("DPMSolverMultistep", timestep_spacing="trailing"),
    row("DPMSolverMultistep", euler_at_final=True), row("DPMSolverMultistep", final_sigmas_type="sigma_min"),
    row("DPMSolverMultistep", algorithm_type="dpmsolver", final_sigmas_type="sigma_min"),
    row("DPMSolverMultistep", **V), row("DPMSolverMultistep", **ZERO_SNR),
    row("DPMSolverMultistep", on="sd3", **FLOW), row("DPMSolverMultistepInverse"),
    row("DPMSolverSinglestep"), row("DPMSolverSinglestep", solver_order=3), row("DPMSolverSinglestep", **KARRAS),
    row("DPMSolverSinglestep", lower_order_final=False, final_sigmas_type="sigma_min"),
    row("DPMSolverSinglestep", on="sd3", **FLOW),
    row("EulerDiscrete"), row("EulerDiscrete", **KARRAS), row("EulerDiscrete", **EXPONENTIAL),
    row("EulerDiscrete", **BETA), row("EulerDiscrete", timestep_spacing="trailing"),
    row("EulerDiscrete", timestep_spacing="leading"), row("EulerDiscrete", **V), row("EulerDiscrete", **ZERO_SNR),
    row("EulerDiscrete", final_sigmas_type="sigma_min"),
    row("EulerDiscrete", timestep_type="continuous", sigma_min=0.002, sigma_max=700.0, **V, **KARRAS),
    row("HeunDiscrete"), row("HeunDiscrete", **KARRAS), row("HeunDiscrete", **V),
    row("KDPM2Discrete"), row("KDPM2Discrete", **KARRAS), row("LMSDiscrete", needs="scipy"),
    row("LMSDiscrete", needs="scipy", **KARRAS), row("PNDM"), row("PNDM", skip_prk_steps=True),
    row("UniPCMultistep"), row("UniPCMultistep", solver_order=3),
    row("UniPCMultistep", solver_type="bh1", final_sigmas_type="sigma_min"),
    row("UniPCMultistep", predict_x0=False, final_sigmas_type="sigma_min"),
    row("UniPCMultistep", **KARRAS), row("UniPCMultistep", **V),
    row("UniPCMultistep", on="sd3", **FLOW), row("IPNDM"),
    # Stochastic
    row("DDPM"), row("DDPM", variance_type="fixed_large"), row("DDPM", clip_sample=True, clips=True), row("DDPM", **V),
    row("DDPM", thresholding=True, clips=True), row("DDPM", timestep_spacing="trailing"), row("DDPMParallel"),
    row("DPMSolverMultistep", **SDE), row("DPMSolverMultistep", **SDE, **KARRAS),
    row("DPMSolverMultistep", algorithm_type="sde-dpmsolver", final_sigmas_type="sigma_min"),
    row("DPMSolverSinglestep", **SDE), row("DPMSolverSDE", needs="torchsde"),
    row("DPMSolverSDE", needs="torchsde", **KARRAS), row("DPMSolverSDE", needs="torchsde", noise_sampler_seed=7),
    row("EulerAncestralDiscrete"), row("EulerAncestralDiscrete", **V), row("EulerAncestralDiscrete", **ZERO_SNR),
    row("KDPM2AncestralDiscrete"), row("KDPM2AncestralDiscrete", **KARRAS),
    row("SASolver"), row("SASolver", predictor_order=3, corrector_order=3),
    row("SASolver", algorithm_type="noise_prediction"),
    row("LCM"), row("LCM", timestep_scaling=5.0), row("LCM", **V), row("TCD"),
    # Of EDM
    row("EDMEuler"), row("EDMEuler", sigma_schedule="exponential"), row("EDMEuler", sigma_data=1.0, **V),
    row("EDMEuler", final_sigmas_type="sigma_min"), row("EDMEuler", **V),
    row("EDMDPMSolverMultistep"), row("EDMDPMSolverMultistep", solver_order=3), row("EDMDPMSolverMultistep", **SDE),
    row("EDMDPMSolverMultistep", sigma_schedule="exponential"), row("CosineDPMSolverMultistep", needs="torchsde"),
    row("CMStochasticIterative", clips=True),
    # Of flow models
    row("FlowMatchEulerDiscrete", on="sd3"), row("FlowMatchEulerDiscrete", on="sd3", shift=1.0),
    row("FlowMatchEulerDiscrete", on="sd3", **KARRAS), row("FlowMatchEulerDiscrete", on="sd3", **EXPONENTIAL),
    row("FlowMatchEulerDiscrete", on="sd3", **BETA), row("FlowMatchEulerDiscrete", on="sd3", shift_terminal=0.1),
    row("FlowMatchEulerDiscrete", on="sd3", use_dynamic_shifting=True),
    row("FlowMatchEulerDiscrete", on="sd3", invert_sigmas=True),
    row("FlowMatchEulerDiscrete", on="sd3", stochastic_sampling=True), row("FlowMatchHeunDiscrete", on="sd3"),
    row("FlowMatchLCM", on="sd3"),
    row("FlowMatchLCM", on="sd3", scale_factors=[1, 1, 1], upscale_mode="bicubic", refused="states of one size"),
    row("FlowMapEulerDiscrete", on="sd3", previews=False), row("LTXEulerAncestralRF", on="sd3"),
    row("MiniMaxH3", on="sd3"),
    # Of other things, or of pipelines with a loop of their own
    row("Amused", mask_token_id=5, refused=UNKNOWN), row("BlockRefinement", refused=UNKNOWN),
    row("DiscreteDDIM", refused=UNKNOWN), row("EntropyBound", refused=UNKNOWN), row("KarrasVe", refused=UNKNOWN),
    row("VQDiffusion", num_vec_classes=8, refused="expected"), row("DDPMWuerstchen", refused=UNKNOWN),
    row("CogVideoXDPM", refused=NEEDS), row("RePaint", refused=NEEDS), row("ScoreSdeVe", refused="with a step"),
    row("ScoreSdeVp", refused="with a step"), row("ConsistencyDecoder", refused="2 inference steps"),
    row("Helios", refused=SETTINGS, on="sd3"), row("HeliosDMD", refused=SETTINGS, on="sd3"),
    row("Piflow", refused="channels", on="sd3"), row("SCM", refused="Intermediate timesteps", on="sd3"),
    row("RFD4Proteina", refused="proteins"), row("UnCLIP", refused="its own pipelines"),
]  # fmt: skip
NOT_MADE = ("proteins", "its own pipelines")
"""Why there is no pipeline of ours to try a scheduler on: plain diffusers fails with it too."""


def exported():
    kinds = [getattr(diffusers.schedulers, name) for name in dir(diffusers.schedulers) if name.endswith("Scheduler")]
    return sorted({one.__name__ for one in kinds if inspect.isclass(one)})


def test_every_scheduler_of_diffusers_has_its_row():
    assert {one.name for one in ROWS} >= set(exported())


@cache
def held(kind):
    pipe = tiny.sd() if kind == "sd" else tiny.sd3(sample_size=16)
    pipe.set_progress_bar_config(disable=True)
    return pipe, pipe.scheduler.config


def made(one):
    """The pipeline of a row, with its scheduler."""
    if one.needs and importlib.util.find_spec(one.needs) is None:
        pytest.skip(f"it needs {one.needs}")
    if not hasattr(diffusers.schedulers, one.name):
        pytest.skip("this diffusers has it not")
    pipe, own = held(one.on)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe.scheduler = getattr(diffusers.schedulers, one.name).from_config(own, **one.config)
    return pipe


def sampler_of(pipe):
    return PipelineSampler(pipe, PROMPT, num_inference_steps=STEPS, guidance_scale=4.0)


def plain(pipe):
    """The plain image, and of each step the state and what the scheduler itself takes it for."""
    seen, step = [], pipe.scheduler.step

    def noting(model_output, timestep, sample, **more):
        alone = copy.copy(pipe.scheduler)
        del alone.step  # this very function
        own = own_estimate(alone, model_output, len(seen), sample)
        seen.append((sample.clone(), own))
        return step(model_output, timestep, sample, **more)

    noting.__signature__ = inspect.signature(step)
    pipe.scheduler.step = noting
    try:
        given = {"generator": torch.Generator().manual_seed(SEED), "num_inference_steps": STEPS, "guidance_scale": 4.0}
        return np.asarray(pipe(PROMPT, **given).images[0]).astype(int), seen
    finally:
        del pipe.scheduler.step


def way(sampler, *cuts, seeds=(SEED,), to=None):
    """States of starting noises at ``to``, denoised in one piece or cut at these indices."""
    steps, x, state = sampler.schedule.steps, sampler.noise(seeds), None
    at = [noise_particle(seed, steps) for seed in seeds]
    starts = at
    for stop in (*cuts, to or steps):
        x, state = carry(at, sampler, x, state, stop)
        at = [Particle("denoise", (start,), {"to": stop}, stop, steps) for start in starts]
    return x


def everybodys():
    """What the process's own generators would draw next."""
    numbers = np.random.get_state(legacy=False)["state"]
    return torch.get_rng_state().numpy().tobytes(), numbers["key"].tobytes(), numbers["pos"], random.getstate()


@pytest.mark.sampled(12)
@pytest.mark.parametrize("one", [one for one in ROWS if not one.refused], ids=str)
def test_a_supported_scheduler(one):
    pipe = made(one)
    before = everybodys()
    expected, seen = plain(pipe)
    seeded = everybodys() == before
    before = everybodys()
    sampler = sampler_of(pipe)
    found = way(sampler)
    pixels = pixels_of(sampler.decode(found))[0].astype(int)
    if seeded:
        assert np.abs(pixels - expected).max() <= DIFFERS_BY_ROUNDING
        assert not sampler.warnings
    else:  # there is no plain image of this seed: the pipeline gives its scheduler no generator
        assert sampler.stochastic
        assert "no generator" in sampler.warnings[0]
    assert torch.equal(way(sampler_of(pipe)), found)

    for cut in range(1, sampler.schedule.steps):
        assert torch.equal(way(sampler, cut), found), f"cut at {cut}"
    for order in ((1, SEED, 2), (SEED, 2, 1)):
        beside = way(sampler, 2, seeds=order)[order.index(SEED)][None]
        torch.testing.assert_close(beside, found, rtol=0, atol=1e-4 * float(found.std()))
    previewed(one, sampler, seen if seeded else None)
    assert everybodys() == before


def previewed(one, sampler, seen):
    """Whether a sampler's clean estimates are its scheduler's own, or are said not to exist."""
    assert sampler.can_preview == one.previews
    if not sampler.can_preview or not sampler.knows_levels or seen is None:
        return
    doubled = sampler.solver is None or len(seen) == sampler.schedule.steps
    for index in range(sampler.schedule.steps if doubled else 0):
        own = seen[index][1]
        if own is None:
            continue
        ours = sampler.predict(way(sampler, to=index) if index else sampler.noise([SEED]), index)
        if one.clips:  # where both are inside what is clipped; consistency models count from their least level
            inside = (ours.abs() < 1) & (own.abs() < 1)
            torch.testing.assert_close(ours[inside], own[inside], rtol=0, atol=CLIPPED)
            continue
        torch.testing.assert_close(ours, own, rtol=FLOAT, atol=FLOAT * max(1e-3, float(own.std(False).nan_to_num())))


@pytest.mark.parametrize("one", [one for one in ROWS if one.refused not in ("", *NOT_MADE)], ids=str)
def test_a_refused_scheduler(one):
    pipe = made(one)
    before = everybodys()
    with pytest.raises(ValueError, match=one.refused) as caught:  # UnsupportedPipeline is one
        way(sampler_of(pipe))
    assert "\n" not in str(caught.value)
    assert everybodys() == before


@pytest.mark.parametrize("steps", [1, 2])
def test_levels_of_trigflow(steps):
    """Of Sana-Sprint, whose pipeline takes one step less than there are times."""
    scheduler = diffusers.schedulers.SCMScheduler()
    scheduler.set_timesteps(steps, **({} if steps == 2 else {"intermediate_timesteps": None}))
    levels = read_levels(scheduler)
    assert levels.native.steps == steps
    assert levels.kind in KINDS
    x, said = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for index in range(steps):
        own = scheduler.step(said, scheduler.timesteps[index], x, generator=torch.Generator()).pred_original_sample
        alpha, sigma = levels.native.alpha[index], levels.native.sigma[index]
        torch.testing.assert_close(estimate(said, x, alpha, sigma, levels.kind).clean, own, rtol=1e-4, atol=1e-4)
    end = levels.native.alpha[-1], levels.native.sigma[-1]
    assert end == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize("config", [{}, {"sigma_data": 1.0, **V}, {"sigma_data": 0.7}, V], ids=str)
def test_a_solver_of_ours_shows_edm_networks_what_their_scheduler_does(config):
    scheduler = diffusers.schedulers.EDMEulerScheduler(**config)
    scheduler.set_timesteps(STEPS)
    levels = read_levels(scheduler)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for index, s in enumerate(scheduler.sigmas[:-1]):
        alpha, sigma = levels.schedule.alpha[index], levels.schedule.sigma[index]
        assert sigma / alpha == pytest.approx(float(s), rel=1e-6)
        shown = scheduler.precondition_inputs(x, s)
        torch.testing.assert_close(alpha * x, shown)
        own = scheduler.precondition_outputs(x, shown.sin(), s)
        ours = estimate(shown.sin(), alpha * x, alpha, sigma, levels.kind).clean
        torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-4)
    assert (levels.schedule.alpha[-1], levels.schedule.sigma[-1]) == (1.0, 0.0)


class Otherwise(diffusers.schedulers.DDIMScheduler):
    """Takes what its model says for half of the noise."""

    def step(self, model_output, timestep, sample, return_dict=True):
        return super().step(2 * model_output, timestep, sample, return_dict=return_dict)


def test_a_scheduler_that_takes_states_for_something_else_has_no_previews():
    pipe = made(row("DDIM"))
    pipe.scheduler = Otherwise.from_config(pipe.scheduler.config)
    sampler = sampler_of(pipe)
    assert not sampler.can_preview
    assert "of Otherwise" in sampler.prediction
    with pytest.raises(ValueError, match="previews can be made of for halving, got 'epsilon of Otherwise'"):
        nw.search(pipe, PROMPT, search="halving", verifier="brightness", budget="8 images", num_inference_steps=STEPS)


# Fingerprints


class Holding:
    """A pipeline of a scheduler alone."""

    config = {}  # noqa: RUF012

    def __init__(self, scheduler):
        self.components = {"scheduler": scheduler}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("one", [one for one in ROWS if one.refused not in NOT_MADE], ids=str)
@pytest.mark.parametrize("steps", [5, 6])
def test_use_does_not_change_a_schedulers_fingerprint(one, steps):
    scheduler = made(one).scheduler
    before = fingerprint(Holding(scheduler))
    with contextlib.suppress(Exception):  # some need more than this, or take other steps
        scheduler.set_timesteps(steps, **({"mu": 0.5} if one.config.get("use_dynamic_shifting") else {}))
        for time in scheduler.timesteps:
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(torch.ones(1, 4, 8, 8), time)
            scheduler.step(torch.ones(1, 4, 8, 8), time, torch.ones(1, 4, 8, 8))
    assert fingerprint(Holding(scheduler)) == before


@pytest.mark.slow
def test_a_run_goes_on_after_the_pipeline_was_used(tmp_path):
    """DPM-Solver's singlestep scheduler writes its configuration anew for an odd number of steps; some is infinite."""
    config = {"lower_order_final": False, "final_sigmas_type": "sigma_min"}
    pipe = made(row("DPMSolverSinglestep", **config))
    given = {"verifier": "brightness", "num_inference_steps": 5, "guidance_scale": 4.0, "out": tmp_path / "run"}
    nw.search(pipe, PROMPT, budget="1 images", **given)
    pipe(PROMPT, num_inference_steps=5)
    assert pipe.scheduler.config.lower_order_final is True
    assert nw.search(pipe, PROMPT, budget="2 images", **given).images == 2
    file = tmp_path / "run" / "run.json"  # as earlier versions wrote it
    run = json.loads(file.read_text())
    assert run["plain"]["scheduler"]["config"]["solver_order"] == 2
    run["plain"]["scheduler"]["config"]["lambda_min_clipped"] = -math.inf
    file.write_text(json.dumps(run))
    assert read_run(file.parent)["plain"]["scheduler"]["config"]["solver_order"] == 2


@pytest.mark.parametrize("name", ["DPMSolverSDE", "CosineDPMSolverMultistep"])
def test_the_brownian_motion_of_an_earlier_call_does_not_matter(name):
    pipe = made(row(name, needs="torchsde"))
    expected = way(sampler_of(pipe))
    plain(pipe)
    assert pipe.scheduler.noise_sampler is not None
    assert torch.equal(way(sampler_of(pipe)), expected)


def test_a_brownian_motion_belongs_to_its_seed():
    sampler = sampler_of(made(row("DPMSolverSDE", needs="torchsde")))
    one, other = way(sampler, seeds=(1, 2))
    assert not torch.equal(one, other)
    forked = Particle("fork", (noise_particle(1, sampler.schedule.steps),), {"draw": 0}, 0, sampler.schedule.steps)
    found, _ = carry([forked], sampler, sampler.noise([1]), None, sampler.schedule.steps)
    assert not torch.equal(found[0], one)  # its own steps from the same start
    again, _ = carry([forked], sampler, sampler.noise([1]), None, sampler.schedule.steps)
    assert torch.equal(again, found)


@pytest.mark.skipif(importlib.util.find_spec("torchsde") is not None, reason="torchsde is here")
def test_a_missing_package_is_named(tmp_path):
    tiny.sd().save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "DPMSolverSDEScheduler"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="torchsde") as caught:
        load_pipeline(str(tmp_path))
    assert "\n" not in str(caught.value)
