"""What a model's settings and drafts are worth: :func:`calibrate` measures them, and writes a profile."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from noisewright.execute import versions
from noisewright.executors.steps import carry, origins_of
from noisewright.measures.paired import spearman
from noisewright.outside.files import check_output, write_atomically
from noisewright.outside.messages import short
from noisewright.outside.prompts import read_prompts
from noisewright.planning.models import load_requested
from noisewright.planning.plans import Plan, plan
from noisewright.planning.sizes import default_batch_size
from noisewright.request import Request
from noisewright.run import journal
from noisewright.run.digests import digest_of
from noisewright.run.particle import noise_particle, number_or_nan
from noisewright.samplers.drafts import drafted
from noisewright.samplers.fingerprint import fingerprint
from noisewright.samplers.protocol import Sampler
from noisewright.samplers.quiet import quiet
from noisewright.schemas.checked import checked
from noisewright.schemas.drafts import Draft, read_draft
from noisewright.schemas.profiles import MEASURED, PROFILE_VERSION, check_profile, read_profile
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


class Measured(NamedTuple):
    """Images of one prompt.

    Attributes:
        scores: one for each candidate.
        seconds: of each batch, an image's share.
    """

    scores: list[float]
    seconds: list[float]


def calibrate(
    model: str | Path,
    prompts: str | Path | Sequence[str],
    *,
    verifier: str | None = None,
    drafts: Sequence[str] | None = None,
    num_inference_steps: Sequence[int] = (),
    guidance_scale: Sequence[float] = (),
    batch_size: Sequence[int] = (),
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
        num_inference_steps, guidance_scale, batch_size: what to try of each; by default the model's.
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
    base = Request(model=model, prompt=texts[0], verifier=verifier, judge="none", seed=seed)
    with quiet():
        pipe = load_requested(base.changed(device=device, dtype=dtype))
        first = plan(base, pipe=pipe)
        if len(first.verifiers) != 1:
            raise ValueError(f"expected one verifier to calibrate by, got {len(first.verifiers)}")
        found = _header(first, pipe, str(model), len(texts), candidates, seed)
        known, kept = _known(path, found), _Measurements(path, found)
        grid = product(num_inference_steps or (None,), guidance_scale or (None,), batch_size or (None,))
        rows: list[dict[str, Any]] = []
        for steps, scale, size in grid:
            made = first if (steps, scale) == (None, None) else plan(
                base.changed(num_inference_steps=steps, guidance_scale=scale), pipe=pipe
            )  # fmt: skip
            wanted = _drafts_of(made.final, chosen, tell)
            row = _row(made, size)
            done = next((one for one in known if _is(one, row, wanted)), None)
            rows.append(done or {**row, **_measured(made, row, wanted, pipe, texts, candidates, kept, tell)})
            if path is not None:
                _write(path, {**found, "settings": rows})
        kept.clear()
    return check_profile({**found, "settings": rows}, "the profile")


def _header(made: Plan, pipe: Any, model: str, prompts: int, candidates: int, seed: int) -> dict[str, Any]:
    """What a profile says of itself."""
    one, about = made.verifiers[0], made.final.description
    return {
        "profile_version": PROFILE_VERSION, "model": model, "fingerprint": str(fingerprint(pipe)),
        "verifier": one.name, "verifier_fingerprint": one.fingerprint, "device": str(about.get("device", "cpu")),
        "dtype": str(about.get("dtype", "float32")), "prompts": prompts, "candidates": candidates, "seed": seed,
        "versions": versions(),
    }  # fmt: skip


def _known(path: Path | None, header: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows that an earlier call wrote.

    Raises:
        ValueError: where the file is another profile.
    """
    if path is None or not path.exists():
        return []
    found = read_profile(path)
    for key, value in header.items():
        if key != "versions" and found[key] != value:
            wanted = f"a new file, or a profile with the same {key}"
            raise ValueError(f"expected {wanted}, got {path} with {short(found[key])}")
    rows: list[dict[str, Any]] = found["settings"]
    return rows


def _row(made: Plan, size: int | None) -> dict[str, Any]:
    """A row's settings, with every default spelled out."""
    about = made.final.description
    scale = about.get("guidance_scale")
    return {
        "num_inference_steps": int(about["num_inference_steps"]),
        "guidance_scale": None if scale is None else float(scale),
        "batch_size": size or default_batch_size(made.final),
    }


