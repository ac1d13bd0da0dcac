"""The verdict of an audit, in a sentence or two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from noisewright.benchmark.compared import LEVEL, Interval

if TYPE_CHECKING:
    from noisewright.benchmark.audit import Against, Paid
    from noisewright.benchmark.chosen import Chosen

NOBODY = (
    "no verifier stands out: two that judge each other cannot say which is right; name a judge (--judge), a third "
    "verifier, or a person's votes (--votes)."
)
Found = tuple[str | None, str]
"""The verifier to trust, or None, and the sentence."""


def verdict_of(
    verifiers: Sequence[str], judges: Sequence[str], count: int, pays: Sequence[Paid], against: Sequence[Against],
    chosen: Chosen | None,
) -> Found:  # fmt: skip
    """Whom to trust: a person's votes decide where there are some, else the judges, else the other verifiers.

    A verifier stands out where it is better than each other one after Holm's correction, and its picks are worth more
    than any candidate.

    Args:
        verifiers: their names.
        judges: their names.
        count: candidates of a prompt.
        pays: what picks are worth.
        against: of each two verifiers.
        chosen: what a person's votes say.
    """
    by_scores = _by_scores(verifiers, judges, count, pays, against)
    if chosen is None or not any(one.choices for one in chosen.agreement.values()):
        return by_scores
    trusted, text = _by_votes(verifiers, chosen)
    return trusted, f"{text} By scores: {by_scores[1]}"


def _by_votes(verifiers: Sequence[str], chosen: Chosen) -> Found:
    rates = {name: chosen.agreement[name] for name in verifiers if chosen.agreement[name].choices}
    if not rates:
        return None, "No verifier scores the images that were voted on."
    best = max(rates, key=lambda name: rates[name].rate)
    top = rates[best]
    share = f"{top.rate:.0%} [{100 * top.low:.0f}, {100 * top.high:.0f}] of {top.choices} choices"
    if top.low <= 0.5:
        return None, f"trust none: {best} agrees with the person most often, in {share}, not surely more than a coin."
    rivals = [(one.other if one.one == best else one.one, one.adjusted, _from(best, one.one, one.difference))
              for one in chosen.preferred if best in (one.one, one.other)]  # fmt: skip
    equal = [name for name, p, difference in rivals if not (p < LEVEL and difference.mean > 0)]
    if equal:
        most = f"{best} agrees with the person most often, in {share}"
        return None, f"no verifier stands out: {most}, but not shown to do so more often than {_listed(equal)}."
    more = f", more often than {_listed([name for name, _, _ in rivals])}" if rivals else ""
    return best, f"trust {best}: it agrees with the person in {share}{more}."


def _by_scores(
    verifiers: Sequence[str], judges: Sequence[str], count: int, pays: Sequence[Paid], against: Sequence[Against]
) -> Found:
    if not judges and len(verifiers) < 3:
        return None, NOBODY
    worth = {name: _worth(name, judges, verifiers, pays) for name in verifiers}
    best = max(worth, key=lambda name: -math.inf if math.isnan(worth[name][0]) else worth[name][0])
    mean, least, by = worth[best]
    who = f"by {_listed(by)}" if judges else "by the other verifiers"
    pick = f"its pick of {count} is {mean:+.2f} standard deviations above a prompt's mean candidate {who}"
    if not least > 0:
        return None, f"trust none: {best} leads, but {pick}, which is not shown to be more than nothing."
    rivals = {one.other if one.one == best else one.one: one for one in against if best in (one.one, one.other)}
    turned = {name: _from(best, one.one, one.difference) for name, one in rivals.items()}
    equal = [name for name, one in rivals.items() if not (one.stands and turned[name].mean > 0)]
    if equal:
        apart = _listed([f"{name} ({_said(turned[name])})" for name in equal])
        after = f" after Holm's correction over {len(against)} comparisons" if len(against) > 1 else ""
        return None, f"no verifier stands out: {best} leads, {pick}, but not shown to be better than {apart}{after}."
    more = _listed([f"{name} by {_said(difference)}" for name, difference in turned.items()])
    return best, f"trust {best}: {pick}" + (f", better than {more}." if more else ".")


def _worth(
    name: str, judges: Sequence[str], verifiers: Sequence[str], pays: Sequence[Paid]
) -> tuple[float, float, list[str]]:
    """What a verifier's pick is worth to those who judge, the lower end (means over them), and who they are."""
    by = list(judges) or [one for one in verifiers if one != name]
    some = [one.deviations for one in pays if one.picker == name and one.scorer in by]
    lows = [one.mean if math.isnan(one.low) else one.low for one in some]
    return sum(one.mean for one in some) / len(some), sum(lows) / len(lows), by


def _from(best: str, one: str, difference: Interval) -> Interval:
    """A difference as the best sees it."""
    return difference if best == one else Interval(-difference.mean, -difference.high, -difference.low)


def _said(one: Interval) -> str:
    return f"{one.mean:+.2f}" + ("" if math.isnan(one.low) else f" [{one.low:+.2f}, {one.high:+.2f}]")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
