"""What is asked of each family: one function a cell, which returns, or raises AssertionError where something is wrong.

A cell is ``holds``; ``refused: REASON``, where noisewright said in one line that it does not do this; or ``-``, where
there is nothing to ask.
"""

from __future__ import annotations

import inspect
import io
import random
import shutil
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import noisewright as nw
from families.family import Family
from noisewright import registry
from noisewright.errors import UnsupportedPipeline
from noisewright.executors.steps import carry, origins_of, predicted
from noisewright.images.metadata import pixels_of, read_recipe
from noisewright.run.particle import Particle, from_lineage, noise_particle
from noisewright.run.reading import read_journal
from noisewright.run.store import Store
from noisewright.run.verbs import Run
from noisewright.samplers import chance
from noisewright.samplers.parity import obeying, prove
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.verdict import Verdict
from noisewright.verifiers.pixels import Brightness

NOTHING = "-"
SEED, OTHERS = 3, (4, 9)
ONE_STEP_OF_A_PNG = 1.001 / 255  # a rounding in float32 may turn a half up or down
ROUNDING = 2e-3  # of an estimate's deviation: at high noise it is a small difference of large numbers
SLOPES = (0.1, 0.03, 0.01)
"""Steps of the central differences: wide enough that rounding does not show in one, narrow enough in another."""

NAMED = ("class_label", "guidance_scale", "negative_prompt", "height", "width")
"""Arguments of a call that noisewright has itself."""


# What the plain pipeline does


@cache
def pipe_of(family: Family) -> Any:
    """The family's pipeline, made once."""
    pipe = family.make()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def plain_call(family: Family, seed: int, **more: Any) -> Any:
    """What the pipeline itself gives for a seed, as a person calls it."""
    pipe, given = pipe_of(family), {**family.call(), **more}
    if "class_label" in given:
        given["class_labels"] = [given.pop("class_label")]
    if family.prompt is not None:
        given["prompt"] = family.prompt
    torch.manual_seed(0)  # what draws from the process's own generators must not look the same by chance
    generator = torch.Generator("cpu").manual_seed(seed)
    return pipe(num_inference_steps=family.steps, generator=generator, output_type="np", **given)


def pictures_of(output: Any) -> Tensor:
    """The pictures of an output for one prompt: (1, 3, height, width), of a video (1, frames, 3, height, width)."""
    found = next(getattr(output, name) for name in ("images", "frames", "image") if hasattr(output, name))
    found = torch.as_tensor(np.asarray(found))
    return (found.movedim(-1, -3).float().clamp(0, 1) * 255).round() / 255


@cache
def plain(family: Family, seed: int) -> Tensor:
    """The plain pipeline's image, rounded to 8 bits."""
    return pictures_of(plain_call(family, seed))


@contextmanager
def rows_counted(pipe: Any) -> Any:
    """Counts how many rows the networks of a step were given."""
    counted = [0]

    def count(module: Any, args: tuple, kwargs: dict) -> None:
        for value in (kwargs.get("sample"), kwargs.get("hidden_states"), *args, *kwargs.values()):
            if (isinstance(value, Tensor) and value.ndim > 1) or isinstance(value, list):
                counted[0] += len(value)
                return

    networks = [getattr(pipe, name, None) for name in ("unet", "transformer", "transformer_2")]
    hooks = [net.register_forward_pre_hook(count, with_kwargs=True) for net in networks if net is not None]
    try:
        yield counted
    finally:
        for hook in hooks:
            hook.remove()


# What noisewright does


def made(family: Family, **more: Any) -> PipelineSampler:
    """The sampler of the family's pipeline, before it is held to its plain call."""
    given = {**family.call(), **more}
    settings = {name: given.pop(name, None) for name in NAMED}
    settings.update(num_inference_steps=family.steps, pipe_kwargs=given)
    return registry.make_sampler(pipe_of(family), family.prompt, settings)


@cache
def verdict_of(family: Family) -> Verdict:
    """What noisewright finds of the family before it believes it."""
    return prove(made(family))


