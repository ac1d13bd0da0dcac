"""Which verifier to trust: what several say of the same plain candidates, and what judges and a person say of that.

Every prompt's candidates are made once, by best of N, and scored by all verifiers and judges together. From there on it
is arithmetic: :func:`audited` takes the rows of such a benchmark, and runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noisewright import registry
from noisewright.benchmark import scorers
from noisewright.benchmark.audit_verdict import verdict_of
from noisewright.benchmark.chosen import Chosen
from noisewright.benchmark.compared import LEVEL, Interval
from noisewright.benchmark.rows import CandidateRow
from noisewright.benchmark.spec import Axis, SetPrompt, Spec, Value
from noisewright.measures.paired import holm, paired_intervals, sign_flip
from noisewright.outside.messages import short
from noisewright.run.ensembles import mean_ranks

if TYPE_CHECKING:
    from noisewright.benchmark.store import Results

PLAIN, ENSEMBLE, ANY = "plain", "mean rank", "any"
"""Who picks besides the scorers: the first seed, the verifiers together, and nobody (the mean of the candidates)."""


@dataclass(frozen=True)
class Alike:
    """How far two scorers order a prompt's candidates alike, in the mean over prompts.

    Attributes:
        one, other: their names.
        spearman: rank correlation, in [-1, 1].
        kendall: tau-b, in [-1, 1]: the share of pairs in the same order less that in the other.
        prompts: where both tell candidates apart.
    """

    one: str
    other: str
    spearman: Interval
    kendall: Interval
    prompts: int


@dataclass(frozen=True)
class Paid:
    """What the pick of one is worth to another.

    Attributes:
        picker: who picks the best of a prompt's candidates: a verifier, a judge, ``mean rank`` of the verifiers, or
            ``plain``, the first seed.
        scorer: by whose scores.
        count: how many candidates there are to pick from; of fewer than all it is the mean over all choices of them.
        score: in the scorer's unit.
        gain: less the mean of the prompt's candidates.
        deviations: the gain in standard deviations of the prompt's candidates; 0 where all are alike.
    """

    picker: str
    scorer: str
    count: int
    score: Interval
    gain: Interval
    deviations: Interval


@dataclass(frozen=True)
class Against:
    """What two verifiers' picks are worth to those who are neither, or to a person.

    Attributes:
        one, other: their names.
        by: who says so: the judges, else the other verifiers; ``person`` of votes.
        difference: in standard deviations of a prompt's candidates; of votes a difference of shares.
        adjusted: p of a sign-flip test over prompts (of votes: of the prompts of votes) after Holm's correction over
            the pairs.
        stands: whether that is below 0.05.
    """

    one: str
    other: str
    by: tuple[str, ...]
    difference: Interval
    adjusted: float
    stands: bool


@dataclass(frozen=True)
class Pick:
    """A candidate that somebody picks.

    Attributes:
        id: of the candidate.
        seed: of its starting noise.
        file: relative to the benchmark's directory.
        scores: by name.
        by: who picks it.
    """

    id: str
    seed: int | None
    file: str
    scores: Mapping[str, float]
    by: tuple[str, ...]


@dataclass(frozen=True)
class Picks:
    """What each picks of a prompt's candidates: the plain one first."""

    prompt: str
    number: int
    picks: tuple[Pick, ...]


