"""Regenerate a candidate from its recipe, and say whether the pixels are the same."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisewright import registry
from noisewright.diffusion.schedule import Schedule
from noisewright.errors import RunMismatch, UnsupportedPipeline
from noisewright.execute import versions
from noisewright.images.metadata import encode_png, pixel_hash, public_name, read_image, read_recipe
from noisewright.outside.bundled import is_server
from noisewright.outside.files import check_output, write_atomically
from noisewright.recipes import find_image, find_recorded_model, rebuilt_remote, run_beside
from noisewright.request import RESERVED, check_callback
from noisewright.run.particle import Particle, from_lineage, noise_particle
from noisewright.run.store import Store
from noisewright.run.verbs import Run
from noisewright.samplers.device import check_device
from noisewright.samplers.drafts import drafted
from noisewright.samplers.drafts.sampler import DraftSampler
from noisewright.samplers.fingerprint import fingerprint, is_older, same_model
from noisewright.samplers.optional import warnings_of
from noisewright.samplers.parity import obeying
from noisewright.samplers.pictures import opened
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.protocol import Sampler
from noisewright.samplers.recorded import SOURCE, images_of, loading_arguments
from noisewright.samplers.settings import restored
from noisewright.samplers.verdict import Verdict
from noisewright.schemas.drafts import read_draft
from noisewright.schemas.request import CALLBACKS, as_path, check_arguments
from noisewright.schemas.typed import as_files

NOT_SETTINGS = (
    "model", "pipeline", "fingerprint", "prompt", "num_inference_steps", "solver", "eta", "schedule", "levels", "dtype",
    "device", "draft", "none", "step_noise", "states", "lower_order_final", *SOURCE,
)  # fmt: skip
"""What of a sampler's description is no argument of the pipeline's call."""

NAMED_SETTINGS = ("class_label", "guidance_scale", "negative_prompt", "height", "width", "frames")

MOST_AT_ONCE = 2**27
"""Pixels of a micro-batch that is rebuilt, whatever a recipe says of its size: 128 images of a megapixel."""

FILLER_DRAW = 10**6
"""Draw numbers of the rows that fill a micro-batch; no search reaches them."""


@dataclass(frozen=True)
class Replay:
    """What came of regenerating a candidate.

    Attributes:
        source: what was asked for.
        id: the candidate's id; ``seed`` its seed, or None.
        identical: whether the pixels are the same.
        how: how they were regenerated: ``alone``, or in a micro-batch.
        max_difference: in steps of 1/255.
        mean_difference: over all channels, in steps of 1/255.
        changed: the fraction of pixels that differ.
        reasons: likely reasons for a difference.
        file: where the regenerated PNG was written, or None.
    """

    source: str
    id: str
    seed: int | None
    identical: bool
    how: str
    max_difference: int
    mean_difference: float
    changed: float
    reasons: tuple[str, ...]
    file: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {**vars(self), "reasons": list(self.reasons)}

    def to_text(self) -> str:
        """One paragraph for people."""
        if self.identical:
            lines = [f"identical: {self.source} regenerated {self.how}, every pixel is the same"]
        else:
            lines = [
                f"different: {self.source} regenerated {self.how}, {self.changed:.1%} of the pixels differ, by "
                f"{self.max_difference}/255 at most and {self.mean_difference:.3g}/255 on average",
                *(f"likely reason: {reason}" for reason in self.reasons),
            ]
        return "\n".join([*lines, *([self.file] if self.file else [])])


def replay(
    source: str | Path,
    *,
    out: str | Path | None = None,
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    pipe_kwargs: Mapping[str, Any] | None = None,
    trust: bool = False,
    loras: Sequence[str | Path] = (),
    config: str | Path | None = None,
) -> Replay:
    """Regenerate the candidate of a PNG, or of ``RUN:ID``.

    First alone; where the pixels differ, again in a micro-batch of the recorded size at the recorded place.

    Args:
        source: a PNG, or a run directory and an id or the beginning of one, ``best`` or ``baseline``.
        out: where to write the regenerated PNG.
        model: where the model is now; by default what the recipe names, or of a local one the run.json beside it.
        device: by default the recorded kind where it is here, else the best there is.
        dtype: by default the recorded one.
        pipe_kwargs: tensors, arrays and images among the arguments of the pipeline's call, of which a recipe holds only
            a hash: it is compared.
        trust: download a model that the recipe names and that is not here.
        loras: where the LoRAs that made it are now, if not where they were; a recipe knows them by their content.
        config: where the configurations of a single-file checkpoint are now.

    Raises:
        ValueError: on a file without a recipe, an unknown id, or settings that the model does not take, or that are
            needed again.
        RunMismatch: where the model is another one, or an argument.
    """
    source = str(as_path("an image or RUN:ID", source))
    typed = None if out is None else as_path("out", out)
    out = None if typed is None else check_output(typed, make_parent=False)
    model = None if model is None else model if is_server(model) else str(as_path("a model", model))
    checked = check_arguments(device=device, dtype=dtype)
    device, dtype = checked.device, checked.dtype
    check_device(device)
    pixels, recipe = read_recipe(image := find_image(source))
    model = find_recorded_model(recipe, image, trust) if model is None else model
    request = run_beside(image).get("request")
    loading = loading_arguments(recipe["sampler"], what=str(image), loras=loras, config=config, request=request)
    pipe_kwargs = {name: opened(as_files(name, one), name) for name, one in (pipe_kwargs or {}).items()}
    pipe_kwargs = {**images_of(recipe["sampler"], request, pipe_kwargs), **pipe_kwargs}
    sampler = as_made(rebuild(recipe, model, device, dtype, pipe_kwargs, loading), recipe)
    particle = _particle(recipe)
    best, how = _regenerate(sampler, [particle], particle, recipe), "alone"
    size, place = (int(recipe["micro_batch"][key]) for key in ("size", "place"))
    tried = True
    if not np.array_equal(best, pixels) and size > 1 and isinstance(sampler, (PipelineSampler, DraftSampler)):
        fits = size * best.shape[0] * best.shape[1] <= MOST_AT_ONCE
        again = _in_batch(sampler, particle, size, place, recipe) if fits else None
        tried = again is not None
        if again is not None and _distance(again, pixels) <= _distance(best, pixels):
            best, how = again, f"in a micro-batch of {size} at place {place}"
    batch = {"size": size, "place": place} if how != "alone" else {"size": 1, "place": 0}
    _write(out, best, {**recipe, "sampler": sampler.description, "micro_batch": batch})
    written = None if typed is None else str(typed)
    reasons = () if np.array_equal(best, pixels) else _reasons(recipe, sampler, pixels, best, size, tried)
    return _compared(source, particle, pixels, best, how, tuple(reasons), written)


def as_made(sampler: Sampler, recipe: Mapping[str, Any]) -> Sampler:
    """The sampler of a recipe's draft, or the full one where it is none."""
    text = recipe["sampler"].get("draft")
    if text is None:
        return sampler
    parts = {kind: args for kind, args in read_draft(text).parts.items() if kind != "steps"}  # which it has already
    return drafted(sampler, replace(read_draft(text), parts=parts))


