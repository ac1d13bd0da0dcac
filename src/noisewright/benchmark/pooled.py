"""A pool of cells, made: one run of fresh noises, its images shown to every verifier once, and all read off it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from noisewright.benchmark.cells import Cell
from noisewright.benchmark.lines import Rows
from noisewright.benchmark.reading_off import READABLE, Opinions, opinions_in, shorter
from noisewright.benchmark.rows import CandidateRow, CellRow
from noisewright.benchmark.sharing import budget_of, images_in
from noisewright.benchmark.telling import Run, rows_read_off
from noisewright.executors.protocol import ScoreJob
from noisewright.executors.scoring import ask_all, judge
from noisewright.images.metadata import pixel_hash
from noisewright.images.reading import read_image
from noisewright.outside.inside import inside
from noisewright.run.ensembles import read_ensemble
from noisewright.run.ledger import Ledger
from noisewright.run.ranking import Ranking
from noisewright.run.scores import FRUITLESS
from noisewright.schemas.benchmarks import OpinionJson
from noisewright.verifiers.optional import WantsPreviews, usage_of
from noisewright.verifiers.protocol import Verifier, waits

OPINIONS: TypeAdapter[Any] = TypeAdapter(OpinionJson)
SCORES = "scores"
"""The folder of what verifiers said of the images of a run that was not theirs."""


class NotShared(Exception):
    """A cell has to be a run of its own after all."""


@dataclass(frozen=True)
class Scorers:
    """Whom a cell asks.

    Attributes:
        verifiers: what its search sees.
        judges: what it never sees.
        notes: what there is to say of them.
    """

    verifiers: Sequence[Verifier]
    judges: Sequence[Verifier]
    notes: Sequence[str] = ()


@dataclass
class Pool:
    """A run, what is known of its images, and how cells are read off it.

    Attributes:
        benchmark: the directory.
        run: of the images.
        nfe_each: what an image costs.
        frames: how many frames of a video stand side by side in each image.
        check: raises where an end was asked for.
    """

    benchmark: Path
    run: Run
    nfe_each: Callable[[], int]
    frames: int
    check: Callable[[], None]
    _opinions: dict[tuple[str, str], Opinions] = field(default_factory=dict)
    _judged: dict[tuple[str, str, tuple[str, ...]], tuple[list[float] | None, float, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        strange = {record["verb"] for record in self.run.records} - set(READABLE)
        if strange or self.run.ledger.unknown:
            raise NotShared(f"the journal of {self.run.name} holds more than images of fresh noises")

    @property
    def own(self) -> list[tuple[str, str]]:
        """The run's verifiers as they were when it was made: those of now may have other weights."""
        return [(one["name"], one["fingerprint"]) for one in self.run.run["spec"]["verifiers"]]

    def tell(self, cell: Cell, scorers: Scorers) -> tuple[CellRow, list[CandidateRow]]:
        """The rows of a cell.

        Raises:
            NotShared: where only a run of its own can say it.
            ValueError: in one line, where such a run would be refused.
        """
        ids = self._ids(cell)
        ranking = Ranking(
            tuple(one.name for one in scorers.verifiers),
            read_ensemble(cell.request.ensemble, [one.name for one in scorers.verifiers]),
        )
        same = [_key(one) for one in scorers.verifiers] == self.own
        opinions = None if same else {one.name: self._opinion(one, ids) for one in scorers.verifiers}
        ledger = shorter(self.run.records, ids, opinions)
        _check_numbers(ledger)
        best = ranking.top([ledger.candidates[key] for key in ids])[0]
        shown = tuple(dict.fromkeys((ids[0], best.id)))
        more = [text for one in scorers.judges for text in self._judge(one, shown, ledger)]
        judges = [one.name for one in scorers.judges]
        fingerprints = {one.name: one.fingerprint for one in (*scorers.verifiers, *scorers.judges)}
        return rows_read_off(cell, self.run, ledger, ranking, judges, [*scorers.notes, *more], fingerprints)

    def _ids(self, cell: Cell) -> list[str]:
        """The images of a cell: those of the first seeds, as its own run would make them."""
        count, ledger = images_in(budget_of(cell.request), self.nfe_each), self.run.ledger
        first = [candidate for candidate, *_ in ledger.scored(self.run.drafts)][:count]
        plain = [one.particle.verb == "denoise" and one.particle.parent.verb == "noise" for one in first]
        seeds = [ledger.images[one.id].seed for one in first]
        if not all(plain) or seeds != [cell.request.seed + k for k in range(count)]:
            raise NotShared(f"{self.run.name} does not hold the first {count} images of its seed in order")
        return [one.id for one in first]

    def _opinion(self, verifier: Verifier, ids: Sequence[str]) -> Opinions:
        """What a verifier says of some images: known, read, or asked now and written down."""
        if isinstance(verifier, WantsPreviews) or waits(verifier) or usage_of(verifier) is not None:
            raise NotShared(f"{verifier.name} is asked while images are made")
        found = self._opinions.get(_key(verifier))
        if found is None:
            found = self._opinions[_key(verifier)] = self._known(verifier)
        missing = [key for key in ids if key not in found.scores]
        if missing:
            self._ask(verifier, frozenset(missing), found)
        return found

    def _known(self, verifier: Verifier) -> Opinions:
        if [_key(verifier)] == self.own:
            return opinions_in(self.run.records, verifier.name)
        found = Opinions()
        for row in self._file().read():
            if (row["verifier"], row["fingerprint"]) == _key(verifier) and len(row["ids"]) == len(row["scores"]):
                found.add(row["ids"], row["scores"], row["seconds"])
        return found

    def _file(self) -> Rows:
        folder = inside(self.benchmark, SCORES)
        folder.mkdir(exist_ok=True)
        return Rows(self.benchmark, f"{SCORES}/{self.run.root.name}.jsonl", OPINIONS)

    def _ask(self, verifier: Verifier, missing: frozenset[str], found: Opinions) -> None:
        """Show images to a verifier, in the micro-batches in which they were made."""
        file = self._file()
        file.open()
        try:
            for record in self.run.records:
                ids = [key for key in record["ids"] if key in missing] if record["verb"] == "score" else []
                if not ids:
                    continue
                self.check()
                numbers = any(score is not None for score in found.scores.values())
                job = self._job("score", verifier, ids, frozenset({verifier.name} if numbers else ()))
                outcome = ask_all({verifier.name: verifier}, job)
                if outcome.notes or outcome.doubt is not None:
                    raise NotShared("; ".join(outcome.notes))
                scores = [None if math.isnan(score) else score for score in outcome.scores[verifier.name]]
                name, fingerprint = _key(verifier)
                took = outcome.metered["seconds"]["verify"]
                row = {"verifier": name, "fingerprint": fingerprint, "ids": ids, "scores": scores, "seconds": took}
                file.add([row])
                found.add(ids, scores, took)
        finally:
            file.close()

    def _judge(self, one: Verifier, ids: tuple[str, ...], ledger: Ledger) -> list[str]:
        """Add a judge's scores of some images to a cell's ledger; what there is to say where it gives none."""
        key = (*_key(one), ids)
        if key not in self._judged:
            self.check()
            outcome = judge({one.name: one}, self._job("judge", one, ids))
            scores = None if outcome.failed is not None else list(outcome.scores[one.name])
            failed = f"judge {outcome.failed}".replace("judge verifier", "judge")
            self._judged[key] = scores, outcome.metered["seconds"]["verify"], failed
        scores, took, failed = self._judged[key]
        if scores is None:
            return [failed]
        written = [None if math.isnan(score) else score for score in scores]
        record = {"verb": "judge", "judge": one.name, "ids": list(ids), "scores": written}
        ledger.apply({**record, "seconds": {"verify": took}, "elapsed": ledger.spent.seconds + took})
        return []

    def _job(self, kind: Any, one: Verifier, ids: Sequence[str], proven: frozenset[str] = frozenset()) -> ScoreJob:
        images = torch.stack([self._image(key) for key in ids])
        whole = tuple(self.run.ledger.images[key].broken is None for key in ids)
        prompt = str(self.run.run["spec"]["sampler"].get("prompt", ""))
        return ScoreJob(kind, prompt, images, (one.name,), whole, proven=proven, frames=self.frames)

    def _image(self, key: str) -> Tensor:
        made = self.run.ledger.images[key]
        array, _ = read_image(inside(self.run.root, made.file))
        if pixel_hash(array) != made.pixels:
            raise NotShared(f"{self.run.name}/{made.file} is not as it was made")
        return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255


def _check_numbers(ledger: Ledger) -> None:
    """A run without a number from any verifier would have failed, in words of its own."""
    first = list(ledger.candidates.values())[:FRUITLESS]
    if not any(math.isfinite(score) for one in first for score in one.scores.values()):
        raise NotShared("no verifier gave a number")


def _key(one: Verifier) -> tuple[str, str]:
    return one.name, one.fingerprint
