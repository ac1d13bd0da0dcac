"""Tables of a model's prediction error by noise level: what ``schedule measure`` writes and ``schedule fit`` reads."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisewright.outside.files import write_atomically
from noisewright.outside.messages import short
from noisewright.schemas import reading
from noisewright.schemas.checked import MOST_STEPS, checked
from noisewright.schemas.files import ERROR_ROW, ERRORS

FORMAT, VERSION = "noisewright prediction errors", 1
FEWEST_LEVELS = 5
HIGHEST = 1e9
"""Of levels s = sigma / alpha: of an alpha that float32 tells from 0."""

FEWEST_IMAGES = 8
"""At a level; of fewer it is not said whether their errors are Gaussian."""


@dataclass(frozen=True)
class LevelError:
    """What the error d = eps_hat - eps is at one level; standard errors over images (of the last two, over dimensions).

    Attributes:
        t: the network's time.
        s: the level, sigma / alpha.
        mean_square: E, the mean of d^2 over images and dimensions, and its standard error.
        bias: the mean of d over all of them, and its standard error.
        bias_share: how much of E is a bias of each dimension by itself, in [0, 1]: estimated without its noise.
        skew: of single dimensions, their mean, and its standard error; 0 below 3 images, of which it cannot be told.
        kurtosis: excess, likewise; 0 of a Gaussian, and below 4 images.
        images: how many were measured at this level; 0 in tables of earlier versions, which do not say. There skew and
            kurtosis are moment ratios, which few images make too small: the kurtosis of n Gaussians by 6 / (n + 1).
    """

    t: float
    s: float
    mean_square: float
    mean_square_se: float
    bias: float
    bias_se: float
    bias_share: float
    skew: float
    skew_se: float
    kurtosis: float
    kurtosis_se: float
    images: int = 0

    @property
    def abar(self) -> float:
        """alpha^2 / (alpha^2 + sigma^2)."""
        return 1 / (1 + self.s**2)

    @property
    def clean_mean_square(self) -> float:
        """The mean square error of the clean estimate, ``m = s^2 E``."""
        return self.s**2 * self.mean_square

    def verdict(self) -> str:
        """Whether "zero-mean Gaussian" holds here, at two standard errors."""
        if 0 < self.images < FEWEST_IMAGES:
            return "too few images"
        found = []
        if abs(self.bias) > 2 * self.bias_se or self.bias_share > 0.02:
            found.append(f"biased ({self.bias_share:.1%} of E)")
        if abs(self.skew) > 2 * self.skew_se + 0.05:
            found.append("skewed")
        if abs(self.kurtosis) > 2 * self.kurtosis_se + 0.1:
            found.append("heavy tails" if self.kurtosis > 0 else "light tails")
        return ", ".join(found) or "no departure found"

    @property
    def departs(self) -> bool:
        """Whether :meth:`verdict` names a departure."""
        return self.verdict() not in ("no departure found", "too few images")


@dataclass(frozen=True)
class ErrorTable:
    """Prediction errors of one model, noisiest level first.

    Attributes:
        levels: at least :data:`FEWEST_LEVELS`.
        images: how many were measured.
        source: what they were.
        identity: ``model``, ``fingerprint`` and ``prediction``; see :func:`noisewright.trajectory.files.identity`.
        settings: of the measurement.
    """

    levels: tuple[LevelError, ...]
    images: int
    source: str
    identity: dict[str, Any]
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        if len(self.levels) < FEWEST_LEVELS:
            raise ValueError(f"expected an error table of at least {FEWEST_LEVELS} levels, got {len(self.levels)}")
        for one in self.levels:
            for name, value in asdict(one).items():
                if not math.isfinite(value):
                    raise ValueError(f"expected finite numbers in the error table, got {name} {value} at s = {one.s}")
            if one.images < 0 or one.images != int(one.images):
                raise ValueError(
                    f"expected a whole number of images at each level of the error table, got {one.images} at "
                    f"s = {one.s}"
                )
            if not 0 < one.s <= HIGHEST or one.mean_square < 0:
                raise ValueError(
                    f"expected a level s in (0, {HIGHEST:g}] and a mean square of at least 0 in the error table, got "
                    f"{one.s} and {one.mean_square}"
                )
        for one, other in pairwise(self.levels):
            if other.s >= one.s:
                raise ValueError(f"expected falling levels in the error table, got s = {one.s} followed by {other.s}")

    def covers(self, low: float, high: float) -> None:
        """Refuse a table that says nothing of a range of levels s.

        Raises:
            ValueError: where it begins or ends more than a tenth inside.
        """
        first, last = self.levels[0].s, self.levels[-1].s
        if high > first * 1.1 or 0 < low < last / 1.1:
            raise ValueError(
                f"expected an error table over s in [{low:.4g}, {high:.4g}], got levels missing outside "
                f"[{last:.4g}, {first:.4g}]"
            )

    @cached_property
    def _knots(self) -> tuple[Tensor, Tensor]:
        knots = torch.tensor([0.0, *(one.abar for one in self.levels)], dtype=torch.float64)
        return knots, torch.tensor([0.0, *(one.mean_square for one in self.levels)], dtype=torch.float64)

    def at(self, abar: Tensor) -> Tensor:
        """E at levels abar, piecewise linear in abar with E(0) = 0, as VRG has it; differentiable, any shape."""
        knots, values = self._knots
        held = abar.double().clamp(0, float(knots[-1]))
        right = torch.searchsorted(knots, held.detach()).clamp(1, len(knots) - 1)
        share = (held - knots[right - 1]) / (knots[right] - knots[right - 1])
        return values[right - 1] + share * (values[right] - values[right - 1])

    def save(self, path: str | Path) -> Path:
        """Write the table as JSON."""
        found = {
            "format": FORMAT, "version": VERSION, **self.identity, "images": self.images, "source": self.source,
            "settings": self.settings, "levels": [asdict(one) for one in self.levels],
        }  # fmt: skip
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> ErrorTable:
        """What :meth:`save` wrote.

        Raises:
            ValueError: on something else, on missing fields, or on levels that are missing or not finite.
        """
        held = read_json(path, FORMAT, VERSION, "a table of `noisewright schedule measure`")
        rows = held.get("levels")
        rows = rows if isinstance(rows, list) else []
        if len(rows) > MOST_STEPS:
            raise ValueError(f"expected at most {MOST_STEPS} levels in {path}, got {len(rows)}")
        levels = [_level(row, f"row {number} of {path}") for number, row in enumerate(rows, start=1)]
        if not isinstance(held.get("settings"), dict):
            raise ValueError(f"expected the settings of the measurement in {path}, got {short(held.get('settings'))}")
        if type(held.get("images")) is not int:
            raise ValueError(f"expected a whole number of images in {path}, got {short(held.get('images'))}")
        checked(ERRORS, held, str(path))
        wanted = held["settings"].get("levels")
        if isinstance(wanted, int) and wanted != len(levels):
            raise ValueError(
                f"expected the {wanted} levels that were measured in {path}, got {len(levels)}: some are missing"
            )
        identity = {key: held[key] for key in ("model", "fingerprint", "prediction")}
        try:
            return cls(tuple(levels), held["images"], held["source"], identity, held["settings"])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def _level(row: Any, where: str) -> LevelError:
    """A row of a table; tables of earlier versions do not say how many images it is of.

    Raises:
        ValueError: in one line, where a number is missing or is none.
    """
    names = [one.name for one in fields(LevelError) if one.name != "images"]

    def line(expected: str, key: str, got: str) -> str:
        at = f"{key} = {got}" if key else got
        return f"expected numbers {', '.join(names)} in {where}, got {at}"

    checked(ERROR_ROW, row, where, line)
    missing = [name for name in names if name not in row]
    if missing:
        raise ValueError(line("", "", f"none for {missing[0]}"))
    numbers = {name: float(row[name]) for name in names}
    images = row.get("images", 0)
    whole = math.isfinite(images) and images == int(images)
    return LevelError(**numbers, images=int(images) if whole else images)


def read_json(path: str | Path, form: str, version: int, what: str) -> dict[str, Any]:
    """A JSON file of ours.

    Raises:
        ValueError: on a missing, damaged or foreign file, or one of another version.
    """
    try:
        held = reading.read_json(path, what)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from None
    except ValueError as error:
        if "a damaged file" in str(error):
            raise ValueError(f"expected {what}, got {path}, which is no JSON") from None
        raise
    if not isinstance(held, dict) or held.get("format") != form:
        raise ValueError(f"expected {what} ({form!r}), got {path}, which is something else")
    if type(held.get("version")) is not int or held["version"] != version:
        raise ValueError(f"expected {form!r} of version {version}, got {short(held.get('version'))} in {path}")
    return held