def rebuild(
    recipe: Mapping[str, Any], model: str | None = None, device: str | None = None, dtype: str | None = None,
    pipe_kwargs: Mapping[str, Any] | None = None, loading: Mapping[str, Any] | None = None,
) -> Sampler:  # fmt: skip
    """The sampler that a recipe describes; the arguments are :func:`replay`'s.

    ``loading`` is what :func:`~.samplers.recorded.loading_arguments` gives; by default what the record alone says.

    Raises:
        RunMismatch: where the model is another one, or an argument, or its scheduler gives other noise levels.
        ValueError: where the model does not load or does not take the settings.
    """
    made = recipe["sampler"]
    if "served" in made:
        return rebuilt_remote(made, model or made["model"], device)
    if "pipeline" not in made:
        maker = made.get("model", "another sampler")
        raise ValueError(f"expected an image of a diffusers pipeline, got one of {maker}")
    none = made.get("none", ())  # explicit Nones; others were not given, or mean the default
    settings = {key: value for key, value in made.items() if value is not None or key in none}
    settings = {key: value for key, value in settings.items() if key not in NOT_SETTINGS}
    settings = restored(settings, pipe_kwargs, is_older(made["fingerprint"]))
    name = model or made["model"]
    device = device or _device(made["device"])
    loading = loading_arguments(made, what=f"an image of {name}") if loading is None else loading
    pipe = registry.load_model(name, device=device, dtype=made["dtype"], **loading)  # a fingerprint is of one dtype
    now = fingerprint(pipe)
    if not same_model(made["fingerprint"], now):
        raise RunMismatch(
            f"expected the model with fingerprint {made['fingerprint']} that made the image, got {now} from {name}"
        )
    if dtype is not None and dtype != made["dtype"]:
        pipe = registry.load_model(name, device=device, dtype=dtype, **loading)
    if _solver(made) is None and made["eta"] is not None:
        settings["eta"] = made["eta"]  # what the pipeline passes to its own scheduler
    for key in RESERVED:
        if key in settings:
            raise ValueError(f"expected no {key} in a recipe, which noisewright sets itself")
    for key in CALLBACKS:
        check_callback(key, made.get(key))
    named = {key: settings.pop(key, None) for key in NAMED_SETTINGS}
    found, solvers = "", [None, _solver(made)]  # the pipeline's own mostly maps to the recorded one
    levels = made.get("levels")
    if levels is not None:
        levels = registry.schedule_rule(levels) if isinstance(levels, str) else Schedule(**levels)
        solvers = solvers[1:]
    for solver in solvers:
        steps, model_name = made["num_inference_steps"], made["model"]
        given = {"num_inference_steps": steps, "solver": solver, "schedule": levels, "model": model_name, **named}
        if made["dtype"] in ("bfloat16", "float16"):
            given["states"] = made.get("states", "float32")
        sampler = registry.make_sampler(pipe, made["prompt"], {**given, "pipe_kwargs": settings})
        rebuilt = {key: sampler.description[key] for key in ("solver", "eta", "schedule")}
        if all(rebuilt[key] == made[key] for key in rebuilt):
            return sampler
        found = rebuilt["schedule"]
        if solver is not None or made["solver"] != type(pipe.scheduler).__name__:
            continue
        natively = obeying(sampler, Verdict(native=True))  # by the pipeline's own scheduler, as was proved to be right
        if all(natively.description[key] == made[key] for key in rebuilt):
            return natively
    raise RunMismatch(f"expected the noise levels {made['schedule']} of {made['solver']}, got {found} from {name}")


