"""The settings and the draft that a profile finds best for what a budget buys (``generate --profile``)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from noisewright.measures.order_statistics import expected_best, expected_best_of_drafts
from noisewright.outside.messages import short
from noisewright.planning.samplers import check_draft
from noisewright.request import Request
from noisewright.run.budget import Budget
from noisewright.samplers.fingerprint import fingerprint, same_model
from noisewright.schemas.drafts import NO_DRAFT, draft_of, read_draft
from noisewright.schemas.profiles import read_profile

FIELDS = ("num_inference_steps", "guidance_scale", "batch_size")
"""What a profile may set, where the person did not."""


@dataclass(frozen=True)
class Choice:
    """A row of a profile, and what it is expected to come to.

    Attributes:
        settings: by the names of a request's fields.
        draft: its text, or None.
        expected: the score of the result, in the verifier's units.
        seconds: that the budget is taken for.
    """

    settings: Mapping[str, Any]
    draft: str | None
    expected: float
    seconds: float


def profiled(request: Request, pipe: Any, budget: Budget, warnings: list[str]) -> Request:
    """A request with what its profile finds best, where the person did not say it; without the profile.

    Args:
        request: that may name one.
        pipe: the pipeline.
        budget: its budget.
        warnings: what was chosen is added here.

    Raises:
        ValueError: in one line, on a file that is none, or of another model, or where none of its rows fits.
    """
    if request.profile is None:
        return request
    found = read_profile(request.profile)
    now = fingerprint(pipe) if hasattr(pipe, "components") else None
    if now is None or not same_model(found["fingerprint"], now):
        raise ValueError(f"expected a profile of the model {request.model or type(pipe).__name__}, got one of "
                         f"{short(found['model'])} with another fingerprint")  # fmt: skip
    best = chosen(found, request, budget)
    changes = {name: value for name, value in best.settings.items() if getattr(request, name) is None}
    if best.draft is not None:
        changes["draft"] = f"{best.draft},pilot=0"  # it was proved on the profile's prompts
    said = ", ".join(f"{name} {value}" for name, value in {**best.settings, "draft": best.draft or "none"}.items())
    warnings.append(f"profile: {said}; a {found['verifier']} of {best.expected:.4g} is expected of about "
                    f"{best.seconds:.3g} s")  # fmt: skip
    return request.changed(profile=None, **changes)


def chosen(profile: Mapping[str, Any], request: Request, budget: Budget) -> Choice:
    """The best row of a profile for a request's search and budget.

    A row's expectation is ``mean + deviation * gain``, with the gain that best-of-N order statistics give for as many
    images as the seconds buy (:mod:`noisewright.measures.order_statistics`). A budget in images or NFE is taken for the
    seconds that it takes in full with the first of the rows that fit.

    Raises:
        ValueError: where no row has the settings that the person asked for.
    """
    rows = [row for row in profile["settings"] if all(
        getattr(request, name) in (None, row[name]) for name in FIELDS
    )]  # fmt: skip
    if not rows:
        said = ", ".join(f"{name} {getattr(request, name)}" for name in FIELDS if getattr(request, name) is not None)
        raise ValueError(f"expected settings that the profile has, got {said or 'a profile without any'}")
    seconds = _seconds(budget, rows[0])
    choices = [one for row in rows for one in _choices(row, request, seconds)]
    return max(choices, key=lambda one: one.expected)


def _seconds(budget: Budget, row: Mapping[str, Any]) -> float:
    """A budget as seconds."""
    images = [math.inf] + [float(one) for one in (budget.images,) if one is not None]
    if budget.nfe is not None:
        images.append(budget.nfe / row["num_inference_steps"])
    limits = [min(images) * max(row["seconds_each"], 1e-9)]
    return min(limits + ([budget.seconds] if budget.seconds is not None else []))


def _choices(row: Mapping[str, Any], request: Request, seconds: float) -> Iterator[Choice]:
    """In full, and with each draft that the search takes."""
    settings = {name: row[name] for name in FIELDS if row[name] is not None}
    each = max(row["seconds_each"], 1e-9)
    count = max(1.0, seconds / each)

    def expected(gain: float) -> float:
        return float(row["mean"]) + float(row["deviation"]) * gain

    given = draft_of(request.draft)
    if given is None:
        yield Choice(settings, None, expected(expected_best(count)), seconds)
    if request.draft == NO_DRAFT:
        return
    for one in row["drafts"]:
        draft = read_draft(one["draft"])
        left = count - 1 - draft.best  # the baseline and the best are made in full
        if left <= 0 or (given is not None and given.text != draft.text):
            continue
        try:
            check_draft(request.search, draft)
        except ValueError:
            continue
        gain = expected_best_of_drafts(left * each / max(one["seconds_each"], 1e-9), draft.best, one["correlation"])
        yield Choice(settings, draft.text, expected(gain), seconds)
