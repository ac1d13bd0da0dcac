"""A run as a page sees it, kept up to date from the journal's new lines alone.

Each run that somebody looks at has one :class:`Live`, whoever looks and however many: it reads what is new
(:class:`noisewright.run.follow.Watch`), and adds it to the rows that pages have already.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noisewright.evaluate.overview import drafts_of, has_drafts
from noisewright.run.directory import PREVIEWS
from noisewright.run.follow import Watch
from noisewright.run.particle import Candidate, Particle
from noisewright.run.ranking import Ranking
from noisewright.schemas.files import check_shown
from noisewright.web.values import ensemble_values

LOOK_SECONDS = 0.25
"""Between two looks at a journal."""

AT_MOST_SHARE = 0.05
"""Of the time that is spent on ranking anew, where several verifiers make a value that every candidate changes."""

CLOSE = 1e-9
"""Values that are no further apart are equal but for the rounding of sums."""

MOST_LIVES = 16
"""Runs that are remembered, besides those that go on; the others are read again when somebody looks."""


@dataclass(frozen=True)
class Cursor:
    """How much of a run a page knows.

    Attributes:
        epoch: of the journal: another one is another journal, of which nothing is known.
        rows, previews: how many.
        judged: of how many candidates judges had said something new, each time.
        ranked: how often values were ranked anew.
        head: of what stands above the rows.
    """

    epoch: int = -1
    rows: int = 0
    previews: int = 0
    judged: int = 0
    ranked: int = 0
    head: int = 0


class Live:
    """One run. All methods may be called from any thread.

    Args:
        root: its directory.
        name: what the server calls it.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.watch = Watch(root)
        self.lock = threading.RLock()
        self.drafts: bool | None = None
        self._looked = -math.inf
        self._ledger: Any = None
        self._epoch = 0
        self._began = time.monotonic()
        self._anew()

    def _anew(self) -> None:
        """Forget all rows: the journal is another one."""
        self._epoch += 1
        self._ledger = self.watch.ledger
        self._rows: list[list[Any]] = []
        self._place: dict[str, int] = {}
        self._taken = 0
        self._points: list[list[Any]] = []
        self._led: dict[bool, Candidate] = {}  # of drafts and of what is none, whose scores do not compare
        self._values: list[float | None] = []
        self._ranked, self._ranked_rows, self._cost, self._ranked_at = 0, 0, 0.0, -math.inf
        self._scores: np.ndarray | None = None
        self._judged: dict[str, dict[str, float]] = {}
        self._newly_judged: list[str] = []  # of whom judges said something new, in order
        self._finished: set[str] = set()
        self._draws: set[str] = set()
        self._heads = 0
        self._head: dict[str, Any] = {}

    def refresh(self) -> None:
        """Take in what is new, unless that was done just now.

        Raises:
            ValueError: where the directory is no run, or none any more.
        """
        with self.lock:
            now = time.monotonic()
            if now - self._looked < LOOK_SECONDS:
                return
            self.watch.look()
            ledger = self.watch.ledger
            spec = self.spec = check_shown(self.watch.run, str(self.watch.root / "run.json"))
            self._draft_kind = drafts_of(spec) if has_drafts(spec) else None
            unused = ledger.proof is not None and not ledger.proof["used"]
            before, self.drafts = self.drafts, self._draft_kind is not None and not unused
            if ledger is not self._ledger or len(ledger.curve) < self._taken or before != self.drafts:
                self._anew()
            self.ranking = Ranking(tuple(one["name"] for one in spec["verifiers"]), spec["ensemble"])
            self._take_rows()
            self._take_judged()
            self._rank()
            head = self._make_head()
            if head != self._head:
                self._head, self._heads = head, self._heads + 1
            self._looked = time.monotonic()

    # Rows

    def _take_rows(self) -> None:
        ledger, alone = self.watch.ledger, len(self.ranking.names) == 1
        for key, images, nfe, seconds in itertools.islice(ledger.curve, self._taken, None):
            one = ledger.candidates.get(key)
            if one is None:
                continue
            scores = [_number(one.scores.get(name)) for name in self.ranking.names]
            made = ledger.images[key]
            row = [key, made.seed, made.steps, images, nfe, round(seconds, 3), made.broken, scores,
                   self.is_draft(one)]  # fmt: skip
            if key in self._place:
                self._rows[self._place[key]] = row  # scored again
                self._epoch += 1
                self._scores = None
            else:
                self._place[key] = len(self._rows)
                self._rows.append(row)
            self._note_finished(one.particle)
            if alone:
                self._lead(one, row)
        self._taken = len(ledger.curve)

    def _note_finished(self, particle: Particle) -> None:
        self._draws.add(particle.origin.id)
        waiting = [particle]
        while waiting:
            one = waiting.pop()
            if one.id not in self._finished:
                self._finished.add(one.id)
                waiting += one.parents

    def _lead(self, one: Candidate, row: list[Any]) -> None:
        """The best so far of one verifier: no pool has to be looked at."""
        _, _, _, images, nfe, seconds, _, scores, draft = row
        before = self._led.get(draft)
        if before is not None and self.ranking.top([before, one])[0] is not one:
            return
        self._led[draft] = one
        if draft == self.drafts and scores[0] is not None:
            self._points.append([images, nfe, seconds, scores[0], one.id])

    def _rank(self) -> None:
        """Values of an ensemble, which every candidate changes: as often as :data:`AT_MOST_SHARE` allows."""
        if len(self.ranking.names) == 1 or self._ranked_rows == len(self._rows):
            return
        began = time.monotonic()
        running = self.watch.status == "running"
        if running and began - self._ranked_at < self._cost / AT_MOST_SHARE:
            return
        rows = self._rows
        scores = self._score_rows()
        values = np.full(len(rows), -np.inf)
        self._points, self._led = [], {}
        for some in dict.fromkeys(row[8] for row in rows):
            alike = np.flatnonzero([row[8] == some for row in rows])
            found = values[alike] = ensemble_values(scores[alike], self.ranking.ensemble)
            first = int(alike[np.flatnonzero(found >= found.max() - CLOSE)[0]])  # ties go to the earlier
            self._led[some] = self.watch.ledger.candidates[rows[first][0]]
            if some == self.drafts:
                self._points = _best_so_far([rows[n] for n in alike.tolist()], found)
        self._values = [one if one > -math.inf else None for one in np.round(values, 6).tolist()]
        self._ranked, self._ranked_rows = self._ranked + 1, len(self._rows)
        self._ranked_at = time.monotonic()
        self._cost = self._ranked_at - began

    def _score_rows(self) -> np.ndarray:
        """The scores of all rows, (rows, verifiers), NaN where there is none; those of earlier rows are kept."""
        before = np.empty((0, len(self.ranking.names))) if self._scores is None else self._scores
        new = [[np.nan if one is None else one for one in row[7]] for row in self._rows[len(before) :]]
        self._scores = np.concatenate([before, np.array(new, float)]) if new else before
        return self._scores

    def _take_judged(self) -> None:
        judged, known = self.watch.ledger.judged, self._judged
        for key in [key for key, names in judged.items() if known.get(key) != names]:
            known[key] = dict(judged[key])
            self._newly_judged.append(key)

    # What stands above the rows

    @property
    def best(self) -> Candidate | None:
        """The best of the full renderings, where there are any, else of the drafts."""
        return self._led.get(False) or self._led.get(True)

    def baseline(self) -> str | None:
        """Candidate 0: the first seed, untouched, at the final number of steps; else what the result calls so."""
        spec, ledger = self.spec, self.watch.ledger
        for row in self._rows:
            if row[1] == spec["seed"] and not row[8]:
                particle = ledger.candidates[row[0]].particle
                if particle.verb == "denoise" and particle.parent.verb == "noise":
                    return str(row[0])
        known = self.watch.run.get("summary", {}).get("baseline", {}).get("id")
        return known if known in self._place else None

    def _make_head(self) -> dict[str, Any]:
        run, ledger, spec = self.watch.run, self.watch.ledger, self.spec
        budget = {unit: value for unit, value in spec["budget"].items() if value is not None}
        spent = {"images": len(ledger.images), "nfe": ledger.spent.nfe, "forwards": ledger.spent.forwards,
                 "seconds": round(ledger.spent.seconds, 2)}  # fmt: skip
        running = self.watch.status == "running"
        best = self.best
        damaged = [one.replace(str(self.watch.root), self.name) for one in self.watch.warnings]
        return {
            "name": self.name, "status": self.watch.status, "stopped": run.get("stopped"),
            "created": run.get("created"), "prompt": spec["sampler"].get("prompt"),
            "label": spec["sampler"].get("class_label"), "model": spec["sampler"].get("model"),
            "search": spec["search"], "seed": spec["seed"], "verifiers": list(self.ranking.names),
            "judges": [one["name"] for one in spec.get("judges", [])], "value_name": self.ranking.name,
            "budget": budget, "spent": spent, "left": time_left(budget, spent) if running else None,
            "used": used(budget, spent), "phases": {name: round(value, 2) for name, value in ledger.seconds.items()},
            "target": spec.get("target") or {}, "drafts": self.drafts,
            "draft": spec.get("draft"), "scored": len(self._rows),
            "steps": int(spec["sampler"].get("num_inference_steps", spec["search_steps"])),
            "waiting": len(ledger.images) - len(ledger.candidates),
            "best": None if best is None else best.id, "baseline": self.baseline(),
            "warnings": [*damaged, *run.get("summary", {}).get("warnings", [])][:50],
        }  # fmt: skip

    # What a page asks for

    def since(self, before: Cursor) -> tuple[dict[str, Any] | None, Cursor]:
        """What a page that knows ``before`` has not seen, JSON-ready, and what it knows then; None where that is all.

        Returns:
            ``anew`` (whether all that it knew is void), ``head`` where it changed, ``rows`` (id, seed, steps, how many
            there were, NFE and seconds by then, why it is broken, scores, whether a draft), ``previews`` (id, index,
            steps, scores, whether there is a picture), ``judged`` by id where it is new, ``values`` of
            an ensemble by row, ``curve`` (images, NFE, seconds, value, id).
        """
        with self.lock:
            ledger = self.watch.ledger
            anew = before.epoch != self._epoch
            known = Cursor(self._epoch) if anew else before
            now = Cursor(self._epoch, len(self._rows), len(ledger.previews), len(self._newly_judged), self._ranked,
                         self._heads)  # fmt: skip
            if now == known and not anew:
                return None, now
            found: dict[str, Any] = {"anew": anew}
            if now.head != known.head or anew:
                found["head"] = self._head
            if now.rows > known.rows:
                found["rows"] = self._rows[known.rows :]
            if now.previews > known.previews or now.rows > known.rows or anew:
                found["previews"] = self._unfinished()
            if now.judged != known.judged:
                found["judged"] = {key: {name: _number(one) for name, one in self._judged[key].items()}
                                   for key in dict.fromkeys(self._newly_judged[known.judged :])}  # fmt: skip
            if now.ranked != known.ranked:
                found["values"] = self._values
            if now.rows > known.rows or now.ranked != known.ranked:
                found["curve"] = self._points
            return found, now

    def _unfinished(self, most: int = 500) -> list[list[Any]]:
        """The last clean estimate of each draw that no finished image came of, the latest first."""
        ledger, seen = self.watch.ledger, set[str]()
        found = []
        for key in reversed(ledger.previews):
            one = ledger.particles.get(key)
            if one is None or one.origin.id in seen:
                continue
            seen.add(one.origin.id)
            if key not in self._finished and one.origin.id not in self._draws:
                scores = [_number(ledger.previews[key].get(name)) for name in self.ranking.names]
                pictured = (self.watch.root / PREVIEWS / f"{key}.jpg").is_file()
                found.append([key, one.index, one.steps, scores, pictured])
                if len(found) == most:
                    break
        return found

    def head(self) -> dict[str, Any]:
        """What stands above the rows."""
        with self.lock:
            return self._head

    def candidate(self, key: str) -> Candidate | None:
        """A finished and scored candidate."""
        with self.lock:
            return self.watch.ledger.candidates.get(key)

    def pool(self) -> Sequence[Candidate]:
        """All candidates."""
        with self.lock:
            return list(self.watch.ledger.candidates.values())

    def alike(self) -> Sequence[Candidate]:
        """Those whose scores compare with the best's: the full images where there are two or more, else the drafts."""
        pool = self.pool()
        full = [one for one in pool if not self.is_draft(one)]
        return full if len(full) > 1 or len(full) == len(pool) else [one for one in pool if self.is_draft(one)]

    def is_draft(self, one: Candidate) -> bool:
        """Whether it is one of the cheaper images of a search with drafts, of whatever kind."""
        return one.particle.kind == self._draft_kind

    def value_of(self, key: str) -> float | None:
        """What a candidate is sorted by, as of the last ranking."""
        with self.lock:
            place = self._place.get(key)
            if place is None:
                return None
            if len(self.ranking.names) == 1:
                found: float | None = self._rows[place][7][0]
                return found
            return self._values[place] if place < len(self._values) else None


