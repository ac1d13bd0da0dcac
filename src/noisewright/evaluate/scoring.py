"""Scores of image files that already exist."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisewright.errors import VerifierFailed
from noisewright.metadata import read_image
from noisewright.particle import ensemble_values
from noisewright.verifier import Verifier, score

log = logging.getLogger("noisewright")

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
SCORED_AT_ONCE, PIXELS_AT_ONCE = 16, 2**25
"""Images of one size that are held in memory, and their pixels (384 MB)."""

FRUITLESS = 16
"""After so many images without a single number from a verifier it is given up."""


def images_in(paths: Sequence[Path]) -> list[Path]:
    """The paths, with every directory replaced by the images in it (of a run: its candidates).

    Raises:
        ValueError: on a directory without images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        place = path / "images" if (path / "run.json").is_file() else path
        inside = sorted(one for one in place.iterdir() if one.suffix.lower() in IMAGE_SUFFIXES and one.is_file())
        if not inside:
            raise ValueError(f"expected images in {path}, got none")
        found += inside
    return list(dict.fromkeys(found))


def score_files(
    files: Sequence[Path], prompt: str, verifiers: Sequence[Verifier], ensemble: str = "rank"
) -> tuple[list[dict[str, Any]], list[str]]:
    """Score image files; neighbours of one size go to the verifiers together.

    Where a verifier fails on an image its score is NaN, and the log says so.

    Args:
        files: images of any size.
        prompt: what they should show.
        verifiers: names distinct.
        ensemble: what several verifiers are sorted by, as :func:`noisewright.particle.read_ensemble` gives it.

    Returns:
        ``file`` and ``scores`` of each, best first, and one line for each file that could not be read.

    Raises:
        ValueError: on two verifiers of one name.
        VerifierFailed: where a verifier fails on every image (of the first :data:`FRUITLESS`).
    """
    names = [one.name for one in verifiers]
    if len(set(names)) != len(names):
        raise ValueError(f"expected verifiers with distinct names, got {', '.join(names)}")
    found: list[dict[str, Any]] = []
    bad: list[str] = []
    failed: dict[str, VerifierFailed] = {}  # the first failure of each verifier
    fruitful: set[str] = set()
    for group, images in _alike(files, bad):
        columns: dict[str, list[float]] = {}
        for one in verifiers:
            try:
                columns[one.name] = score(one, images, prompt)
            except VerifierFailed as error:
                columns[one.name] = [math.nan] * len(group)
                failed.setdefault(one.name, error)
            if not all(math.isnan(value) for value in columns[one.name]):
                fruitful.add(one.name)
        for row, path in enumerate(group):
            found.append({"file": str(path), "scores": {name: values[row] for name, values in columns.items()}})
        if len(found) >= FRUITLESS:
            _check_fruitful(failed, fruitful)
    _check_fruitful(failed, fruitful)
    for name, failure in failed.items():
        without = sum(math.isnan(one["scores"][name]) for one in found)
        log.warning("%s (NaN for %d of %d images)", failure, without, len(found))
    values = ensemble_values([list(one["scores"].values()) for one in found], ensemble)
    order = sorted(range(len(found)), key=lambda n: math.inf if math.isnan(values[n]) else -values[n])
    return [found[n] for n in order], bad


def _check_fruitful(failed: Mapping[str, VerifierFailed], fruitful: Collection[str]) -> None:
    """Raise the first failure of a verifier that gave no number for any image so far."""
    for name, error in failed.items():
        if name not in fruitful:
            raise error


def _alike(files: Sequence[Path], bad: list[str]) -> Iterator[tuple[list[Path], Tensor]]:
    """Neighbouring images of one size, (batch, 3, height, width) in [0, 1]; ``bad`` collects the unreadable."""
    group: list[Path] = []
    held: list[Tensor] = []
    for path in files:
        try:
            array, _ = read_image(path)
        except ValueError as error:
            bad.append(str(error))
            continue
        image = torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
        most = max(1, min(SCORED_AT_ONCE, PIXELS_AT_ONCE // (array.shape[0] * array.shape[1])))
        if held and (held[0].shape != image.shape or len(held) >= most):
            yield group, torch.stack(held)
            group, held = [], []
        group.append(path)
        held.append(image)
    if held:
        yield group, torch.stack(held)
