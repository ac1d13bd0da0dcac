"""What several verifiers say of the same candidates: how far they agree, who pays for whom, what a choice is worth.

Scores come as one array (prompts, candidates, scorers), higher is better, with NaN where there is no number. What
follows is of each prompt by itself, so that easy and hard prompts, and the units of two verifiers, do not matter; means
and intervals are over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from noisewright.measures.bootstrap import intervals
from noisewright.measures.paired import kendall, means, spearman

SPLITS = 100
"""Random halves of the candidates."""

AT_ONCE = 2**24
"""Numbers of a block: memory does not grow with prompts times candidates squared."""


def complete(scores: np.ndarray) -> np.ndarray:
    """(prompts, candidates, scorers): NaN for all scorers where one has no number, so that all speak of the same."""
    found = np.array(scores, dtype=np.float64)
    found[~np.isfinite(found).all(2)] = np.nan
    return found


# Means and intervals


def averaged(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over prompts (axis 0) with the ends of their 95 % intervals, (...) each.

    What is no number is left out; of one prompt there is no interval.
    """
    flat = values.reshape(len(values), -1)
    low, high = intervals(flat)
    alone = np.isfinite(flat).sum(0) < 2
    ends = [np.where(alone, np.nan, one).reshape(values.shape[1:]) for one in (low, high)]
    return means(flat).reshape(values.shape[1:]), ends[0], ends[1]


# Agreement


