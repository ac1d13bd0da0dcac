"""What a model's settings and drafts are worth: :func:`calibrate` measures them, and writes a profile."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from noisewright.errors import out_of_memory
from noisewright.execute import versions
from noisewright.executors.steps import carry, origins_of
from noisewright.outside import busy
from noisewright.outside.files import check_output, write_atomically
from noisewright.outside.messages import short
from noisewright.outside.prompts import read_prompts
from noisewright.planning.measured import Measured, Measurements
from noisewright.planning.models import load_requested
from noisewright.planning.plans import Plan, plan
from noisewright.planning.sizes import default_batch_size
from noisewright.request import Request
from noisewright.run.drafts import rank_correlation
from noisewright.run.particle import noise_particle
from noisewright.samplers.drafts import drafted
from noisewright.samplers.fingerprint import fingerprint
from noisewright.samplers.optional import most_at_once
from noisewright.samplers.protocol import Sampler
from noisewright.samplers.quiet import quiet
from noisewright.schemas.drafts import Draft, read_draft
from noisewright.schemas.profiles import PROFILE_VERSION, check_profile, read_profile
from noisewright.verifiers.protocol import Verifier, score

DRAFTS = (
    "truncate,at=0.4", "truncate,at=0.6", "truncate,at=0.8", "steps", "guidance,until=0.5", "cache,every=2",
    "cache,every=3", "dtype,to=bfloat16", "dtype,to=bfloat16+cache,every=2", "guidance,until=0.5+truncate,at=0.6",
)  # fmt: skip
"""What is tried by default, as far as the model has it."""

CANDIDATES, PROMPTS = 16, 8
"""Of each prompt, and how many prompts, by default."""

LEAST = 4
"""Fewer candidates of a prompt have no ranks to speak of."""


def calibrate(
    model: str | Path,
    prompts: str | Path | Sequence[str],
    *,
    verifier: str | None = None,
    drafts: Sequence[str] | None = None,
    num_inference_steps: Sequence[int] = (),
    guidance_scale: Sequence[float] = (),
    batch_size: Sequence[int] = (),
    height: int | None = None,
    width: int | None = None,
    candidates: int = CANDIDATES,
    limit: int | None = PROMPTS,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> dict[str, Any]:
    """Measure a grid of steps, guidance and batch sizes, and of drafts in each of them.

    Of each prompt ``candidates`` are made in full and as every draft, from the same noises. Of a setting that gives the
    seconds of an image (scored), the mean score and its deviation within a prompt; of a draft its seconds and how it
    ranks the candidates of a prompt (Spearman, averaged over prompts).

    Args:
        model: as ``noisewright generate --model`` takes it.
        prompts: a file with a prompt a line, or the prompts.
        verifier: its name; by default the model's.
        drafts: their texts; by default those of :data:`DRAFTS` that the model has.
        num_inference_steps, guidance_scale, batch_size: what to try of each; by default the model's. A size that does
            not fit in memory is left out.
        height, width: of the images; by default the model's.
        candidates: of each prompt, at least 4.
        limit: how many of the prompts, from the first on; None takes all.
        seed: of the first candidate.
        out: the file; one that an earlier, interrupted call wrote is gone on with.
        progress: told what is being done.
        device, dtype: as there.

    Returns:
        The profile (:class:`noisewright.schemas.profiles.ProfileJson`).

    Raises:
        ValueError, TypeError: in one line, before anything is spent.
    """
    tell = progress or (lambda text: None)
    if candidates < LEAST:
        raise ValueError(f"expected candidates of at least {LEAST}, got {short(candidates)}")
    texts = read_prompts(prompts, comments=True) if isinstance(prompts, (str, Path)) else list(prompts)
    texts = texts[:limit]
    if not texts:
        raise ValueError("expected at least one prompt, got none")
    chosen = None if drafts is None else [read_draft(one) for one in drafts]
    path = None if out is None else check_output(out)
    taken = busy.others()
    base = Request(
        model=model, prompt=texts[0], verifier=verifier, judge="none", seed=seed, height=height, width=width
    )
    with quiet():
        pipe = load_requested(base.changed(device=device, dtype=dtype))
        first = plan(base, pipe=pipe)
        if len(first.verifiers) != 1:
            raise ValueError(f"expected one verifier to calibrate by, got {len(first.verifiers)}")
        found = _header(first, pipe, str(model), len(texts), candidates, taken)
        for text in found["warnings"]:
            tell(text)
        grid = product(num_inference_steps or (None,), guidance_scale or (None,), batch_size or (None,))
        wanted = _wanted(first, pipe, grid, chosen, tell)  # all of them, before anything is spent
        rows = _rows(wanted, pipe, texts, candidates, path, found, tell)
    return check_profile({**found, "settings": rows}, "the profile")


def _rows(
    wanted: Sequence[_Row], pipe: Any, texts: Sequence[str], candidates: int, path: Path | None,
    header: dict[str, Any], tell: Callable[[str], None],
) -> list[dict[str, Any]]:  # fmt: skip
    """What a profile says of each setting, in its file as soon as it is measured.

    Raises:
        ValueError: where memory is too small for all of them.
    """
    (known, before), now = _known(path, header), header["warnings"]
    header["warnings"] = before
    kept = Measurements(path, {key: one for key, one in header.items() if key not in UNCOMPARED})
    found: list[dict[str, Any]] = []
    for one in wanted:
        row = next((row for row in known if _is(row, one)), None)
        if row is None:
            header["warnings"] = list(dict.fromkeys([*before, *now]))
            row = _measured(one, pipe, texts, candidates, kept, tell)
        if row is None:
            continue
        found.append(row)
        if path is not None:
            _write(path, {**header, "settings": found})
    if not found:
        raise ValueError("expected a batch size that fits in memory, got none")
    kept.clear()
    return found


class _Row(NamedTuple):
    """A setting to measure.

    Attributes:
        made: a plan with it, of the first prompt.
        settings: as the profile says them.
        drafts: to try in it.
    """

    made: Plan
    settings: dict[str, Any]
    drafts: list[Draft]


def _wanted(
    first: Plan, pipe: Any, grid: Iterable[tuple[int | None, float | None, int | None]],
    chosen: Sequence[Draft] | None, tell: Callable[[str], None],
) -> list[_Row]:  # fmt: skip
    """The settings of a grid, each once, with the drafts that the model has in it.

    Raises:
        ValueError, TypeError: in one line, on a setting or a draft that the model does not have.
    """
    found: dict[str, _Row] = {}
    for steps, scale, size in grid:
        made = first if (steps, scale) == (None, None) else plan(
            first.request.changed(num_inference_steps=steps, guidance_scale=scale), pipe=pipe
        )  # fmt: skip
        settings = _settings(made, size)
        key = json.dumps(settings)
        if key not in found:
            found[key] = _Row(made, settings, _drafts_of(made.final, chosen, tell))
    return list(found.values())


UNCOMPARED = ("versions", "warnings")
"""What a profile says of itself that may be otherwise when it is gone on with."""


def _header(made: Plan, pipe: Any, model: str, prompts: int, candidates: int, taken: float) -> dict[str, Any]:
    """What a profile says of itself.

    Args:
        made: the first plan.
        pipe: the pipeline.
        model: its name.
        prompts, candidates: how many.
        taken: processors that other work took.
    """
    one, about, count = made.verifiers[0], made.final.description, busy.processors()
    said = f"other work took {taken:.1f} of {count} processors while it was measured: seconds are longer than they are"
    return {
        "profile_version": PROFILE_VERSION, "model": model, "fingerprint": str(fingerprint(pipe)),
        "verifier": one.name, "verifier_fingerprint": one.fingerprint, "device": str(about.get("device", "cpu")),
        "dtype": str(about.get("dtype", "float32")), "prompts": prompts, "candidates": candidates,
        "seed": made.request.seed, "height": made.request.height, "width": made.request.width,
        "warnings": [f"{said} alone"] if busy.is_busy(taken, count) else [], "versions": versions(),
    }  # fmt: skip


def _known(path: Path | None, header: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows that an earlier call wrote, and what it warned of.

    Raises:
        ValueError: where the file is another profile.
    """
    if path is None or not path.exists():
        return [], []
    found = read_profile(path)
    for key, value in header.items():
        if key not in UNCOMPARED and found.get(key) != value:
            wanted = f"a new file, or a profile with the same {key}"
            raise ValueError(f"expected {wanted}, got {path} with {short(found.get(key))}")
    return found["settings"], found.get("warnings", [])