def _solver(made: Mapping[str, Any]) -> Any:
    try:
        return registry.make_solver(made["solver"], made["eta"])
    except ValueError:
        return None  # a scheduler of the pipeline's own


def _device(recorded: str) -> str | None:
    """The recorded kind of device where it is here, else None: the best there is."""
    kind = recorded.partition(":")[0]
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return kind if here.get(kind, False) else None


def _particle(recipe: Mapping[str, Any]) -> Particle:
    return from_lineage(recipe["lineage"])  # which read_recipe has checked


# Regenerating


class _Nothing:
    """The verifier of a replay, which ranks nothing."""

    name = "none"
    fingerprint = "none"

    def __call__(self, images: Tensor, prompt: str) -> Sequence[float]:
        return [0.0] * len(images)


def _regenerate(
    sampler: Sampler, batch: Sequence[Particle], wanted: Particle, recipe: Mapping[str, Any]
) -> np.ndarray:
    """The pixels of ``wanted``, finished in one micro-batch with the rest of ``batch``, by the run's own verbs."""
    with tempfile.TemporaryDirectory(prefix="noisewright-") as place:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        store = Store.create(place, {"sampler": sampler.description}, versions(), now)
        try:
            run = Run(store, sampler, [_Nothing()], batch_size=len(batch), search=str(recipe.get("search", "")))
            found = {one.id: one for one in run.finish(batch)}[wanted.id]
            return read_image(store.root / found.file)[0]
        finally:
            store.close()


