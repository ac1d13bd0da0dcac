"""Searches against each other at one budget: their sizes fitted to it, the same prompts and seeds for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from noisewright import registry
from noisewright.benchmark.compared import COSTS, Compared, Difference
from noisewright.benchmark.comparisons import differences
from noisewright.benchmark.fitting import fitted, worth
from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value
from noisewright.benchmark.verdicts import sentence
from noisewright.outside.messages import short
from noisewright.planning import plan_on
from noisewright.request import Request
from noisewright.run.budget import Budget, parse_budget

if TYPE_CHECKING:
    from noisewright.benchmark.store import Results

PLAIN = "random"
"""Plain best of N, which is always among those that are compared."""

AXIS = "search"


@dataclass(frozen=True)
class Asked:
    """A search that is compared.

    Attributes:
        label: what it is called: its name, with the arguments where they were given.
        search: its name.
        args: that a person gave.
    """

    label: str
    search: str
    args: Mapping[str, Any]


@dataclass(frozen=True)
class Between:
    """Two searches by one score.

    Attributes:
        one, other: their labels.
        score: by which.
        role: ``verifier`` or ``judge``.
        difference: of the first to the second, paired; p are adjusted over all pairs of the same score.
        verdict: the same in a sentence.
    """

    one: str
    other: str
    score: str
    role: str
    difference: Difference
    verdict: str


# What is asked for


def read_searches(searches: Sequence[str], arguments: Sequence[str] = ()) -> list[Asked]:
    """``NAME`` or ``NAME:KEY=VALUE,...`` each, and more arguments of those without as ``NAME:KEY=VALUE,...``.

    A comma belongs to the value unless a ``KEY=`` follows, so lists are typed as everywhere: ``at=0,0.2,elites=2``.
    ``;`` between arguments is taken too, as in an axis.

    Returns:
        Plain best of N first, whether it was named or not.

    Raises:
        ValueError: in one line, with the nearest name.
    """
    found = [_asked(text) for text in searches]
    for text in arguments:
        name, colon, rest = text.partition(":")
        if not colon or not rest:
            raise ValueError(f"expected --search-arg NAME:KEY=VALUE, got {short(text)}")
        place = next((k for k, one in enumerate(found) if one.search == name and not one.args), None)
        if place is None:
            place = next((k for k, one in enumerate(found) if one.label.startswith(f"{name}:")), None)
        if place is None:
            raise ValueError(f"expected --search-arg of a search that is compared, got {short(text)}")
        args = {**found[place].args, **_read(rest, text)}
        found[place] = _checked(f"{name}:{rest}", name, args)
    if not any(one.label == PLAIN for one in found):
        found.insert(0, Asked(PLAIN, PLAIN, {}))
    found.sort(key=lambda one: one.label != PLAIN)
    labels = [one.label for one in found]
    twice = next((one for one in labels if labels.count(one) > 1), None)
    if twice is not None:
        raise ValueError(f"expected each search once, got {short(twice)} twice")
    if len(found) < 2:
        raise ValueError("expected a search to compare with random, got none")
    return found


def _asked(text: str) -> Asked:
    name, _, rest = text.partition(":")
    return _checked(text, name, _read(rest, text) if rest else {})


def _checked(label: str, name: str, args: Mapping[str, Any]) -> Asked:
    registry.entry("search", name)
    registry.check_arguments(name, args)
    return Asked(label, name, dict(args))


def _read(text: str, whole: str) -> dict[str, str]:
    found: dict[str, str] = {}
    key = ""
    for part in text.replace(";", ",").split(","):
        name, equals, value = part.partition("=")
        if equals:
            key = name.strip().replace("-", "_")
            found[key] = value.strip()
        elif key:
            found[key] += f",{part.strip()}"
        else:
            raise ValueError(f"expected NAME:KEY=VALUE,..., got {short(whole)}")
    return found


def compare_spec(
    searches: Sequence[Asked], base: Mapping[str, Any], prompts: Sequence[SetPrompt], budget: str, pipe: Any, *,
    prompt_set: str = "", seeds: int = 1, seed: int = 0, before: Spec | None = None,
) -> Spec:  # fmt: skip
    """The benchmark of a comparison.

    Images are turned into so many NFE, since that is what all searches spend; a budget in seconds stays one, and sizes
    are fitted to what it buys.

    Args:
        searches: that are compared.
        base: of all requests: model, verifier, judge, steps and the like.
        prompts: the prompts.
        budget: in one unit.
        pipe: the pipeline, loaded.
        prompt_set: what the prompts were read from.
        seeds: of each prompt.
        seed: the first.
        before: the same comparison as it was begun, whose sizes stay as they were fitted then. It was read from a
            directory, so nothing but the arguments of searches is taken from it.

    Raises:
        ValueError, TypeError: in one line.
    """
    limits, known = parse_budget(budget), dict[str, Any]()
    plain = Request(**base, prompt=prompts[0].text, seed=seed)

    def planned(search: str) -> Any:
        return plan_on(plain.changed(search=search), pipe, known=known, proving=False, tuned=False)

    nfe = worth(planned(PLAIN), limits)
    own = {**base, "budget": [str(limits) if limits.seconds is not None else f"{nfe} nfe"]}
    values = []
    for one in searches:
        args = _sizes_in(before, one)
        if args is None:
            args = fitted(planned(one.search), nfe, one.args)
        values.append(Value(one.label, {"search": one.search, "search_args": args}))
    labels = ", ".join(one.label for one in searches)
    return Spec(
        "compare", f"{labels} at {budget_words(limits)}", own, (Axis(AXIS, tuple(values)),), tuple(prompts), prompt_set,
        seeds=seeds, seed=seed, reference={AXIS: PLAIN}, notes=(_note(limits, nfe, values),),
    )  # fmt: skip


def _sizes_in(before: Spec | None, fitted: Asked) -> dict[str, Any] | None:
    """The arguments that a search was fitted with before; None where there are none that it takes."""
    values = [one for axis in before.axes for one in axis.values] if before is not None else []
    found = next((one.changes for one in values if one.label == fitted.label), {})
    args = found.get("search_args")
    if found.get("search") != fitted.search or not isinstance(args, Mapping):
        return None
    registry.check_arguments(fitted.search, args)
    return dict(args)


def budget_words(limits: Budget) -> str:
    """``320 NFE`` in place of ``320 nfe``; images are images' worth of NFE."""
    if limits.images is not None:
        return f"{limits.images} images' worth of NFE"
    return str(limits).replace("nfe", "NFE")