def _is(known: Mapping[str, Any], row: Mapping[str, Any], wanted: Sequence[Draft]) -> bool:
    same = all(known[key] == value for key, value in row.items())
    return same and {one["draft"] for one in known["drafts"]} == {one.text for one in wanted}


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
    made: Plan, row: Mapping[str, Any], wanted: Sequence[Draft], pipe: Any, prompts: Sequence[str], candidates: int,
    kept: _Measurements, tell: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """What a row says beside its settings.

    Raises:
        ValueError: where the verifier has no number for the images in full of a prompt.
    """
    each = {text: Measured([], []) for text in ("", *(one.text for one in wanted))}
    places: dict[str, list[float]] = {one.text: [] for one in wanted}
    spreads: list[float] = []
    warm: set[str] = set()
    for number, prompt in enumerate(prompts):
        about = made if number == 0 else plan(made.request.changed(prompt=prompt), pipe=pipe)
        tell(f"{row['num_inference_steps']} steps, batches of {row['batch_size']}: prompt {number + 1} of "
             f"{len(prompts)}")  # fmt: skip
        found = _ways(about, row, wanted, candidates, kept, warm)
        full = found[""].scores
        if sum(map(math.isfinite, full)) < 2:
            raise ValueError(f"expected scores of {about.verifiers[0].name} to calibrate by, got none of "
                             f"{short(prompt)}")  # fmt: skip
        spreads.append(float(np.nanstd(full, ddof=1)))
        for text, one in found.items():
            each[text].scores.extend(one.scores)
            each[text].seconds.extend(one.seconds)
            if text:
                places[text].append(_correlation(one.scores, full))
    whole = each.pop("")
    return {
        "seconds_each": round(float(np.median(whole.seconds)), 6), "mean": round(float(np.nanmean(whole.scores)), 6),
        "deviation": round(math.sqrt(float(np.mean(np.square(spreads)))), 6),
        "drafts": [
            {"draft": text, "seconds_each": round(float(np.median(one.seconds)), 6),
             "correlation": round(float(np.mean(places[text])), 4)}
            for text, one in each.items()
        ],
    }  # fmt: skip


def _ways(
    about: Plan, row: Mapping[str, Any], wanted: Sequence[Draft], candidates: int, kept: _Measurements, warm: set[str]
) -> dict[str, Measured]:
    """One prompt's candidates in full, by "", and as every draft: those of an earlier call, or made now."""
    found: dict[str, Measured] = {}
    prompt, size = about.request.prompt or "", row["batch_size"]
    ways = {"": about.final, **{one.text: drafted(about.final, one) for one in wanted}}
    for text, sampler in ways.items():
        key = kept.key(row, prompt, text)
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


def _correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Of those that both have a number of; 0 where that says nothing."""
    pairs = np.array([pair for pair in zip(one, other, strict=True) if all(map(math.isfinite, pair))])
    found = float(spearman(pairs[:, :1], pairs[:, 1:])[0]) if len(pairs) > 1 else 0.0
    return found if math.isfinite(found) else 0.0


class _Measurements:
    """What was measured of a profile that is not done, beside its file: a sealed line for each prompt and way.

    Args:
        path: of the profile; None keeps nothing.
        header: of the profile: what was measured for another one does not count.

    Attributes:
        known: what was measured, by its key.
    """

    def __init__(self, path: Path | None, header: Mapping[str, Any]) -> None:
        self._file = None if path is None else path.with_name(f"{path.name}.part")
        self._header = {key: value for key, value in header.items() if key != "versions"}
        self.known: dict[str, Measured] = {}
        if self._file is None or not self._file.exists():
            return
        lines, torn = journal.split(self._file.read_bytes())
        for record in filter(None, (journal.unseal(line, journal.SEALED) for line in lines)):
            checked(MEASURED, record, str(self._file))
            scores = [number_or_nan(one) for one in record["scores"]]
            self.known[record["key"]] = Measured(scores, record["seconds"])
        if torn:
            self._append(b"\n")  # what comes next is a line of its own

    def key(self, row: Mapping[str, Any], prompt: str, way: str) -> str:
        """What names the images of a prompt in a setting, made one way."""
        return digest_of(json.dumps([self._header, dict(row), prompt, way], sort_keys=True).encode())[:16]

    def add(self, key: str, made: Measured) -> None:
        """Keep what was measured."""
        self.known[key] = made
        scores = [one if math.isfinite(one) else None for one in made.scores]
        self._append(journal.seal({"verb": "measured", "key": key, "scores": scores, "seconds": list(made.seconds)}))

    def clear(self) -> None:
        """It is in the profile now."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _append(self, line: bytes) -> None:
        if self._file is not None:
            with self._file.open("ab") as file:
                file.write(line)


def _write(path: Path, found: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