def sampler_of(family: Family, **more: Any) -> PipelineSampler:
    """The sampler that a search of this family works with: as the check allows it.

    Raises:
        UnsupportedPipeline: where the check refuses it.
    """
    verdict = prove(made(family, **more)) if more else verdict_of(family)
    if verdict.refused is not None:
        raise UnsupportedPipeline(verdict.refused)
    return obeying(made(family, **more), verdict)


def refuse(family: Family) -> None:
    """Say what the check said of what it does not allow.

    Raises:
        UnsupportedPipeline: always.
    """
    raise UnsupportedPipeline("; ".join(verdict_of(family).notes))


def starts(sampler: Any, seeds: tuple[int, ...]) -> list[Particle]:
    return [noise_particle(seed, sampler.schedule.steps) for seed in seeds]


def whole(sampler: Any, *seeds: int) -> Tensor:
    """Clean states of the seeds, without a cut, in one batch where that is allowed."""
    if sampler.most_at_once == 1 and len(seeds) > 1:
        return torch.cat([whole(sampler, seed) for seed in seeds])
    return carry(starts(sampler, seeds), sampler, sampler.noise(seeds), None, sampler.schedule.steps)[0]


def decoded(sampler: Any, x: Tensor, *seeds: int) -> Tensor:
    """Images of the seeds' clean states, and of a video all of its frames: (batch, [frames,] 3, height, width)."""
    if sampler.most_at_once == 1 and len(seeds) > 1:
        return torch.cat([decoded(sampler, x[n : n + 1], seed) for n, seed in enumerate(seeds)])
    images = sampler.decode(x, **origins_of(starts(sampler, seeds), sampler))
    return sampler.take_film().float() / 255 if hasattr(sampler, "take_film") else images


def images_of(sampler: Any, *seeds: int) -> Tensor:
    """The images of seeds, made without a cut."""
    return decoded(sampler, whole(sampler, *seeds), *seeds)


def kept(state: Any) -> Any:
    """What a run reads back of what it wrote."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(found: Tensor, expected: Tensor, what: str) -> None:
    """Nothing, for images that are alike but for a rounding.

    Raises:
        AssertionError: for others.
    """
    assert found.shape == expected.shape, f"{what}: {tuple(found.shape)}, not {tuple(expected.shape)}"
    worst = float((found - expected).abs().max())
    assert worst <= ONE_STEP_OF_A_PNG, f"{what}: {worst * 255:.0f}/255 off"


def parity(family: Family) -> None:
    """Noise, steps and decode give the plain pipeline's image; the pipeline itself is as it was."""
    before = plain(family, SEED)
    sampler = sampler_of(family)
    same(images_of(sampler, SEED), before, "the image")
    same(pictures_of(plain_call(family, SEED)), before, "the plain image afterwards")
    assert float((plain(family, OTHERS[0]) - before).abs().max()) > 4 / 255, "the seed does not matter"


def splits(family: Family) -> None:
    """Every way that is cut in two, with what a run keeps in between, ends as the whole one does."""
    sampler = sampler_of(family)
    if not sampler.can_split:
        refuse(family)
    last, seeds = sampler.schedule.steps, (SEED, OTHERS[0])[: sampler.most_at_once]
    expected = images_of(sampler, *seeds)
    for cut in range(1, last):
        begun = starts(sampler, seeds)
        half = kept(carry(begun, sampler, sampler.noise(seeds), None, cut))
        there = [Particle("denoise", (one,), {"to": cut}, cut, last) for one in begun]
        same(decoded(sampler, carry(there, sampler, *half, last)[0], *seeds), expected, f"cut at {cut} of {last}")


def batch(family: Family) -> None:
    """An image does not depend on its batch mates nor on its place among them."""
    sampler = sampler_of(family)
    if sampler.most_at_once == 1:
        refuse(family)
    alone = images_of(sampler, SEED)
    for place, seeds in ((0, (SEED, *OTHERS)), (2, (*OTHERS, SEED))):
        same(images_of(sampler, *seeds)[place : place + 1], alone, f"at place {place} of 3")


