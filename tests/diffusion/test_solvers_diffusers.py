"""Every solver against diffusers' scheduler of the same method, on that scheduler's own levels."""

import math
import warnings
from functools import cache

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler

import tiny
from noisewright import registry
from noisewright.diffusion.clock import Clock
from noisewright.diffusion.noise import gaussian
from noisewright.diffusion.schedule import Schedule, estimate
from noisewright.diffusion.solvers import Ddim, StagedSolver, levels_asked, nfe
from noisewright.errors import UnsupportedPipeline
from noisewright.samplers.levels import read_levels
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.places import there
from noisewright.samplers.protocol import Sampler
from noisewright.samplers.seam import without_guidance
from solving import trajectory

# Of float32 states of magnitude up to 30: some ten roundings (6e-8 relative) in each of up to 20 steps.
ROUNDING = 2e-5
CANCELLING = 1e-3  # diffusers' DEIS integrates in float32 by differences of large antiderivatives
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
NAMES = [name for name in registry.names("solver") if name != "pipeline"]

VP = {
    "dpmpp-2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp-2m karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp-2m not to the end": ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min"}),
    "dpmpp-3m": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "dpmpp-2m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm-solver-2": (
        "DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
    ),
    "dpm-solver-3": (
        "DPMSolverSinglestepScheduler",
        {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_order": 3},
    ),
    "deis-1": ("DEISMultistepScheduler", {}),
    "deis-2": ("DEISMultistepScheduler", {"solver_order": 3}),
    "heun": ("HeunDiscreteScheduler", {}),
    "pndm-s": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
    "pndm-s to the end": ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}  # fmt: skip
STRAIGHT = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "heun": ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
    "dpmpp-2m": ("DPMSolverMultistepScheduler", FLOW),
    "dpmpp-3m": ("DPMSolverMultistepScheduler", {**FLOW, "solver_order": 3}),
    "deis-1": ("DEISMultistepScheduler", FLOW),
    "deis-2": ("DEISMultistepScheduler", {**FLOW, "solver_order": 3}),
    "unipc": ("UniPCMultistepScheduler", FLOW),
}


def network(x, t):
    """Some smooth function of state and time."""
    return torch.tanh(x * (1 + t / 500)) * 0.8 + 0.1 * torch.sin(x + t / 100)


def look(kind):
    return lambda x, level: estimate(network(x, level.t), x, level.alpha, level.sigma, kind)