def _settings(made: Plan, size: int | None) -> dict[str, Any]:
    """A row's settings, with every default spelled out."""
    about = made.final.description
    scale = about.get("guidance_scale")
    return {
        "num_inference_steps": int(about["num_inference_steps"]),
        "guidance_scale": None if scale is None else float(scale),
        "batch_size": most_at_once(made.final, size or default_batch_size(made.final)),
    }


def _is(known: Mapping[str, Any], row: _Row) -> bool:
    same = all(known[key] == value for key, value in row.settings.items())
    return same and {one["draft"] for one in known["drafts"]} == {one.text for one in row.drafts}


def _drafts_of(final: Sampler, chosen: Sequence[Draft] | None, tell: Callable[[str], None]) -> list[Draft]:
    """The drafts to try.

    Raises:
        ValueError: in one line, on one that was asked for and the model does not have.
    """
    steps, found = final.description["num_inference_steps"], []
    for draft in chosen if chosen is not None else [read_draft(one) for one in DRAFTS]:
        draft = draft.with_steps(steps)
        try:
            drafted(final, draft)
            found.append(draft)
        except ValueError as error:
            if chosen is not None:
                raise
            tell(f"without {draft.text}: {error}")
    return list({one.text: one for one in found}.values())


def _measured(
    row: _Row, pipe: Any, prompts: Sequence[str], candidates: int, kept: Measurements, tell: Callable[[str], None]
) -> dict[str, Any] | None:
    """What a profile says of a setting; None of one that memory is too small for.

    Raises:
        ValueError: where the verifier has no number for the images in full of a prompt.
    """
    try:
        return {**row.settings, **_worth(row, pipe, prompts, candidates, kept, tell)}
    except Exception as error:
        if not out_of_memory(error):
            raise
        tell(f"without batches of {row.settings['batch_size']}, for which memory is too small")
        return None


