"""The journal of a run while it is written: each line is taken into account the moment that it is on the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from noisewright.errors import VerifierFailed
from noisewright.executors.protocol import added
from noisewright.images.metadata import without_nan
from noisewright.run.ledger import Ledger, recovery
from noisewright.run.particle import Particle
from noisewright.run.ranking import Leaders
from noisewright.run.states import States
from noisewright.run.store import Store
from noisewright.schemas.journal import check_record


class Recorder:
    """Writes lines and adds them up; lines that were written before are added up first.

    Args:
        store: where the journal is.
        leaders: told of each candidate.
        say: told of what was lost.
        elapsed: seconds that the run has taken.

    Attributes:
        ledger: the sum of the lines.
        states: the unfinished particles that they speak of.
        doubt: why a verifier gave no number for the last images, where it never gave one.
        doubtful: lines that are not written yet: of a verifier that may be broken.
    """

    def __init__(
        self, store: Store, leaders: Leaders, say: Callable[[str], None], elapsed: Callable[[], float]
    ) -> None:  # fmt: skip
        self._store = store
        self._leaders = leaders
        self._say = say
        self._elapsed = elapsed
        self._previewed: set[str] = set()
        self._unwritten: dict[str, Any] | None = None
        self.ledger = Ledger(recovery(store.root))
        self.states = States(store, say)
        self.doubt: VerifierFailed | None = None
        self.doubtful: list[dict[str, Any]] = []

    @property
    def owed_nfe(self) -> int:
        """What was spent that no line speaks of."""
        return 0 if self._unwritten is None else int(self._unwritten["nfe"])

    @property
    def proven(self) -> frozenset[str]:
        """The verifiers that gave a number."""
        return frozenset(name for name, count in self.ledger.numbers.items() if count) | self._previewed

    def replay(self) -> None:
        """Take the journal's lines into account. Images that did not survive are let go of, to be made again."""
        for number, record in enumerate(self._store.records, start=1):
            self._apply(check_record(record, f"line {number} of {self._store.root / 'journal.jsonl'}"))
        images = self.ledger.images
        lost = [
            key for key, made in images.items()
            if key in self.ledger.unknown or not self._store.holds(made.file, made.pixels, made.digest)
        ]  # fmt: skip
        if lost:  # their lines are in the journal but their files did not survive whole
            self._say(f"{len(lost)} of the images in {self._store.root} were lost or damaged; they are made again")
            self.ledger.forget(lost)
            self._leaders.clear()
            for one in self.ledger.candidates.values():
                self._leaders.lead(one)

    def append(self, record: dict[str, Any], speaks_of: Sequence[Particle] = (), doubtful: bool = False) -> None:
        """Write a line of the journal and take it into account.

        Particles that it ``speaks_of`` are described where no line before it has done so. A ``doubtful`` one, of a
        verifier that may be broken, is written once that verifier has given a number: a run that ends before asks
        about its images again when it goes on.
        """
        if self._unwritten is not None and "nfe" in record:
            record |= added(record, self._unwritten)
            self._unwritten = None
        described = {"particles": self.ledger.describe(speaks_of)} if speaks_of else {}
        record = without_nan({**record, **described, "elapsed": round(self._elapsed(), 4)})
        if doubtful:
            self.doubtful.append(record)
        else:
            proven = self.doubtful if record["verb"] == "score" else []
            for one in [*proven, record]:
                self._store.append(one)
            del self.doubtful[: len(proven)]
        self._apply(record)

    def owe(self, metered: dict[str, Any]) -> None:
        """Work that no line speaks of by itself is in the next one."""
        self._unwritten = metered if self._unwritten is None else added(self._unwritten, metered)

    def _apply(self, record: dict[str, Any]) -> None:
        """Take a line of the journal into account; live and replayed lines go through here alike."""
        self.ledger.apply(record)
        verb = record["verb"]
        some = self.ledger.of(record["ids"]) if verb in ("denoise", "ascend", "preview") else None
        if verb == "preview":
            self._previewed |= {name for name, row in record["scores"].items() if any(one is not None for one in row)}
        if some is not None and verb == "preview":
            if "state" in record or "lineages" in record:
                self.states.note_estimated(some, record.get("state"))
        elif some is not None:
            self.states.note_reached(some, record.get("state"))
        elif verb == "finish" and "previews" in record:
            self.states.note_finished(record["ids"], record["previews"])
        elif verb == "score":
            for key in record["ids"]:
                if key in self.ledger.candidates:
                    self._leaders.lead(self.ledger.candidates[key])
