"""What a worker on another machine is built from: what was asked for, what was given with it, and who it has to be."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from noisewright import registry
from noisewright.executors.optional import OBJECTS, Part
from noisewright.executors.protocol import Worker
from noisewright.executors.worker import ModelWorker, ScoringWorker
from noisewright.planning.models import load_requested
from noisewright.planning.proof import Proof
from noisewright.planning.samplers import call_arguments, drafting, make_sampler
from noisewright.planning.verifiers import made_of
from noisewright.registry.builtins import GRADIENT
from noisewright.request import LOADED_BY, Request, read_request
from noisewright.run.store import first_difference
from noisewright.samplers.parity import obeying
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.protocol import Sampler
from noisewright.samplers.quiet import quiet
from noisewright.samplers.verdict import Verdict
from noisewright.verifiers.cache import all_cached
from noisewright.verifiers.protocol import Verifier, waits

PIPE, ARGUMENTS = "the pipeline", "the arguments of the pipeline's call"


@dataclass(frozen=True)
class PlannedBlueprint:
    """A :class:`~noisewright.executors.optional.Blueprint` of a plan.

    Attributes:
        request: JSON-ready, with device and precision spelled out.
        condition: the prompt, and the number of the class.
        info: the model's card.
        verdict: what is known of the pipeline, JSON-ready.
        described: of the sampler in full: what a worker has to have.
        verifiers, judges: each as it is typed, or None for one of :attr:`given`, with its name and fingerprint.
        given: as there.
        served: as there.
    """

    request: dict[str, Any]
    condition: tuple[str, int | None]
    info: Mapping[str, Any]
    verdict: dict[str, Any] | None
    described: dict[str, Any]
    verifiers: tuple[tuple[str | None, str, str], ...]
    judges: tuple[tuple[str | None, str, str], ...]
    given: Mapping[str, Any] = field(default_factory=dict)
    served: frozenset[str] = frozenset()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "given": {}}

    def build(self, part: Part, given: Mapping[str, bytes], kept: dict[Any, Any]) -> Worker:
        """As :meth:`noisewright.executors.optional.Blueprint.build` says."""
        with quiet():
            return self._built(part, given, kept)

    def _built(self, part: Part, given: Mapping[str, bytes], kept: dict[Any, Any]) -> Worker:
        before = kept.get(OBJECTS, {})
        objects = kept[OBJECTS] = {
            name: before[name] if name in before else pickle.loads(one)  # noqa: S301 - of the driver's own
            for name, one in given.items()
        }
        request = read_request(self.request, "the driver's request")
        device = str(request.device or "cpu")
        if part == "verifiers":
            return ScoringWorker(*self._scorers(request, device, objects, kept))
        pipe = objects.get(PIPE) or _pipeline(request, kept)
        climbs = GRADIENT in registry.entry("search", request.search).needs
        verifiers, judges = self._scorers(request, device, objects, kept) if part == "all" or climbs else ([], [])
        final = self._sampler(request, pipe, objects)
        search = self._obeyed(final, drafting(request, final, [], [])[0])
        return ModelWorker(search, final, verifiers, judges)

    def _sampler(self, request: Request, pipe: Any, objects: Mapping[str, Any]) -> Sampler:
        values = call_arguments(request, objects.get(ARGUMENTS, {}), pipe)
        made = make_sampler(request, pipe, self.condition, self.info, values, [])
        final = self._obeyed(None, made)
        differs = first_difference({"sampler": self.described}, {"sampler": final.description})
        if differs is not None:
            raise ValueError("expected {} {} as the driver has it, got {}".format(*differs))
        return final

    def _obeyed(self, final: Sampler | None, sampler: Sampler) -> Sampler:
        """A sampler that does what the driver's verdict allows."""
        if self.verdict is None or not isinstance(sampler, PipelineSampler):
            return sampler
        verdict = Verdict.from_json(self.verdict)
        if final is None:
            return obeying(sampler, verdict)
        return Proof(final, verdict).obeyed(sampler)

    def _scorers(
        self, request: Request, device: str, objects: Mapping[str, Any], kept: dict[Any, Any]
    ) -> tuple[list[Verifier], list[Verifier]]:
        """The verifiers and judges that a worker asks: all but those that wait for servers."""
        known = kept.setdefault(("verifiers", device), {})
        place = _Place(device)

        def made(wanted: Sequence[tuple[str | None, str, str]]) -> list[Verifier]:
            listed = [objects[_verifier(name)] if text is None else text for text, name, _ in wanted]
            found = made_of(listed, place, known) if listed else []
            for one, (_, name, fingerprint) in zip(found, wanted, strict=True):
                if one.fingerprint != fingerprint:
                    raise ValueError(f"expected verifier {name} with fingerprint {fingerprint}, got {one.fingerprint}")
            return found

        verifiers, judges = made(self.verifiers), made(self.judges)
        if request.score_cache is not None:
            every = all_cached([*verifiers, *judges], request.score_cache)
            return every[: len(verifiers)], every[len(verifiers) :]
        return verifiers, judges


