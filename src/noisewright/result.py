"""What a search gives back: the best image, the baseline, and what they cost."""

from __future__ import annotations

import io
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from noisewright.evaluate import report
from noisewright.evaluate.numbers import decimals, gained, written
from noisewright.images.reading import read_image
from noisewright.outside.files import check_directory, not_files
from noisewright.outside.texts import clean
from noisewright.run.particle import Candidate
from noisewright.run.verbs import CurvePoint
from noisewright.schemas.request import as_path

DISPLAYED_SIDE = 768
"""Pixels of the longer side of a picture in a notebook, which keeps it in its file."""


@dataclass(frozen=True, repr=False)
class ResultImage:
    """A candidate as a person sees it; a notebook shows its picture.

    Attributes:
        id: its name in the run.
        seed: the seed that makes it in plain diffusers, or None.
        scores: by verifier and judge name.
        file: its PNG.
        value: what the search sorted by: the score of its verifier, or the ensemble's value within the run.
    """

    id: str
    seed: int | None
    scores: dict[str, float]
    file: Path
    value: float | None = None

    @property
    def video(self) -> Path | None:
        """The video whose frames the picture shows, an .mp4 beside it; None of an image, or where none was written."""
        found = self.file.with_suffix(".mp4")
        return found if found.is_file() else None

    @property
    def image(self) -> Image.Image:
        array, _ = read_image(self.file)
        return Image.fromarray(array)

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.5g}" for name, value in self.scores.items())
        seed = "no seed" if self.seed is None else f"seed {self.seed}"
        return f"<ResultImage {self.id[:8]}: {seed}, {scores or 'no score'}, {self.file}>"

    def _repr_png_(self) -> bytes | None:
        """The picture in a notebook, no larger than :data:`DISPLAYED_SIDE`; nothing where its file is gone."""
        try:
            image = self.image
        except ValueError:
            return None
        image.thumbnail((DISPLAYED_SIDE, DISPLAYED_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "png")
        return buffer.getvalue()


@dataclass(frozen=True, repr=False)
class Result:
    """What a search found and what it cost; a notebook shows baseline and best, their scores and the contact sheet.

    Attributes:
        best: the best candidate.
        baseline: what the model gives by itself for the same seed.
        nfe: guided model evaluations; ``forwards``: network passes (two per NFE under guidance).
        images: finished images.
        seconds: by phase, and ``total``.
        stopped: why it ended.
        run: the run directory.
        candidates: everything that was finished, in order.
        curve: best-so-far after each candidate.
        warnings: what the user should know.
        prompt: what was made.
        value_name: what :attr:`ResultImage.value` is: the verifier's name, or ``mean rank``, ``z-sum``,
            ``weighted sum``.
        kept: the best K as files, where that was asked for; best first.
        why: the best against the second, as :func:`noisewright.run.explain.explain` tells it; None with one.
    """

    best: ResultImage
    baseline: ResultImage
    nfe: int
    forwards: int
    images: int
    seconds: dict[str, float]
    stopped: str
    run: Path
    verifiers: tuple[str, ...]
    judges: tuple[str, ...]
    candidates: tuple[Candidate, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    warnings: tuple[str, ...] = ()
    interrupted: bool = field(default=False, compare=False)
    prompt: str = ""
    value_name: str = "value"
    kept: tuple[ResultImage, ...] = ()
    why: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""

        def shown(one: ResultImage) -> dict[str, Any]:
            scores = {name: None if value != value else value for name, value in one.scores.items()}
            value = one.value if one.value is not None and math.isfinite(one.value) else None
            return {"id": one.id, "seed": one.seed, "scores": scores, "value": value, "file": str(one.file)}

        return {
            "best": shown(self.best),
            "baseline": shown(self.baseline),
            "nfe": self.nfe,
            "forwards": self.forwards,
            "images": self.images,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "run": str(self.run),
            "warnings": list(self.warnings),
            "prompt": self.prompt,
            "verifiers": list(self.verifiers),
            "judges": list(self.judges),
            "value_name": self.value_name,
            "why": self.why,
            "kept": [shown(one) for one in self.kept],
        }

    def save(self, directory: str | Path) -> Path:
        """Copy the run directory to ``directory`` (which must be new or empty)."""
        directory = as_path("a directory", directory)
        if directory.is_file():
            raise ValueError(f"expected a new or empty directory, got the file {directory}")
        target = check_directory(directory, "directory")
        if target.resolve() == self.run.resolve():
            return target
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ValueError(f"expected a new or empty directory, got {target}")
        shutil.copytree(self.run, target, dirs_exist_ok=True, ignore=not_files)
        return target

    def plot(self, file: str | Path | None = None) -> Any:
        """The best-so-far curve as a matplotlib figure, which a notebook shows; written to ``file`` if one is given."""
        alike = len({one.particle.kind for one in self.candidates}) == 1  # else the curve is of drafts
        level = self.baseline.value if alike else None
        return report.plot_curve(self.curve, self.verifiers, file, value_name=self.value_name, baseline=level)

    def __repr__(self) -> str:
        rows = [f"{name} {after} ({before})" for name, _, before, after, _ in self._scores()]
        what = f"best {', '.join(rows) or 'without a score'} (baseline in brackets)"
        return f"<Result: {what}; {self._cost()}; {self.run}>"

    def __str__(self) -> str:
        """The scores of baseline and best, what it cost and why it stopped, as lines."""
        rows = [("", "", "baseline", "best", "change"), *self._scores()]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), row[1].ljust(widths[1]), *map(str.rjust, row[2:], widths[2:])]).rstrip()
            for row in rows
        ]
        lines += [self._cost(), f"stopped: {self.stopped}"]
        lines += [f"warning: {clean(text)}" for text in self.warnings]
        return "\n".join([*lines, str(self.run)])

    def _repr_html_(self) -> str:
        """The card that a notebook shows, with its pictures in it."""
        from noisewright.evaluate.page import run_card

        return run_card(self)

    def _scores(self) -> list[tuple[str, str, str, str, str]]:
        """For each verifier and judge: name, role, baseline, best, change."""
        found = []
        for name in dict.fromkeys([*self.best.scores, *self.baseline.scores]):
            before, after = self.baseline.scores.get(name), self.best.scores.get(name)
            places = decimals([before, after, *(one.scores.get(name) for one in self.candidates)])
            role = "judge" if name in self.judges else "verifier"
            found.append((name, role, written(before, places), written(after, places), gained(before, after, places)))
        return found

    def _cost(self) -> str:
        images = f"{self.images} image{'s' * (self.images != 1)}"
        return f"{images}, {self.nfe} NFE, {self.forwards} forwards, {self.seconds['total']:.1f} s"