class Lives:
    """The runs that somebody looks at, the last few of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Live] = OrderedDict()

    def of(self, root: Path, name: str) -> Live:
        """The one of a run, as of now.

        Raises:
            ValueError: where the directory is no run.
        """
        with self._lock:
            live = self._held.get(name)
            if live is None:
                live = self._held[name] = Live(root, name)
            self._held.move_to_end(name)
            over = len(self._held) - MOST_LIVES
            for one in [key for key, one in self._held.items() if over > 0 and one.watch.status != "running"][:over]:
                if one != name:
                    del self._held[one]
        live.refresh()
        return live


def _best_so_far(rows: Sequence[list[Any]], values: np.ndarray) -> list[list[Any]]:
    """Images, NFE, seconds, value and id wherever the best changed."""
    before = np.concatenate([[-np.inf], np.maximum.accumulate(values)[:-1]])
    better = np.flatnonzero(values > before)
    return [[rows[n][3], rows[n][4], rows[n][5], float(values[n]), rows[n][0]] for n in better.tolist()]


def _number(value: float | None) -> float | None:
    """A score as JSON has it."""
    return None if value is None or not math.isfinite(value) else float(value)


def used(budget: dict[str, float], spent: dict[str, Any]) -> float:
    """The portion of the nearest limit that is used, in [0, 1]."""
    return min(1.0, max((spent[unit] / limit for unit, limit in budget.items() if limit), default=0.0))


def time_left(budget: dict[str, float], spent: dict[str, Any]) -> float | None:
    """Seconds to the nearest limit at the pace so far; None where nothing was made yet."""
    took, left = float(spent["seconds"]), []
    for unit, limit in budget.items():
        if unit == "seconds":
            left.append(max(0.0, limit - took))
        elif spent[unit] and took:
            left.append(max(0.0, (limit - spent[unit]) * took / spent[unit]))
    return round(min(left), 1) if left else None