def previews(family: Family) -> str | None:
    """Clean estimates on the way are those of the pipeline's own scheduler."""
    sampler = sampler_of(family)
    if not sampler.can_split:
        refuse(family)
    own = own_estimates(family)
    if not own:
        return NOTHING
    if own[0][:1].numel() != sampler.noise((SEED,)).numel():  # its scheduler sees a part of the state
        return NOTHING
    last = sampler.schedule.steps
    assert len(own) == last, f"{len(own)} estimates of the scheduler's in {last} steps"
    begun, off = starts(sampler, (SEED,)), {}
    for index in range(last):
        x, _ = carry(begun, sampler, sampler.noise((SEED,)), None, index)
        there = [Particle("denoise", (one,), {"to": index}, index, last) for one in begun] if index else begun
        found = clipped(predicted(there, sampler, x, index), pipe_of(family).scheduler)
        apart = (found - own[index][: len(found)].reshape(found.shape)).abs().max()
        off[index] = float(apart / own[index].std())
    wrong = ", ".join(f"{one:.2g} deviations at {index}" for index, one in off.items() if one > ROUNDING)
    assert not wrong, f"estimates off by {wrong} of {last}"
    return None


def own_estimates(family: Family) -> list[Tensor]:
    """What the pipeline's scheduler says of the clean image at each step of a plain call; empty where it does not."""
    scheduler, found = pipe_of(family).scheduler, []
    own = scheduler.step

    @wraps(own)
    def noting(prediction: Tensor, time: Any, sample: Tensor, *args: Any, return_dict: bool = True, **more: Any) -> Any:
        after = own(prediction, time, sample, *args, return_dict=True, **more)
        clean = getattr(after, "pred_original_sample", getattr(after, "denoised", None))
        if isinstance(after, tuple):  # whatever is asked for, as CogVideoX's does it in its first step
            found.append(after[1].detach().float())
            return after
        if type(scheduler).__name__ == "FlowMatchEulerDiscreteScheduler":
            clean = sample.float() - scheduler.sigmas[scheduler.step_index - 1] * prediction.float()
        elif clean is None and scheduler.config.get("algorithm_type") in ("dpmsolver++", "sde-dpmsolver++"):
            clean = scheduler.model_outputs[-1]
        if clean is not None:
            found.append(clean.detach().float())
        return after if return_dict else after.to_tuple()

    scheduler.step = noting
    try:
        plain_call(family, SEED)
    finally:
        del scheduler.step
    return found


def clipped(estimate: Tensor, scheduler: Any) -> Tensor:
    """The estimate as a scheduler that clips its own would have it."""
    if not scheduler.config.get("clip_sample", False):
        return estimate
    most = float(scheduler.config.get("clip_sample_range", 1.0))
    return estimate.clamp(-most, most)


def gradient(family: Family) -> None:
    """The gradient at a starting noise is that of central differences along it."""
    sampler = sampler_of(family)
    x = sampler.noise((SEED,)).requires_grad_()
    (slope,) = torch.autograd.grad(sampler.trace(x).double().mean(), x)
    steep, found = float(slope.norm()), []
    assert steep > 0, "the gradient is zero"
    for step in SLOPES:
        sides = (x.detach() + side * step * slope / steep for side in (1, -1))
        ahead, behind = (float(sampler.trace(one).double().mean()) for one in sides)
        found.append((ahead - behind) / (2 * step))
    off = min(abs(one - steep) / steep for one in found)
    assert off <= 0.05, f"a slope of {steep:.3g}, but {found} by differences"


def reproducible(family: Family) -> None:
    """A seed gives the same twice, in samplers made apart, and nobody else's random numbers are used up."""
    first, second = (sampler_of(family) for _ in range(2))
    found = images_of(first, SEED), images_of(first, SEED)
    again = images_of(second, SEED)
    assert torch.equal(found[0], found[1]), "the same seed, another image"
    assert torch.equal(found[0], again), "the same seed in another sampler, another image"
    drawn = [_drawn_from(family)]
    while drawn[-1] and len(drawn) < 3:  # a thread that an earlier test left may draw, but not each time
        drawn.append(_drawn_from(family))
    assert not drawn[-1], f"the process's own generators were moved: {drawn}"