def _in_batch(
    sampler: Sampler, particle: Particle, size: int, place: int, recipe: Mapping[str, Any]
) -> np.ndarray | None:
    """As :func:`_regenerate` in a micro-batch of the recorded size, or None where it cannot be filled."""
    fillers = [_filler(particle, number) for number in range(size - 1)]
    batch = [*fillers[:place], particle, *fillers[place:]]
    try:
        return _regenerate(sampler, batch, particle, recipe)
    except (RuntimeError, ValueError, TypeError, UnsupportedPipeline):
        return None  # solver states that do not batch with fresh ones, or no memory for it


def _filler(particle: Particle, number: int) -> Particle:
    """A finished particle that starts where ``particle`` does, with another noise."""
    start = particle.parent if particle.parents else particle
    if start.index == 0:
        begun = noise_particle(FILLER_DRAW + number, particle.steps, particle.draft, particle.full.steps)
    else:
        args = {"to": start.index, "draw": FILLER_DRAW + number}
        begun = Particle("renoise", (start,), args, start.index, particle.steps)
    return Particle("denoise", (begun,), {"to": particle.steps}, particle.steps, particle.steps)


# Comparing


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


def _compared(
    source: str, particle: Particle, pixels: np.ndarray, found: np.ndarray, how: str, reasons: tuple[str, ...],
    file: str | None,
) -> Replay:  # fmt: skip
    if pixels.shape != found.shape:
        size = f"the image is {pixels.shape[1]}x{pixels.shape[0]}, regenerated {found.shape[1]}x{found.shape[0]}"
        return Replay(source, particle.id, particle.seed, False, how, 255, 255.0, 1.0, (size, *reasons), file)
    apart = np.abs(pixels.astype(np.int16) - found.astype(np.int16))
    changed = float(apart.any(axis=2).mean())
    return Replay(
        source, particle.id, particle.seed, changed == 0.0, how, int(apart.max()), float(apart.mean()), changed,
        reasons, file,
    )  # fmt: skip


def _reasons(
    recipe: Mapping[str, Any], sampler: Sampler, pixels: np.ndarray, found: np.ndarray, size: int, tried: bool
) -> list[str]:
    """Why the pixels may differ, most telling first."""
    recorded = recipe.get("pixels")
    reasons: list[str] = []
    if recorded is not None and pixel_hash(pixels) != recorded:
        reasons.append("the pixels of the file were changed after it was made")
        if pixel_hash(found) == recorded:
            return [reasons[0] + "; the regenerated ones are those that the recipe records"]
    made = recipe["sampler"]
    if not isinstance(sampler, (PipelineSampler, DraftSampler)):
        return [*reasons, *warnings_of(sampler), f"{public_name(made['model'])} is another one now, or was never the "
                "same twice"]  # fmt: skip
    for name, now in ((name, str(sampler.description[name])) for name in ("device", "dtype")):
        if made[name] != now:
            reasons.append(f"{name} {made[name]} then, {now} now")
    present = versions()
    for name, then in recipe.get("versions", {}).items():
        if present.get(name) != then:
            reasons.append(f"{name} {then} then, {present.get(name, 'none')} now")
    if not tried:
        reasons.append(f"it was made in a micro-batch of {size}, which could not be rebuilt here")
    return reasons or ["other hardware, or another number of threads"]


def _write(out: Path | None, found: np.ndarray, recipe: Mapping[str, Any]) -> None:
    """The regenerated PNG with what made it; scores are those of the same pixels or they are left out."""
    if out is None:
        return
    hashed = pixel_hash(found)
    kept = {key: value for key, value in recipe.items() if key != "scores" or hashed == recipe.get("pixels")}
    try:
        write_atomically(out, encode_png(found, {**kept, "pixels": hashed, "versions": versions()}))
    except OSError as error:
        raise ValueError(f"expected a file that can be written, got {out}: {error.strerror or error}") from error
