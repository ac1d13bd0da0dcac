"""What a search gives back: the best image, the baseline, and what they cost."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from noisewright.evaluate import report
from noisewright.images.reading import read_image
from noisewright.outside.files import check_directory, not_files
from noisewright.run.particle import Candidate
from noisewright.run.verbs import CurvePoint
from noisewright.schemas.request import as_path


@dataclass(frozen=True)
class ResultImage:
    """A candidate as a person sees it.

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
    def image(self) -> Image.Image:
        array, _ = read_image(self.file)
        return Image.fromarray(array)


@dataclass(frozen=True)
class Result:
    """What a search found and what it cost.

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
        why: the best against the second, as :func:`noisewright.evaluate.standings.why` tells it; None with one.
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
        """The best-so-far curve as a matplotlib figure; written to ``file`` where one is given."""
        return report.plot_curve(self.curve, self.verifiers, file)