@dataclass(frozen=True)
class Audit:
    """What came of an audit.

    Attributes:
        root: the benchmark's directory.
        verifiers: their names.
        judges: their names.
        prompts: that were compared.
        candidates: of a prompt.
        failed: prompts without candidates.
        left_out: candidates that some scorer has no number for.
        verdict: in a sentence or two.
        trusted: the verifier that stands out, or None.
        agreement: of each two scorers.
        pays: of each picker and scorer, with all candidates.
        best_of: the same for 1, 2, 4, ... candidates and those who judge.
        against: of each two verifiers.
        stability: over seeds; its ``prompts`` by scorer, its ``best`` by verifier.
        chosen: what a person's votes say, or None.
        picks: of each prompt, those first where the picks are worth the most different.
        warnings: what limits the rest.
        files: what was written.
    """

    root: Path
    verifiers: tuple[str, ...]
    judges: tuple[str, ...]
    prompts: int
    candidates: int
    failed: int
    left_out: int
    verdict: str
    trusted: str | None
    agreement: tuple[Alike, ...]
    pays: tuple[Paid, ...]
    best_of: tuple[Paid, ...]
    against: tuple[Against, ...]
    stability: scorers.Stability
    chosen: Chosen | None
    picks: tuple[Picks, ...]
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-ready but for NaN."""
        found = asdict(self)
        found["directory"], found["files"] = str(found.pop("root")), [str(one) for one in self.files]
        return found


def audit_spec(
    base: Mapping[str, Any], prompts: Sequence[SetPrompt], verifiers: Sequence[str], judges: Sequence[str], count: int,
    seed: int, prompt_set: str,
) -> Spec:  # fmt: skip
    """The benchmark of an audit: best of ``count`` for each prompt, scored by everybody.

    Raises:
        ValueError: in one line, on fewer than two who score, one twice, or fewer than two candidates, and on settings
            by which some of them would be cheaper images, whose scores do not compare.
    """
    cheaper = next((name for name in ("search_steps", "draft", "profile") if name in base), None)
    if cheaper is not None:
        raise ValueError(f"expected images in full to audit by, got {cheaper} {short(base[cheaper])}")
    every = [*verifiers, *judges]
    names = [registry.score_name(one) for one in every]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"expected each verifier and judge once, got {twice} twice")
    if len(every) < 2:
        raise ValueError("expected at least two that score, such as two verifiers, or one and a judge, got one")
    if count < 2:
        raise ValueError(f"expected at least 2 candidates, got {count}")
    axis = Axis("search", (Value("random", {"search": "random"}),))
    settings = {**base, "verifier": every, "judge": ["none"], "budget": [f"{count} images"]}
    title = f"Which verifier to trust: {', '.join(verifiers)}"
    return Spec("audit", title, settings, (axis,), tuple(prompts), prompt_set, seed=seed)


# Candidates


@dataclass(frozen=True)
class Candidates:
    """The candidates of an audit.

    Attributes:
        names: of who scores, verifiers first.
        verifiers: how many of them are.
        prompts: that have candidates.
        rows: by prompt, in the order of seeds.
        scores: (prompts, candidates, scorers), complete.
        left_out: candidates that some scorer has no number for.
    """

    names: tuple[str, ...]
    verifiers: int
    prompts: tuple[SetPrompt, ...]
    rows: tuple[tuple[CandidateRow, ...], ...]
    scores: np.ndarray
    left_out: int


def candidates_of(results: Results, verifiers: int) -> Candidates:
    """The candidates in an audit's rows.

    Args:
        results: of an :func:`audit_spec`.
        verifiers: how many of those who score are verifiers.

    Raises:
        ValueError: where no prompt has candidates.
    """
    cells = {row["cell"]: row for row in results.done}
    rows: dict[str, list[CandidateRow]] = {key: [] for key in cells}
    for one in results.candidates():
        if one["cell"] in rows:
            rows[one["cell"]].append(one)
    kept = [(cells[key], sorted(some, key=lambda one: one["order"])) for key, some in rows.items() if some]
    if not kept:
        raise ValueError(f"expected candidates in {results.root}, got none: every prompt failed")
    names = tuple(kept[0][0]["verifiers"])
    scores = np.full((len(kept), max(len(some) for _, some in kept), len(names)), np.nan)
    for place, (_, some) in enumerate(kept):
        for number, candidate in enumerate(some):
            scores[place, number] = [_number(candidate["scores"].get(name)) for name in names]
    found = scorers.complete(scores)
    made = sum(len(some) for _, some in kept)
    prompts = tuple(SetPrompt(row["prompt"], row["number"], row["category"]) for row, _ in kept)
    left_out = made - int(np.isfinite(found).all(2).sum())
    return Candidates(names, verifiers, prompts, tuple(tuple(some) for _, some in kept), found, left_out)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


# What is said of them


def audited(results: Results, verifiers: int, chosen: Chosen | None = None, held: Candidates | None = None) -> Audit:
    """What the rows of an audit say.

    Args:
        results: of an :func:`audit_spec`.
        verifiers: how many of those who score are verifiers.
        chosen: what a person's votes say, see :mod:`~.chosen`.
        held: the candidates, where they were read already.
    """
    held = held or candidates_of(results, verifiers)
    names, scores = held.names, held.scores
    pickers = _pickers(held)
    most = int(np.isfinite(scores).all(2).sum(1).max())
    panel = _panel(len(names), verifiers)
    pays = paid(held, pickers, most, range(len(names)))
    judging = range(verifiers, len(names)) if len(names) > verifiers else range(len(names))
    sizes = [2**k for k in range(most.bit_length()) if 2**k < most]
    best_of = [one for count in [*sizes, most] for one in paid(held, pickers, count, judging)]
    against = _against(held, verifiers)
    trusted, verdict = verdict_of(names[:verifiers], names[verifiers:], most, pays, against, chosen)
    return Audit(
        results.root, names[:verifiers], names[verifiers:], len(held.prompts), most, len(results.failed), held.left_out,
        verdict, trusted, _agreement(held), tuple(pays), tuple(best_of), tuple(against),
        scorers.stability(scores, range(verifiers), panel), chosen, _picks(held, pickers),
    )  # fmt: skip


def _pickers(held: Candidates) -> dict[str, np.ndarray]:
    """Who picks, and by which values (prompts, candidates)."""
    scores = held.scores
    found = {name: scores[:, :, k] for k, name in enumerate(held.names)}
    first = np.where(np.isfinite(scores).all(2), -np.arange(scores.shape[1], dtype=np.float64), np.nan)
    if held.verifiers > 1:
        together = np.full(scores.shape[:2], np.nan)
        for place, rows in enumerate(scores):
            there = np.isfinite(rows).all(1)
            together[place, there] = mean_ranks(rows[there, : held.verifiers].tolist())
        found[ENSEMBLE] = together
    return {PLAIN: first, **found}


def paid(held: Candidates, pickers: Mapping[str, np.ndarray], count: int, judging: Sequence[int]) -> list[Paid]:
    """What each picker's best of ``count`` candidates is worth to each of those who judge."""
    scores = held.scores[:, :, list(judging)]
    mean, spread = scorers.spreads(scores)
    worth = scorers.judged(_whole(held.scores, scores), list(pickers.values()), count)
    gains = worth - mean[:, None]
    kinds = [scorers.averaged(one) for one in (worth, gains, scorers.in_deviations(gains, spread))]
    found = []
    for row, picker in enumerate(pickers):
        for column, scorer in enumerate(judging):
            found.append(Paid(picker, held.names[scorer], count, *(_at(kind, row, column) for kind in kinds)))
    return found


