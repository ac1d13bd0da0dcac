"""What is known of a pipeline before a search begins: it was held to its own plain call, and what failed decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from noisewright import registry
from noisewright.errors import UnsupportedPipeline
from noisewright.outside.texts import clean
from noisewright.request import Request
from noisewright.samplers.optional import seeds_alone
from noisewright.samplers.parity import obeying
from noisewright.samplers.pipeline import PipelineSampler
from noisewright.samplers.protocol import Sampler
from noisewright.samplers.verdict import Verdict
from noisewright.samplers.verdicts import key_of, known_verdict, proved_now
from noisewright.schemas.drafts import Draft
from noisewright.verifiers.protocol import Verifier, WantsPreviews


@dataclass(frozen=True)
class Proof:
    """A sampler with what is known of it.

    Attributes:
        sampler: that does what the verdict allows, and nothing else.
        verdict: None where none is known, or none is possible: of a sampler that is no pipeline.
        key: that it is kept by.
        warnings: what the user should know.
    """

    sampler: Any
    verdict: Verdict | None = None
    key: str | None = None
    warnings: list[str] = field(default_factory=list)

    def obeyed(self, sampler: Sampler) -> Sampler:
        """Another sampler of the same pipeline, as the verdict allows it."""
        if self.verdict is None or sampler is self.sampler or not isinstance(sampler, PipelineSampler):
            return sampler
        return obeying(sampler, self.verdict)

    def to_json(self) -> dict[str, Any] | None:
        """As a run records it."""
        return None if self.verdict is None else {"key": self.key, "verdict": self.verdict.to_json()}


def check_whole(
    search: str, sampler: Sampler, verifiers: Sequence[Verifier] = (), draft: Draft | None = None
) -> None:
    """Refuse what asks for states of a sampler that has none: it starts from seeds and gives images.

    Raises:
        UnsupportedPipeline: in one line, with the searches that work.
    """
    if not seeds_alone(sampler):
        return
    name = clean(str(sampler.description["model"]))
    if not registry.entry("search", search).draws_seeds:
        works = ", ".join(one.name for one in registry.entries() if one.kind == "search" and one.draws_seeds)
        raise UnsupportedPipeline(
            f"expected a search that draws seeds and leaves states alone ({works}) for {name}, which gives whole "
            f"images, got {search}"
        )
    if draft is not None and set(draft.parts) != {"steps"}:
        raise UnsupportedPipeline(f"expected a draft of fewer steps for {name}, which gives whole images, "
                                  f"got {draft.text}")  # fmt: skip
    for one in verifiers:
        if isinstance(one, WantsPreviews):
            raise UnsupportedPipeline(
                f"expected verifiers of finished images for {name}, which gives no others, got {one.name}"
            )


def proved(
    request: Request, sampler: Sampler, proving: bool = True, checked: Mapping[str, Any] | None = None
) -> Proof:
    """A sampler as far as it is known to make the pipeline's own images.

    Args:
        request: says whether it is to be looked at, and for which search.
        sampler: that was made for it.
        proving: find it out where it is not known.
        checked: what a run that is continued recorded of it; it counts where it is of the same pipeline and call.

    Raises:
        UnsupportedPipeline: where the pipeline cannot be searched, or not by this search, with those that can.
        ValueError: where the pipeline's plain call fails.
    """
    if not isinstance(sampler, PipelineSampler):
        check_whole(request.search, sampler)
        return Proof(sampler)
    kind = type(sampler.pipe).__name__
    if request.no_check:
        return Proof(sampler, warnings=[f"no_check: what {kind} makes was not compared with its plain call"])
    key = key_of(sampler)
    verdict = known_verdict(sampler, key)
    if verdict is None and checked is not None and checked["key"] == key:
        verdict = Verdict.from_json(checked["verdict"])
    if verdict is None and not proving:
        said = f"{kind} was not compared with its plain call yet: that costs 3 images of 4 steps before the run"
        return Proof(sampler, warnings=[said])
    verdict = proved_now(sampler, key) if verdict is None else verdict
    if verdict.refused is not None:
        raise UnsupportedPipeline(verdict.refused)
    if not verdict.split and registry.entry("search", request.search).splits:
        whole = [one.name for one in registry.entries() if one.kind == "search" and not one.splits]
        why = next((note for note in verdict.notes if "start to end" in note), f"{kind} cannot be cut")
        raise UnsupportedPipeline(
            f"expected a search that leaves states alone on their way ({', '.join(whole)}), got {request.search}: {why}"
        )
    return Proof(obeying(sampler, verdict), verdict, key, list(verdict.notes) if verdict.restricts else [])
