"""Scores of image files that already exist."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisewright.errors import VerifierFailed
from noisewright.images.frames import batched, cut, frames_in
from noisewright.images.reading import read_image
from noisewright.run.ensembles import ensemble_values
from noisewright.schemas.reading import parse_json
from noisewright.verifiers.protocol import Verifier, score

log = logging.getLogger("noisewright")

SCORED_AT_ONCE, PIXELS_AT_ONCE = 16, 2**25
"""Images of one size and prompt that a verifier is given together, and pixels that are held in memory (384 MB)."""

WAITING = 256
"""Images that wait for others of their size and prompt, at most."""

FRUITLESS = 16
"""After so many images without a single number from a verifier it is given up."""


Prompts = Callable[[Path, Mapping[str, Any]], str]
"""The prompt of one file, from its path and what it says of itself; a ValueError in one line where it has none."""


def score_files(
    files: Sequence[Path], prompt: str | Prompts, verifiers: Sequence[Verifier], ensemble: str = "rank"
) -> tuple[list[dict[str, Any]], list[str]]:
    """Score image files; those of one size and prompt go to the verifiers together.

    Of a picture of a video's frames side by side, which says so itself, they see each frame; its score is the mean.
    Where a verifier fails on an image its score is NaN, and the log says so. The order is that of all images, whatever
    their prompts.

    Args:
        files: images of any size.
        prompt: what they should show, or what says it of each.
        verifiers: names distinct.
        ensemble: what several verifiers are sorted by, as :func:`noisewright.run.ensembles.read_ensemble` gives it.

    Returns:
        ``file``, ``scores``, ``value`` (what they are sorted by) and ``rank`` (from 1; both None where no score says
        anything) of each, best first, where each has its own prompt also ``prompt`` and ``prompt_rank`` (among those of
        the same prompt), and one line for each file that could not be read or has no prompt.

    Raises:
        ValueError: on two verifiers of one name.
        VerifierFailed: where a verifier fails on every image (of the first :data:`FRUITLESS`).
    """
    names = [one.name for one in verifiers]
    if len(set(names)) != len(names):
        raise ValueError(f"expected verifiers with distinct names, got {', '.join(names)}")
    scored: dict[int, dict[str, Any]] = {}
    bad: list[str] = []
    failed: dict[str, VerifierFailed] = {}  # the first failure of each verifier
    fruitful: set[str] = set()
    for its_prompt, frames, group, images in _alike(files, prompt, bad):
        columns: dict[str, list[float]] = {}
        for one in verifiers:
            try:
                with _staying_here():
                    columns[one.name] = _means(score(one, cut(images, frames), its_prompt), frames)
            except VerifierFailed as error:
                columns[one.name] = [math.nan] * len(group)
                failed.setdefault(one.name, error)
            if not all(math.isnan(value) for value in columns[one.name]):
                fruitful.add(one.name)
        for row, number in enumerate(group):
            scores = {name: values[row] for name, values in columns.items()}
            own = {} if isinstance(prompt, str) else {"prompt": its_prompt}
            scored[number] = {"file": str(files[number]), **own, "scores": scores}
        if len(scored) >= FRUITLESS:
            _check_fruitful(failed, fruitful)
    _check_fruitful(failed, fruitful)
    found = [scored[number] for number in sorted(scored)]
    for name, failure in failed.items():
        without = sum(math.isnan(one["scores"][name]) for one in found)
        log.warning("%s (NaN for %d of %d images)", failure, without, len(found))
    return _ranked(found, ensemble_values([list(one["scores"].values()) for one in found], ensemble)), bad


@contextmanager
def _staying_here() -> Iterator[None]:
    """A verifier that changes the working directory does not move the files that are still to be read."""
    here = os.getcwd()
    try:
        yield
    finally:
        with suppress(OSError):  # of a verifier that took the directory itself away
            os.chdir(here)


def _ranked(found: Sequence[dict[str, Any]], values: Sequence[float]) -> list[dict[str, Any]]:
    """Best first, with their places."""
    order = sorted(range(len(found)), key=lambda n: math.inf if math.isnan(values[n]) else -values[n])
    places: Counter[str] = Counter()
    for place, number in enumerate(order, 1):
        one = found[number]
        says = math.isfinite(values[number])
        one["value"], one["rank"] = (values[number], place) if says else (None, None)
        if "prompt" in one:
            places[one["prompt"]] += 1
            one["prompt_rank"] = places[one["prompt"]] if says else None
    return [found[number] for number in order]


def _check_fruitful(failed: Mapping[str, VerifierFailed], fruitful: Collection[str]) -> None:
    """Raise the first failure of a verifier that gave no number for any image so far."""
    for name, error in failed.items():
        if name not in fruitful:
            raise error


def _means(scores: Sequence[float], frames: int) -> list[float]:
    """The mean over the frames of each picture."""
    return [math.fsum(some) / frames for some in batched(scores, frames)] if frames > 1 else list(scores)


def _alike(
    files: Sequence[Path], prompt: str | Prompts, bad: list[str]
) -> Iterator[tuple[str, int, list[int], Tensor]]:
    """Images of one prompt and size: the prompt, how many frames of a video each shows side by side, their numbers, and
    themselves, (batch, 3, height, width) in [0, 1].

    They wait for each other within bounds; ``bad`` collects what is said of those that cannot be read.
    """
    waiting: dict[tuple[str, int, tuple[int, ...]], list[tuple[int, np.ndarray]]] = {}
    count = pixels = 0
    for number, path in enumerate(files):
        try:
            array, info = read_image(path)
            its_prompt = prompt if isinstance(prompt, str) else prompt(path, info)
        except ValueError as error:
            bad.append(str(error))
            continue
        size = array.shape[0] * array.shape[1]
        if count == WAITING or (count and pixels + size > PIXELS_AT_ONCE):
            for (which, frames, _), some in waiting.items():
                yield which, frames, *_batch(some)
            waiting.clear()
            count = pixels = 0
        key = its_prompt, _frames_shown(array, info), array.shape
        group = waiting.setdefault(key, [])
        group.append((number, array))
        count, pixels = count + 1, pixels + size
        if len(group) == SCORED_AT_ONCE:
            yield *key[:2], *_batch(waiting.pop(key))
            count, pixels = count - SCORED_AT_ONCE, pixels - SCORED_AT_ONCE * size
    for (which, frames, _), some in waiting.items():
        yield which, frames, *_batch(some)


def _frames_shown(array: np.ndarray, info: Mapping[str, Any]) -> int:
    """How many frames of a video a picture says that it shows side by side; 1 where it says nothing, or cannot."""
    text = info.get("noisewright")
    try:
        frames = frames_in(parse_json(text, "a recipe")) if isinstance(text, str) else 1
    except ValueError:
        return 1
    return 1 if array.shape[1] % frames else frames


def _batch(some: Sequence[tuple[int, np.ndarray]]) -> tuple[list[int], Tensor]:
    images = torch.from_numpy(np.stack([array for _, array in some])).permute(0, 3, 1, 2).float() / 255
    return [number for number, _ in some], images.contiguous()