def states(count=1):
    return torch.randn(count, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def theirs(scheduler, x, noise=None):
    for index, time in enumerate(scheduler.timesteps):
        seen = scheduler.scale_model_input(x, time) if hasattr(scheduler, "scale_model_input") else x
        more = {} if noise is None else {"variance_noise": noise[index]}
        x = scheduler.step(network(seen, float(time)), time, x, return_dict=False, **more)[0]
    return x


def made(name, config, steps):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers would rather have dpmsolver++
        scheduler = getattr(diffusers, name)(**config)
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("steps", [6, 18])
@pytest.mark.parametrize("case", VP)
def test_equals_diffusers_on_vp_levels(case, steps):
    scheduler = made(VP[case][0], {**SD, **VP[case][1]}, steps)
    schedule, solver = read_levels(scheduler).schedule, registry.make_solver(case.split()[0])
    x, *noise = states(steps + 1)
    noise = noise if solver.stochastic else None
    found, count = trajectory(solver, schedule, x * schedule.start, look("epsilon"), noise)
    scale = schedule.alpha[-1] if case == "heun" else 1  # it works in other coordinates
    expected = theirs(scheduler, x * float(scheduler.init_noise_sigma), noise) * scale
    near = CANCELLING if case.startswith("deis") else ROUNDING
    torch.testing.assert_close(found, expected, rtol=0, atol=near * float(expected.std()))
    assert count == nfe(solver, schedule, 0, schedule.steps) == len(scheduler.timesteps)


@pytest.mark.parametrize("steps", [6, 18])
@pytest.mark.parametrize("name", STRAIGHT)
def test_equals_diffusers_on_flow_levels(name, steps):
    scheduler = made(*STRAIGHT[name], steps)
    sigmas, times = scheduler.sigmas.double().tolist(), scheduler.timesteps.tolist()
    keep = [n for n in range(len(times)) if n == 0 or sigmas[n] != sigmas[n - 1]]  # Heun names a level twice
    levels = [*(sigmas[n] for n in keep), sigmas[-1]]
    schedule = Schedule(tuple(times[n] for n in keep), tuple(1 - s for s in levels), tuple(levels))
    (x,) = states()
    solver = registry.make_solver(name)
    found, count = trajectory(solver, schedule, x, look("flow"))
    expected = theirs(scheduler, x)
    near = CANCELLING if name.startswith("deis") else ROUNDING
    torch.testing.assert_close(found, expected, rtol=0, atol=near * float(expected.std()))
    assert count == len(times)


@pytest.mark.parametrize("steps", [4, 10])
def test_f_pndm_equals_diffusers(steps):
    """diffusers lists the levels halfway too; ours come from the model's clock."""
    scheduler = made("PNDMScheduler", {**SD, "steps_offset": 1}, steps)
    schedule = read_levels(scheduler).schedule
    keep = [0, 2, 4, *range(6, schedule.steps)]
    own = Schedule(
        tuple(schedule.t[n] for n in keep), tuple(schedule.alpha[n] for n in (*keep, -1)),
        tuple(schedule.sigma[n] for n in (*keep, -1)), clock=schedule.clock,
    )  # fmt: skip
    (x,) = states()
    found, count = trajectory(registry.make_solver("pndm-f"), own, x, look("epsilon"))
    expected = theirs(scheduler, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING * float(expected.std()))
    assert count == len(scheduler.timesteps) == steps + 9


def test_ipndm_equals_diffusers():
    """From its second level on: at its first, pure noise, diffusers' divides by 1e-8 and loses the prediction."""
    scheduler = made("IPNDMScheduler", {}, 12)
    scheduler.set_begin_index(1)
    (x,) = states()
    expected = x
    for time in scheduler.timesteps[1:]:
        expected = scheduler.step(network(expected, float(time)), time, expected, return_dict=False)[0]
    levels = [tuple(one.tolist()[1:]) for one in (scheduler.timesteps, scheduler.alphas, scheduler.betas)]
    found, _ = trajectory(registry.make_solver("ipndm"), Schedule(*levels), x, look("v_prediction"))
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING * float(expected.std()))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("ltsp", "stsp")])
def test_both_ends_are_handled(name):
    """From pure noise, where alpha is 0, to the clean image, where sigma is: what the last estimate says."""
    sigmas = torch.linspace(1, 0, 7, dtype=torch.float64)
    schedule = Schedule(
        tuple((sigmas[:-1] * 1000).tolist()), tuple((1 - sigmas).tolist()), tuple(sigmas.tolist()),
        clock=Clock("flow"),
    )  # fmt: skip
    x, *noise = states(7).double()
    asked_of = []

    def network_of_a_point(x, level):
        asked_of.append(level)
        return estimate(torch.full_like(x, 0.25), x, level.alpha, level.sigma, "sample")

    solver = registry.make_solver(name)
    found, _ = trajectory(solver, schedule, x, network_of_a_point, noise if solver.stochastic else None)
    torch.testing.assert_close(found, torch.full_like(x, 0.25), rtol=0, atol=1e-9)
    assert all(level.sigma > 0 for level in asked_of)


# On pipelines

PIPELINES = {
    "sd": lambda: tiny.sd(),
    "sdxl": lambda: tiny.sdxl(),
    "sd3": lambda: tiny.sd3(sample_size=16),
}


@cache
def pipe_of(name):
    pipe = PIPELINES[name]()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sampler_of(name, solver, steps=5, **more):
    given = {"num_inference_steps": steps, "guidance_scale": 4.0, "solver": registry.make_solver(solver), **more}
    return PipelineSampler(pipe_of(name), "two red circles", **given)


def step_noise(shape):
    return lambda index: torch.stack([gaussian(shape, 3, index)])


@pytest.mark.sampled(17)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["sd", "sd3"])
def test_parts_equal_the_whole_and_evaluations_are_counted(name, kind):
    sampler = sampler_of(kind, name)
    assert isinstance(sampler, Sampler)
    x = sampler.noise([3])
    drawn = step_noise(x.shape[1:])
    before = sampler.meter.nfe
    whole, _ = sampler.denoise(x, 0, 5, None, drawn)
    assert bool(whole.isfinite().all())
    assert sampler.meter.nfe - before == sampler.nfe(0, 5) >= 5
    part, state = sampler.denoise(x, 0, 2, None, drawn)
    half, state = sampler.denoise(part, 2, 3, state, drawn)
    rest, _ = sampler.denoise(half, 3, 5, state, drawn)
    assert torch.equal(rest, whole)
    if sampler.can_advance:
        again, state = sampler.advance(x, 0, sampler.predict(x, 0), None, drawn)
        again, _ = sampler.denoise(again, 1, 5, state, drawn)
        torch.testing.assert_close(again, whole, rtol=0, atol=1e-3 * float(whole.std()))
    assert sampler.can_advance != isinstance(sampler.solver, StagedSolver)