def _whole(every: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Some scorers' scores, NaN where any scorer has no number."""
    return np.where(np.isfinite(every).all(2)[:, :, None], some, np.nan)


def _agreement(held: Candidates) -> tuple[Alike, ...]:
    rho, tau = scorers.correlations(held.scores)
    ranks, pairs = scorers.averaged(rho), scorers.averaged(tau)
    there, names = np.isfinite(rho).sum(0), held.names
    return tuple(
        Alike(names[i], names[j], _at(ranks, i, j), _at(pairs, i, j), int(there[i, j]))
        for i, j in combinations(range(len(names)), 2)
    )


def _at(ends: tuple[np.ndarray, np.ndarray, np.ndarray], row: int, column: int) -> Interval:
    return Interval(*(float(one[row, column]) for one in ends))


def _panel(count: int, verifiers: int) -> np.ndarray:
    """(verifiers, scorers): who judges a verifier's pick, and how much they count: judges, else the other verifiers."""
    found = np.zeros((verifiers, count))
    for row in range(verifiers):
        others = _others(count, verifiers, row)
        found[row] = math.nan if not others else 0.0
        found[row, others] = 1 / max(1, len(others))
    return found


def _others(count: int, verifiers: int, *pickers: int) -> list[int]:
    if count > verifiers:
        return list(range(verifiers, count))
    return [k for k in range(count) if k not in pickers]


def _against(held: Candidates, verifiers: int) -> list[Against]:
    """Each two verifiers by those who are neither; none where nobody is."""
    names, scores = held.names, held.scores
    _, spread = scorers.spreads(scores)
    worth = scorers.judged(scores, [scores[:, :, k] for k in range(verifiers)], scores.shape[1])
    apart = scorers.in_deviations(worth - scorers.spreads(scores)[0][:, None], spread)
    pairs = [(i, j) for i, j in combinations(range(verifiers), 2) if _others(len(names), verifiers, i, j)]
    if not pairs:
        return []
    by = [_others(len(names), verifiers, i, j) for i, j in pairs]
    columns = [np.stack([apart[:, pair[side], some].mean(1) for pair, some in zip(pairs, by, strict=True)], 1)
               for side in (0, 1)]  # fmt: skip
    means, low, high = paired_intervals(*columns)
    if len(scores) < 2:
        low = high = np.full(len(pairs), math.nan)
    p = holm(sign_flip(columns[0] - columns[1]))
    return [
        Against(
            names[i], names[j], tuple(names[k] for k in by[n]),
            Interval(float(means[n]), float(low[n]), float(high[n])), float(p[n]), bool(p[n] < LEVEL),
        )
        for n, (i, j) in enumerate(pairs)
    ]  # fmt: skip


def _picks(held: Candidates, pickers: Mapping[str, np.ndarray]) -> tuple[Picks, ...]:
    """The candidates that somebody picks; of equal scores the first."""
    found: list[tuple[float, Picks]] = []
    _, spread = scorers.spreads(held.scores)
    for place, (prompt, rows) in enumerate(zip(held.prompts, held.rows, strict=True)):
        by: dict[int, list[str]] = {}
        for name, values in pickers.items():
            if np.isfinite(values[place]).any():
                by.setdefault(int(np.nanargmax(values[place])), []).append(name)
        picks = []
        for number, who in by.items():
            one, scores = rows[number], dict(zip(held.names, map(float, held.scores[place, number]), strict=True))
            picks.append(Pick(one["id"], one["seed"], one["file"], scores, tuple(who)))
        wide = np.where(spread[place] > 0, spread[place], np.inf)
        apart = np.ptp(held.scores[place, list(by)] / wide, axis=0).max() if by else 0.0
        found.append((float(apart), Picks(prompt.text, prompt.number, tuple(picks))))
    found.sort(key=lambda one: -one[0])
    return tuple(picks for _, picks in found)