def _worth(
    row: _Row, pipe: Any, prompts: Sequence[str], candidates: int, kept: Measurements, tell: Callable[[str], None]
) -> dict[str, Any]:
    made, settings = row.made, row.settings
    each = {text: Measured([], []) for text in ("", *(one.text for one in row.drafts))}
    places: dict[str, list[float]] = {one.text: [] for one in row.drafts}
    spreads: list[float] = []
    warm: set[str] = set()
    for number, prompt in enumerate(prompts):
        about = made if number == 0 else plan(made.request.changed(prompt=prompt), pipe=pipe)
        tell(f"{settings['num_inference_steps']} steps, batches of {settings['batch_size']}: prompt {number + 1} of "
             f"{len(prompts)}")  # fmt: skip
        found = _made_all(_ways(about, row.drafts), about, settings, candidates, kept, warm)
        full = found[""].scores
        if sum(map(math.isfinite, full)) < 2:
            raise ValueError(f"expected scores of {about.verifiers[0].name} to calibrate by, got none of "
                             f"{short(prompt)}")  # fmt: skip
        spreads.append(float(np.nanstd(full, ddof=1)))
        for text, one in found.items():
            each[text].scores.extend(one.scores)
            each[text].seconds.extend(one.seconds)
            if text:
                places[text].append(rank_correlation(one.scores, full))
    nfe = {text: int(one.nfe(0, one.schedule.steps)) for text, one in _ways(made, row.drafts).items()}
    whole = each.pop("")
    return {
        "seconds_each": round(float(np.median(whole.seconds)), 6), "nfe_each": nfe[""],
        "mean": round(float(np.nanmean(whole.scores)), 6),
        "deviation": round(math.sqrt(float(np.mean(np.square(spreads)))), 6),
        "drafts": [
            {"draft": text, "seconds_each": round(float(np.median(one.seconds)), 6), "nfe_each": nfe[text],
             "correlation": round(float(np.mean(places[text])), 4)}
            for text, one in each.items()
        ],
    }  # fmt: skip


def _ways(about: Plan, drafts: Sequence[Draft]) -> dict[str, Sampler]:
    """What samples in full, by "", and what makes each draft."""
    return {"": about.final, **{one.text: drafted(about.final, one) for one in drafts}}


def _made_all(
    ways: Mapping[str, Sampler], about: Plan, settings: Mapping[str, Any], candidates: int, kept: Measurements,
    warm: set[str],
) -> dict[str, Measured]:  # fmt: skip
    """One prompt's candidates, made every way: those of an earlier call, or made now."""
    found: dict[str, Measured] = {}
    prompt = about.request.prompt or ""
    for text, sampler in ways.items():
        key, size = kept.key(settings, prompt, text), most_at_once(sampler, settings["batch_size"])
        if key not in kept.known:
            begin = sampler, about.verifiers[0], prompt, about.request.seed
            if text not in warm or "dtype" in text:  # the first call warms up; that of each half copies the network
                made_and_scored(*begin, 1 if text in warm else min(size, candidates), size)
            warm.add(text)
            kept.add(key, made_and_scored(*begin, candidates, size))
        found[text] = kept.known[key]
    return found


def made_and_scored(
    sampler: Sampler, verifier: Verifier, prompt: str, seed: int, candidates: int, size: int
) -> Measured:
    """The first candidates of a seed, made and scored a batch at a time.

    Args:
        sampler: of full images, or of drafts.
        verifier: what scores them.
        prompt: that it is told.
        seed: of the first.
        candidates: how many.
        size: of a batch.
    """
    found = Measured([], [])
    for first in range(seed, seed + candidates, size):
        some = range(first, min(first + size, seed + candidates))
        began = time.perf_counter()
        scores = score(verifier, _images(sampler, some), prompt)
        found.seconds.append((time.perf_counter() - began) / len(some))
        found.scores.extend(scores)
    return found


def _images(sampler: Sampler, seeds: Sequence[int]) -> Tensor:
    """Images of seeds, as a run makes them."""
    steps = sampler.schedule.steps
    particles = [noise_particle(one, steps) for one in seeds]
    with torch.inference_mode():
        x, _ = carry(particles, sampler, sampler.noise(list(seeds)), None, steps)
        images = sampler.decode(x, **origins_of(particles, sampler))
    return torch.nan_to_num(images)


def _write(path: Path, found: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