NATIVE = {
    "dpmpp-2m": ("DPMSolverMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis-1": ("DEISMultistepScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "pndm-s": ("PNDMScheduler", {"skip_prk_steps": True}),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize("name", NATIVE)
def test_equals_the_plain_pipeline(name, kind):
    scheduler, config = NATIVE[name]
    made = {"sd": tiny.sd, "sdxl": tiny.sdxl}[kind]
    pipe = made(getattr(diffusers, scheduler).from_config(DDIMScheduler(**tiny.SD_SCHEDULER).config, **config))
    pipe.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": 4, "guidance_scale": 4.0}
    generator = torch.Generator("cpu").manual_seed(3)
    expected = pipe("two red circles", generator=generator, output_type="latent", **given).images
    sampler = PipelineSampler(pipe, "two red circles", solver=registry.make_solver(name), **given)
    steps = sampler.schedule.steps
    found, _ = sampler.denoise(sampler.noise([3]), 0, steps)
    if name == "heun":
        assert sampler.nfe(0, steps) == 7
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4 * float(expected.std()))


def test_a_solvers_state_goes_where_the_model_is():
    state = {"x": torch.ones(2, 1), "clean": [torch.ones(2, 1), torch.ones(2, 1)], "order": 2, "none": None}
    found = there(state, torch.device("meta"))
    assert [one.device.type for one in (found["x"], *found["clean"])] == ["meta"] * 3
    assert (found["order"], found["none"]) == (2, None)


def test_splitting_asks_for_guidance():
    sampler = sampler_of("sd", "ltsp", guidance_scale=1.0)
    with pytest.raises(UnsupportedPipeline, match="scale above 1"):
        sampler.denoise(sampler.noise([3]), 0, 1)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_prediction_without_guidance_is_found(swapped, sign):
    plain, prompted = states(2)
    guided = sign * (plain + 4.0 * (prompted - plain))
    halves = (prompted, plain) if swapped else (plain, prompted)
    assert torch.equal(without_guidance(guided, [torch.cat(halves)], 4.0), sign * plain)
    assert torch.equal(without_guidance(guided, list(halves), 4.0), sign * plain)
    assert without_guidance(guided * 1.5, [torch.cat(halves)], 4.0) is None
    assert without_guidance(guided, [plain], 4.0) is None


def test_a_splitting_step_is_what_its_formula_says():
    """One step of LTSP by hand, from the two predictions of the pipeline's own network."""
    sampler = sampler_of("sd", "ltsp", steps=3)
    x = sampler.noise([3])
    schedule = sampler.schedule
    alpha, after_alpha = schedule.alpha[:2]
    sigma, after_sigma = schedule.sigma[:2]

    def predictions(x, index):
        outputs = []
        for scale in (4.0, 1.0):  # two guided calls: with guidance, and with the prompt alone
            one = sampler_of("sd", "ddim", steps=3, guidance_scale=scale)
            clean = one.predict(x, index)
            outputs.append((x - schedule.alpha[index] * clean) / schedule.sigma[index])
        guided, prompted = outputs
        guidance = 4.0 * (guided - prompted) / 3.0
        return guided - guidance, guidance

    plain, _ = predictions(x, 0)
    middle = after_alpha / alpha * (x - sigma * plain) + after_sigma * plain
    _, guidance = predictions(middle, 1)
    expected = middle + after_alpha * (after_sigma / after_alpha - sigma / alpha) * guidance
    found, _ = sampler.denoise(x, 0, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert sampler.meter.forwards == 4


def test_evaluations_of_a_step_are_told_before_it_is_taken():
    schedule = read_levels(made("DDIMScheduler", tiny.SD_SCHEDULER, 6)).schedule
    counts = {name: [len(levels_asked(registry.make_solver(name), schedule, n)) for n in range(6)] for name in NAMES}
    assert counts["heun"] == [2, 2, 2, 2, 2, 1]
    assert counts["pndm-f"] == [4, 4, 4, 1, 1, 1]
    assert counts["pndm-s"] == [2, 1, 1, 1, 1, 1]
    assert counts["ltsp"] == [2, 2, 2, 2, 2, 1]
    assert counts["stsp"] == [3, 3, 3, 3, 3, 1]
    for name in set(NAMES) - {"heun", "pndm-f", "pndm-s", "ltsp", "stsp"}:
        assert counts[name] == [1] * 6
    assert nfe(Ddim(), schedule, 2, 5) == 3


def test_the_level_halfway_is_the_clocks():
    schedule = read_levels(made("PNDMScheduler", {**SD, "skip_prk_steps": True}, 10)).schedule
    middle = schedule.halfway(0)
    table = PNDMScheduler(**SD).alphas_cumprod
    assert middle.t == 850
    assert middle.alpha == pytest.approx(math.sqrt(float(table[850])), rel=1e-6)


@pytest.mark.parametrize("name", ["heun", "dpmpp-2m", "unipc"])
def test_eta_is_refused_where_there_is_none(name):
    with pytest.raises(ValueError, match=f"no eta for solver {name}.*ddim.*dpmpp-2m-sde"):
        registry.make_solver(name, 0.5)