@dataclass(frozen=True)
class _Place:
    """In a pipeline's place: where verifiers compute."""

    device: str


def blueprint_of(
    request: Request, pipe: Any, final: Sampler, verifiers: Sequence[Verifier], judges: Sequence[Verifier],
    known: Mapping[str, Verifier], *, condition: tuple[str, int | None], info: Mapping[str, Any],
    arguments: Mapping[str, Any] | None, checked: Mapping[str, Any] | None,
) -> PlannedBlueprint:  # fmt: skip
    """What workers elsewhere are built from.

    Args:
        request: as it is recorded.
        pipe: the pipeline here.
        final: its sampler in full.
        verifiers, judges: those that were made here.
        known: of these, those with names, by what was typed.
        condition: the prompt, and the number of the class.
        info: the model's card.
        arguments: further ones of the pipeline's call, that were given as objects.
        checked: what is known of the pipeline, as a plan has it.
    """
    texts = {id(one): text for text, one in known.items()}
    given: dict[str, Any] = {}

    def listed(some: Sequence[Verifier]) -> tuple[tuple[str | None, str, str], ...]:
        found = []
        for one in map(_uncached, some):
            if not waits(one):
                found.append((texts.get(id(one)), one.name, one.fingerprint))
                if id(one) not in texts:
                    given[_verifier(one.name)] = one
        return tuple(found)

    about = (listed(verifiers), listed(judges))
    device = str(getattr(pipe, "device", "cpu")).partition(":")[0]
    if request.given_pipeline is not None or request.model is None:
        given[PIPE] = pipe
        request = request.changed(device=device)
    else:
        dtype = str(getattr(pipe, "dtype", "")).removeprefix("torch.")
        loaded = {"device": device, "dtype": dtype} if dtype in _DTYPES else {"device": device}
        request = request.changed(**loaded)
    if arguments:
        given[ARGUMENTS] = dict(arguments)
    verdict = None if checked is None else checked["verdict"]
    spelled, card, known_of_it, described = json.loads(
        json.dumps([request.to_json(), info, verdict, final.description], default=dict)
    )
    served = frozenset(one.name for one in (*verifiers, *judges) if waits(one))
    return PlannedBlueprint(spelled, condition, card, known_of_it, described, *about, given, served)


_DTYPES = ("float32", "float16", "bfloat16", "float64")


def _verifier(name: str) -> str:
    return f"the verifier {name}"


def _uncached(verifier: Any) -> Any:
    """A verifier itself, without what looks its scores up."""
    from noisewright.verifiers.cache import Cached

    return verifier.verifier if isinstance(verifier, Cached) else verifier


def _pipeline(request: Request, kept: dict[Any, Any]) -> Any:
    """The pipeline of a request: the last that was loaded, where it is that; two need not be in memory at once."""
    key = tuple(str(getattr(request, name)) for name in LOADED_BY)
    if kept.get("loaded") != key:
        kept["loaded"] = kept["pipeline"] = None
        kept["pipeline"] = load_requested(request)
        kept["loaded"] = key
    return kept["pipeline"]
