"""The settings and the draft that a profile finds best for what a budget buys (``generate --profile``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noisewright.measures.order_statistics import expected_best, expected_best_of_drafts
from noisewright.outside.messages import short
from noisewright.planning.samplers import check_draft
from noisewright.request import Request
from noisewright.run.budget import Budget
from noisewright.run.drafts import Left, Price
from noisewright.samplers.fingerprint import fingerprint, same_model
from noisewright.schemas.drafts import NO_DRAFT, Draft, draft_of, is_typed, read_draft
from noisewright.schemas.profiles import read_profile
from noisewright.verifiers.protocol import Verifier

FIELDS = ("num_inference_steps", "guidance_scale", "batch_size")
"""What a profile may set, where the person did not."""

MOST = 1e6
"""Of images that an expectation is asked of: more make no difference, and a budget may have no end."""


@dataclass(frozen=True)
class Choice:
    """A row of a profile, and what it is expected to come to.

    Attributes:
        settings: by the names of a request's fields.
        draft: as it is to be asked for, or None.
        expected: the score of the result, in the verifier's units.
        seconds: that the budget is taken for.
    """

    settings: Mapping[str, Any]
    draft: Draft | None
    expected: float
    seconds: float


def profiled(
    request: Request, pipe: Any, budget: Budget, verifiers: Sequence[Verifier], workers: int, warnings: list[str]
) -> Request:
    """A request with what its profile finds best, where the person did not say it; without the profile.

    A draft that the profile chooses is used unproved, for it was proved on the profile's prompts; but where its speed
    was measured on another device, in another precision or at another size, it is proved in the run as any other. What
    the person typed stands: a draft, how many of it are made in full, its pilot.

    Args:
        request: that may name one.
        pipe: the pipeline.
        budget: its budget.
        verifiers: that it searches by.
        workers: how many images are made at a time.
        warnings: what was chosen is added here.

    Raises:
        ValueError: in one line, on a file that is none, or of another model or verifier, or where none of its rows
            fits.
    """
    if request.profile is None:
        return request
    found = read_profile(request.profile)
    now = fingerprint(pipe) if hasattr(pipe, "components") else None
    if now is None or not same_model(found["fingerprint"], now):
        raise ValueError(f"expected a profile of the model {request.model or type(pipe).__name__}, got one of "
                         f"{short(found['model'])} with another fingerprint")  # fmt: skip
    _check_verifiers(found, verifiers)
    best = chosen(found, request, budget, workers)
    changes = {name: value for name, value in best.settings.items() if getattr(request, name) is None}
    elsewhere = _elsewhere(found, request, pipe)
    if best.draft is not None:
        pilot = best.draft.pilot if elsewhere or is_typed(request.draft, "pilot") else 0
        changes["draft"] = f"{best.draft.text},best={best.draft.best},pilot={pilot}"
    draft = "none" if best.draft is None else best.draft.text
    said = ", ".join(f"{name} {value}" for name, value in {**best.settings, "draft": draft}.items())
    warnings.append(f"profile: {said}; a {found['verifier']} of {best.expected:.4g} is expected of about "
                    f"{best.seconds:.3g} s")  # fmt: skip
    warnings.extend(f"the profile {request.profile}: {text}" for text in found.get("warnings", []))
    if elsewhere:
        proof = "" if best.draft is None else ": the draft is proved here"
        warnings.append(f"the profile was measured {elsewhere}, where seconds are others{proof}")
    return request.changed(profile=None, **changes)


def _check_verifiers(profile: Mapping[str, Any], verifiers: Sequence[Verifier]) -> None:
    """Refuse a profile by another verifier: what it says of scores and of ranks is said of that one's.

    Raises:
        ValueError: in one line.
    """
    wanted, names = profile["verifier"], [one.name for one in verifiers]
    if names != [wanted]:
        raise ValueError(f"expected a profile by the verifier of the search ({', '.join(names)}), got one by {wanted}")
    if verifiers[0].fingerprint != profile["verifier_fingerprint"]:
        raise ValueError(f"expected a profile by {wanted} with fingerprint {short(verifiers[0].fingerprint)}, got one "
                         f"with {short(profile['verifier_fingerprint'])}")  # fmt: skip


def _elsewhere(profile: Mapping[str, Any], request: Request, pipe: Any) -> str:
    """In what the speeds of a profile were measured otherwise; "" where they were not."""
    now = {"device": str(getattr(pipe, "device", "cpu")), "dtype": str(getattr(pipe, "dtype", "float32"))}
    found = [
        f"{'on' if name == 'device' else 'in'} {profile[name]}" for name, one in now.items()
        if profile[name].removeprefix("torch.").partition(":")[0] != one.removeprefix("torch.").partition(":")[0]
    ]  # fmt: skip
    sides = (profile.get("height"), profile.get("width"))
    if sides != (request.height, request.width):
        found.append("at the model's own size" if None in sides else f"at {sides[0]}x{sides[1]}")
    return " ".join(found)


def chosen(profile: Mapping[str, Any], request: Request, budget: Budget, workers: int = 1) -> Choice:
    """The best row of a profile for a request's search and budget.

    A row's expectation is ``mean + deviation * gain``, with the gain that best-of-N order statistics give for as many
    images as the budget buys (:mod:`noisewright.measures.order_statistics`): by each of its limits at what an image
    costs of it, whatever it is.

    Raises:
        ValueError: where no row has the settings, or the draft, that the person asked for.
    """
    rows = [row for row in profile["settings"] if all(
        getattr(request, name) in (None, row[name]) for name in FIELDS
    )]  # fmt: skip
    if not rows:
        said = ", ".join(f"{name} {getattr(request, name)}" for name in FIELDS if getattr(request, name) is not None)
        raise ValueError(f"expected settings that the profile has, got {said or 'a profile without any'}")
    left = Left.of(budget, workers)
    choices = [one for row in rows for one in _choices(row, request, left, workers)]
    if not choices:
        known = ", ".join(dict.fromkeys(one["draft"] for row in rows for one in row["drafts"])) or "none"
        raise ValueError(f"expected a draft that the profile has ({known}), got {short(request.draft)}")
    return max(choices, key=lambda one: one.expected)


def _choices(row: Mapping[str, Any], request: Request, left: Left, workers: int) -> Iterator[Choice]:
    """In full, and with each draft that the search takes; of a draft that the person typed, with that alone."""
    settings = {name: row[name] for name in FIELDS if row[name] is not None}
    full = _price(row, row)
    count = min(MOST, max(1.0, left.buys(full)))

    def choice(draft: Draft | None, gain: float, seconds: float) -> Choice:
        return Choice(settings, draft, float(row["mean"]) + float(row["deviation"]) * gain, seconds / workers)

    given = draft_of(request.draft)
    if given is None:
        yield choice(None, expected_best(count), count * full.seconds)
    if request.draft == NO_DRAFT or request.search_steps is not None:  # which is a draft of its own
        return
    for one in row["drafts"]:
        draft = read_draft(one["draft"])
        if given is not None:
            if given.with_steps(row["num_inference_steps"]).text != draft.text:
                continue
            check_draft(request.search, draft)
            draft = Draft(draft.parts, given.best, given.pilot)
        each, whole = _price(one, row), 1 + draft.best  # the baseline and the best are made in full
        drafts = min(MOST, left.less(whole, full).buys(each))
        if given is None and not (drafts > 0 and _takes(request.search, draft)):
            continue
        gain = expected_best_of_drafts(drafts, draft.best, one["correlation"])
        yield choice(draft, gain, drafts * each.seconds + whole * full.seconds)


def _price(one: Mapping[str, Any], row: Mapping[str, Any]) -> Price:
    """What an image of a row, or a draft in it, costs; profiles of before say nothing of NFE."""
    return Price(one.get("nfe_each", row["num_inference_steps"]), max(one["seconds_each"], 1e-9))


def _takes(search: str, draft: Draft) -> bool:
    """Whether a search can do with a draft."""
    try:
        check_draft(search, draft)
    except ValueError:
        return False
    return True