def _note(limits: Budget, nfe: int, values: Sequence[Value]) -> str:
    sizes = [f"{one.label} with {', '.join(f'{key}={value}' for key, value in one.changes['search_args'].items())}"
             for one in values if one.changes["search_args"]]  # fmt: skip
    how = f"Sizes of searches are the largest that end within {nfe} NFE"
    how += f", what {limits} buy by one timed step" if limits.seconds is not None else ""
    return f"{how}: {'; '.join(sizes)}." if sizes else f"All may spend {nfe} NFE."


# What came of it


def compared_in_pairs(results: Results, found: Compared) -> list[Between]:
    """Each two searches by each score, those by the score that decides first."""
    labels = [value.label for value in results.spec.axes[0].values]
    there = [one.labels[AXIS] for one in found.points if one.compared]
    pairs = [(other, one) for one, other in combinations([one for one in labels if one in there], 2)]
    if not pairs:
        return []
    first = [found.deciding] if found.deciding else []
    rows = []
    for score in dict.fromkeys([*first, *found.judges, *found.scores]):
        role = "judge" if score in found.judges else "verifier"
        both = differences(results, [({AXIS: one}, {AXIS: other}) for one, other in pairs], score)
        for (one, other), difference in zip(pairs, both, strict=True):
            by = score if role == "judge" else f"{score}, which both optimised"
            rows.append(Between(one, other, score, role, difference, sentence(difference, one, other, by)))
    return rows


def equal_cost(results: Results, cost: str) -> list[str]:
    """A sentence for each search whose cost is surely another than that of plain best of N."""
    there = {row["coordinates"].get(AXIS) for row in results.done}  # of one that always failed nothing can be said
    labels = [value.label for value in results.spec.axes[0].values[1:] if value.label in there]
    if PLAIN not in there or not labels:
        return []
    both = differences(results, [({AXIS: one}, {AXIS: PLAIN}) for one in labels], cost)
    return [sentence(one, label, PLAIN, COSTS[cost] if cost == "nfe" else cost, unit=COSTS[cost])
            for label, one in zip(labels, both, strict=True) if one.stands]  # fmt: skip