def correlations(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spearman's rho and Kendall's tau-b of each two scorers, within each prompt.

    Args:
        scores: (prompts, candidates, scorers), complete.

    Returns:
        Two arrays (prompts, scorers, scorers); NaN where a scorer scores all candidates alike, or there is only one.
    """
    prompts, _, width = scores.shape
    rho, tau = np.full((prompts, width, width), np.nan), np.full((prompts, width, width), np.nan)
    columns = [scores[:, :, k].T for k in range(width)]  # (candidates, prompts)
    for one, other in combinations_with_replacement(range(width), 2):
        for found, measure in ((rho, spearman), (tau, kendall)):
            found[:, one, other] = found[:, other, one] = measure(columns[one], columns[other])
    return rho, tau


# Picks


def chances(chosen: np.ndarray, count: int) -> np.ndarray:
    """How likely each candidate is picked as the best of ``count`` that are drawn of all, without replacement.

    Of a group with equal scores each is as likely: a person would have to toss a coin. With L candidates below and E
    alike (itself among them) of M it is (C(L + E, n) - C(L, n)) / C(M, n) / E.

    Args:
        chosen: (prompts, candidates) scores of who picks; NaN is never drawn.
        count: n.

    Returns:
        (prompts, candidates), each row's sum 1; zeros where a prompt has fewer candidates.
    """
    prompts, most = chosen.shape
    ways = np.array([float(math.comb(m, count)) for m in range(most + 1)])
    found = np.zeros(chosen.shape)
    block = max(1, AT_ONCE // most**2)
    for first in range(0, prompts, block):
        some = chosen[first : first + block]
        below = (some[:, None] < some[:, :, None]).sum(2)
        alike = (some[:, None] == some[:, :, None]).sum(2)
        there = np.isfinite(some)
        whole = ways[there.sum(1)]
        share = (ways[below + alike] - ways[below]) / np.maximum(alike, 1) / np.maximum(whole, 1)[:, None]
        found[first : first + block] = np.where(there & (whole > 0)[:, None], share, 0.0)
    return found


def judged(scores: np.ndarray, pickers: Sequence[np.ndarray], count: int) -> np.ndarray:
    """What the pick of each picker of ``count`` candidates is worth to each scorer.

    The expected score over all subsets of that size, exactly, so that no draw of luck decides.

    Args:
        scores: (prompts, candidates, scorers); a candidate without a number of one of them is none.
        pickers: (prompts, candidates) each: what the candidates are chosen by.
        count: how many candidates there are to choose from.

    Returns:
        (prompts, pickers, scorers). A prompt with fewer complete candidates is judged by all that it has; NaN where it
        has none.
    """
    whole = np.isfinite(scores).all(2)
    values = np.where(np.isfinite(scores), scores, 0.0)
    there = np.minimum(whole.sum(1), count)
    found = np.full((len(scores), len(pickers), scores.shape[2]), np.nan)
    for size in np.unique(there[there > 0]):
        rows = there == size
        for place, one in enumerate(pickers):
            picked = np.where(whole, one, np.nan)[rows]  # what a scorer has no number of is no candidate
            found[rows, place] = np.einsum("pm,pms->ps", chances(picked, int(size)), values[rows])
    return found


def spreads(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each scorer over a prompt's candidates, (prompts, scorers) each."""
    there = np.isfinite(scores)
    count = np.maximum(there.sum(1), 1)
    mean = np.where(there, scores, 0.0).sum(1) / count
    square = np.where(there, scores - mean[:, None], 0.0) ** 2
    empty = ~there.any(1)
    return np.where(empty, np.nan, mean), np.where(empty, np.nan, np.sqrt(square.sum(1) / count))


def in_deviations(gains: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Gains (prompts, pickers, scorers) in a scorer's standard deviation within the prompt; 0 where all are alike."""
    wide = np.broadcast_to(deviations[:, None], gains.shape)
    return np.where(wide > 0, gains / np.where(wide > 0, wide, 1.0), np.where(np.isfinite(gains), 0.0, np.nan))


# Over seeds


@dataclass(frozen=True)
class Stability:
    """What another set of seeds would have said: candidates are cut in two halves at random, :data:`SPLITS` times.

    Attributes:
        prompts: for each scorer Spearman's correlation over prompts of its mean score in one half with that in the
            other, in the mean over splits: whether its order of prompts is more than luck; NaN below three prompts.
        same_best: in what share of the splits both halves name the same picker as the best; by chance it would be one
            of the number of pickers.
        order: Kendall's tau of the pickers' order in one half with that in the other, in the mean over splits.
        best: for each picker, in what share of the halves it is the best one.
    """

    prompts: tuple[float, ...]
    same_best: float
    order: float
    best: tuple[float, ...]


def stability(scores: np.ndarray, pickers: Sequence[int], panel: np.ndarray, *, seed: int = 0) -> Stability:
    """How far the order of pickers, and of prompts, is the same for other seeds.

    Args:
        scores: (prompts, candidates, scorers), complete.
        pickers: which of the scorers are compared as those who pick.
        panel: (pickers, scorers) weights: who counts, and how much, for what a picker's pick is worth, which is in
            standard deviations of the whole prompt. Each row's sum is 1, or NaN where nobody else is there.
        seed: of the splits.
    """
    generator = np.random.default_rng(seed)
    prompts, most, width = scores.shape
    deviations = spreads(scores)[1]
    along: list[np.ndarray] = []
    worth: list[np.ndarray] = []
    for _ in range(SPLITS):
        keys = np.where(np.isfinite(scores).all(2), generator.random((prompts, most)), np.inf)
        half = np.argsort(np.argsort(keys, 1), 1) % 2 == 0  # every second in a random order
        parts = [np.where(one[:, :, None], scores, np.nan) for one in (half, ~half)]
        averages = [spreads(one)[0] for one in parts]
        along.append(spearman(*averages) if prompts > 2 else np.full(width, np.nan))
        worth.append(np.stack([_worth(one, deviations, pickers, panel) for one in parts]))
    every = np.stack(worth)  # (splits, 2, pickers)
    top = every >= np.nanmax(every, 2, keepdims=True) if np.isfinite(every).any() else np.zeros(every.shape, bool)
    share = top / np.maximum(top.sum(2, keepdims=True), 1)
    orders = np.array([_order(one[0], one[1]) for one in every])
    return Stability(
        tuple(float(one) for one in means(np.stack(along))),
        float((share[:, 0] * share[:, 1]).sum(1).mean()) if top.any() else math.nan,
        float(means(orders[:, None])[0]),
        tuple(float(one) for one in share.mean((0, 1))),
    )


def _worth(part: np.ndarray, deviations: np.ndarray, pickers: Sequence[int], panel: np.ndarray) -> np.ndarray:
    """(pickers,): the mean over prompts of what each picker's best of a half is worth to the panel, in deviations."""
    counts = np.isfinite(part).all(2).sum(1)
    worth = np.full((len(part), len(pickers), part.shape[2]), np.nan)
    for count in np.unique(counts[counts > 0]):
        rows = counts == count
        some = part[rows]
        worth[rows] = judged(some, [some[:, :, k] for k in pickers], int(count)) - spreads(some)[0][:, None]
    apart = in_deviations(worth, deviations)
    gains = means(apart.reshape(len(apart), -1)).reshape(apart.shape[1:])
    weighed: np.ndarray = (gains * panel).sum(1)
    return weighed


def _order(one: np.ndarray, other: np.ndarray) -> float:
    """Kendall's tau-b of two rows of numbers."""
    return float(kendall(one[:, None], other[:, None])[0])