def _drawn_from(family: Family) -> list[str]:
    """The process's generators that making a sampler and an image moves."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = chance.states()
    images_of(sampler_of(family), SEED)
    return chance.moved(before, chance.states())


def cost(family: Family) -> None:
    """NFE are what the sampler says of a way, and forwards what the plain call makes, with and without guidance."""
    parameters = inspect.signature(type(pipe_of(family)).__call__).parameters
    for more in ({}, {"guidance_scale": 1.0})[: 2 if "guidance_scale" in parameters else 1]:
        with rows_counted(pipe_of(family)) as rows:
            plain_call(family, SEED, **more)
        sampler = sampler_of(family, **more)
        before = sampler.meter.snapshot()
        whole(sampler, SEED, *OTHERS)
        spent = sampler.meter.since(before)
        expected = 3 * sampler.nfe(0, sampler.schedule.steps)
        assert spent["nfe"] == expected, f"{spent['nfe']} NFE counted, {expected} expected ({more})"
        assert spent["forwards"] == 3 * rows[0], f"{spent['forwards']} forwards, not 3 times {rows[0]} ({more})"


def searched(family: Family, out: Path, search: str, **arguments: Any) -> Any:
    """A run of a few images of the family."""
    if family.prompt is not None:
        arguments["prompt"] = family.prompt
    return nw.search(
        pipe_of(family), num_inference_steps=family.steps, verifier=Brightness(), judge="none", search=search, out=out,
        progress=False, pictures=False, **family.call(), **arguments,
    )  # fmt: skip


def resumed(family: Family, place: Path, search: str, **arguments: Any) -> None:
    """A run whose journal is cut in its middle is gone on with to the same journal and the same images."""
    result = searched(family, place / "whole", search, **arguments)
    assert len(result.candidates) > 1, "one candidate only"
    shutil.copytree(place / "whole", place / "cut")
    journal = place / "cut" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    again = searched(family, place / "cut", search, **arguments)
    assert content(place / "cut") == content(place / "whole"), "another journal after a cut"
    assert [one.pixels for one in again.candidates] == [one.pixels for one in result.candidates], "other images"


def content(root: Path) -> list[dict[str, Any]]:
    """The journal but for what the clock says."""
    return [{key: value for key, value in one.items() if key not in ("seconds", "elapsed")}
            for one in read_journal(root)]  # fmt: skip


def zero_order(family: Family, place: Path) -> None:
    resumed(family, place, "zero-order", budget="6 images", search_args={"neighbours": 2}, batch_size=2)


def paths(family: Family, place: Path) -> None:
    resumed(family, place, "paths", budget="9 images", search_args={"width": 2, "children": 2}, batch_size=2)


def replay(family: Family, place: Path) -> None:
    """The best PNG is made again from its recipe, to the pixel."""
    result = searched(family, place / "run", "zero-order", budget="4 images", search_args={"neighbours": 1},
                      batch_size=1)  # fmt: skip
    pixels, recipe = read_recipe(result.best.file)
    sampler = sampler_of(family)
    store = Store.create(place / "again", {"sampler": sampler.description}, {"noisewright": "0"}, "now")
    try:
        made = Run(store, sampler, [Brightness()], batch_size=1).finish([from_lineage(recipe["lineage"])])[0]
        found = read_recipe(store.root / made.file)[0]
    finally:
        store.close()
    assert np.array_equal(found, pixels), "other pixels from the recipe"
    assert np.array_equal(pixels_of(torch.as_tensor(pixels).movedim(-1, 0) / 255), pixels)


CELLS: dict[str, Callable[..., str | None]] = {
    "parity": parity, "splits": splits, "batch": batch, "previews": previews, "gradient": gradient,
    "reproducible": reproducible, "cost": cost, "zero-order": zero_order, "paths": paths, "replay": replay,
}  # fmt: skip


def outcome(family: Family, cell: str, place: Path) -> str:
    """What a cell gives.

    Raises:
        AssertionError: where something is wrong, or refused by somebody else than noisewright.
    """
    ask = CELLS[cell]
    try:
        return (ask(family, place) if "place" in inspect.signature(ask).parameters else ask(family)) or "holds"
    except ValueError as error:
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        text = str(error).replace(str(place), "RUN")
        if Path(where) != Path(__file__) and Path(nw.__file__).parent not in Path(where).parents:
            raise AssertionError(f"{type(error).__name__} of {Path(where).name}: {text[:200]}") from error
        if "\n" in text:
            raise AssertionError(f"a refusal of several lines: {text}") from error
        return f"refused: {text}"
