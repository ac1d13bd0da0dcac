"""Claims on models, schedules and self-supervised verifiers: 6, 8 and 9."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from _evidence.claims_by_pools import MEASURE
from _evidence.figures import Check, Section, check, mean_of, picked, section, shown, stated, table
from _evidence.kept import Held, Lacking, Point, Pool
from noisewright.measures.bootstrap import DRAWN_AT_ONCE

LARGES = (1, 4, 16)
"""Images of the larger model whose cost the smaller one may spend."""

RESAMPLES = 2000


# 6: a smaller model with search against a larger one without


def smaller_model(held: Held) -> tuple[list[str], list[Check]]:
    small, large = held.pool("small-10"), held.pool("shapes-10")
    numbers = [n for n in small.numbers.tolist() if n in large.numbers]
    small, large = small.only(numbers), large.only(numbers)
    cost = held.table("cost")
    blocks, checks = [], []
    for unit in ("FLOPs", "seconds"):
        each = {name: float(np.median(cost.at(model=name).of(unit))) for name in ("shapes", "shapes-small")}
        ratio = each["shapes"] / each["shapes-small"]
        rows = []
        for count in LARGES:
            fewer = max(2, int(count * ratio))
            if fewer > small.count:
                continue
            with_search = picked(small, "shapes-clip", fewer, ["success"])[:, 0]
            other = picked(large, "shapes-clip", count, ["success"])[:, 0]
            share = fewer / ratio / count
            name = "one plain image" if count == 1 else f"best of {count}"
            rows.append([name, f"best of {fewer}", f"{share:.2f}", mean_of(other, 100), mean_of(with_search, 100),
                         mean_of(with_search - other, 100, sign=True)])  # fmt: skip
            if count == 1:
                checks.append(check(
                    f"at equal {unit}, the small model's best of {fewer} is better than a plain image of the large one",
                    with_search - other, above=0, scale=100, unit="points",
                ))  # fmt: skip
        head = ["large", "small", f"{unit} of small / large", "success of large", "of small", "difference, 95 %"]
        about = f"An image of the large model costs {ratio:.2f} of the small one in {unit}; {len(numbers)} prompts:"
        blocks.append(f"{about}\n\n{table(head, rows)}")
    return blocks, checks


def claim_6(held: Held) -> Section:
    source = (
        "Ma et al. 2025, LLM grader: FLUX without search (compute 1) 84.29; PixArt-Sigma without search (.06) 84.67, "
        "with search (.09) 85.62, (2.59) 86.95. ImageNet: SiT-L with search is better than SiT-XL at 2e4 to 1e5 GFLOPs "
        "(FID 4.3 against 4.6 at 1e5), SiT-XL after 3e5; SiT-B never."
    )
    title = "A smaller model with search is better than a larger one without, at equal compute"
    return section(6, title, source, [smaller_model], [f"{MEASURE} 6"], held)


# 8: VRG


def vrg_distances(held: Held) -> tuple[list[str], list[Check]]:
    known = held.table("vrg-distance")
    rows, checks = [], []
    for ground in sorted({one.labels["model"] for one in known.points}):
        for start in ("logsnr", "quadratic", "uniform"):
            cells = [one for one in known.points if (one.labels["model"], one.labels["start"]) == (ground, start)]
            if not cells:
                continue
            ends = [(float(one.of("low")[0]), float(one.of("high")[0])) for one in cells]
            nearer, farther = sum(high < 0 for _, high in ends), sum(low > 0 for low, _ in ends)
            relative = np.array([float(one.of("change")[0] / one.of("before")[0]) for one in cells])
            rows.append([ground, start, str(len(cells)), str(nearer), str(farther), str(len(cells) - nearer - farther),
                         mean_of(relative, 100, sign=True)])  # fmt: skip
            text = f"{ground}, from {start}: VRG lowers the distance, in % of it (mean over solvers and steps)"
            checks.append(check(text, relative, below=0, scale=100, unit="%"))
    head = ["model", "start", "cells", "nearer", "farther", "undecided", "mean change, %, 95 % over cells"]
    about = "Distance to the 200-step image of the same noise, after VRG against before, by solver and number of steps:"
    return [f"{about}\n\n{table(head, rows)}"], checks


def vrg_fids(held: Held) -> tuple[list[str], list[Check]]:
    known = held.table("vrg-fid")
    blocks = []
    for key in dict.fromkeys((one.labels["model"], one.labels["sampling"]) for one in known.points):
        some = [one for one in known.points if (one.labels["model"], one.labels["sampling"]) == key]
        some.sort(key=lambda one: float(one.of("fid")[0]))
        rows = [[one.labels["schedule"], shown(*(float(one.of(n)[0]) for n in ("fid", "low", "high")), 3, sign=False)]
                for one in some]  # fmt: skip
        about = f"FID, {', '.join(key)}, features of {some[0].labels['features']}:"
        blocks.append(f"{about}\n\n{table(['schedule', 'FID, 95 %'], rows)}")
    return blocks, []


def vrg_changes(ground: str, held: Held) -> tuple[list[str], list[Check]]:
    """The FID's change on one ground against the start, paired by noises: where both have their features still."""
    checks = []
    for one in held.table("vrg-fid").points:
        name, about = one.labels["schedule"], f"{one.labels['model']}, {one.labels['sampling']}"
        if name.endswith(", vrg") and one.labels["model"] == ground:
            if "change" not in one.columns:
                raise Lacking(f"the FID's change by {name} on the same noises ({about})")
            change = [float(one.of(column)[0]) for column in ("change", "change low", "change high")]
            text = f"{about}: the FID of {name} is below that of its start"
            checks.append(stated(text, *change, int(one.of("images")[0]), below=0.0, digits=3))
    return [], checks


def tuned_on_fid(held: Held) -> tuple[list[str], list[Check]]:
    """What else a schedule may be tuned on; reported, and no part of the claim."""
    known = held.table("vrg-search")
    blocks = []
    for ground in dict.fromkeys(one.labels["model"] for one in known.points):
        some = [one for one in known.points if one.labels["model"] == ground]
        rows = [[one.labels["schedule"], _with_ends(one, "distance", 4), _with_ends(one, "fid", 3)] for one in some]
        about = f"`search` tuned on the FID, or on both, {ground}, ddim, 5 steps, on noises it was not tuned on:"
        blocks.append(f"{about}\n\n{table(['schedule', 'distance, 95 %', 'FID, 95 %'], rows)}")
    return blocks, []


def _with_ends(point: Point, name: str, digits: int) -> str:
    return shown(*(float(point.of(f"{name}{end}")[0]) for end in ("", " low", " high")), digits, sign=False)


def claim_8(held: Held) -> Section:
    source = (
        "Xu, Liu and Kong 2025 (2510.21792), DDIM, CIFAR-10, 50k images, FID before and after VRG: 10 steps logSNR "
        "21.1 to 15.2, quadratic 14.0 to 11.9, uniform 16.8 to 11.1; 20 steps 9.6 to 7.4, 7.1 to 6.2, 8.3 to 6.1: "
        "lower from every start, with every solver, at every number of steps, once gamma is chosen."
    )
    title = "VRG's levels are better than those it starts from, whatever the start and the solver"
    commands = [f"{MEASURE} 8", "python benchmarks/schedules.py ... (see docs/schedule-figures.md)"]
    changes = [partial(vrg_changes, ground) for ground in ("cifar10", "shapes")]
    return section(8, title, source, [vrg_distances, vrg_fids, *changes, tuned_on_fid], commands, held)


# 9: self-supervised verifiers


def correlation(one: np.ndarray, other: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Pearson's r within groups, with an interval that resamples slots, whichever their group.

    Args:
        one, other: (slots, candidates).
        groups: (slots,) the class of each slot: its mean is taken off, so that classes do not count.
    """
    first, second = _centred(one, groups), _centred(other, groups)
    sums = np.stack([(first * second).sum(1), (first**2).sum(1), (second**2).sum(1)], 1)
    generator = np.random.default_rng(0)
    at_once = max(1, DRAWN_AT_ONCE // len(sums))
    drawn = sums[generator.integers(0, len(sums), (min(RESAMPLES, at_once), len(sums)))].sum(1)
    found = drawn[:, 0] / np.sqrt(drawn[:, 1] * drawn[:, 2])
    total = sums.sum(0)
    low, high = np.percentile(found, [2.5, 97.5])
    return float(total[0] / np.sqrt(total[1] * total[2])), float(low), float(high)


def _centred(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    found = np.array(values, dtype=np.float64)
    for group in np.unique(groups):
        found[groups == group] -= found[groups == group].mean()
    return found


def self_supervised(held: Held) -> tuple[list[str], list[Check]]:
    pool = held.pool("cifar10-10")
    classes = (pool.numbers - 1) % 10
    checks, rows = [], []
    for network in ("judge", "classifier"):
        similar = pool.of(f"{network} similarity")
        for other in ("judge", "classifier"):
            r, low, high = correlation(similar, pool.of(f"{other} logit"), classes)
            rows.append([f"similarity by the {network}", f"logit by the {other}", shown(r, low, high, 2)])
            if network == other:
                text = f"self-similarity by the {network} goes with its own logit, within classes"
                checks.append(stated(text, r, low, high, len(classes), above=0.0, digits=2))
    blocks = [f"{pool.count} candidates of {len(classes)} slots, classes in turn; Pearson's r within classes:\n\n"
              + table(["self-supervised", "supervised", "r, 95 %"], rows)]  # fmt: skip
    text, more = _what_it_buys(pool)
    return [*blocks, text], [*checks, *more]


def _what_it_buys(pool: Pool) -> tuple[str, list[Check]]:
    right = "classifier right"
    rows = [["any one", "1", mean_of(pool.of(right).mean(1), 100)]]
    found = {}
    for picker in ("judge similarity", "judge logit"):
        for count in (4, 16, 64):
            if count > pool.count:
                raise Lacking(f"{count} candidates a slot of cifar10")
            found[picker, count] = picked(pool, picker, count, [right])[:, 0]
            rows.append([picker, str(count), mean_of(found[picker, count], 100)])
    most = found["judge similarity", 64]
    checks = [
        check("best of 64 by self-similarity shows the class more often than a plain image",
              most - pool.of(right).mean(1), above=0, scale=100, unit="points"),
        check("less than the logit's best of 64", most - found["judge logit", 64], below=0, scale=100, unit="points"),
    ]  # fmt: skip
    text = "The share of picks that a network which did not pick (the classifier) puts into the class asked for, in %:"
    return f"{text}\n\n{table(['picked by', 'of', 'right, 95 %'], rows)}", checks


def claim_9(held: Held) -> Section:
    source = (
        "Ma et al. 2025, ImageNet: the cosine between features of the clean estimate at sigma 0.4 and of the final "
        "image correlates with the classifier's logit, DINO r = .74, CLIP r = .32; random search by it reaches IS 335 "
        "(DINO) and 244 (CLIP) at 13000 NFE, where the logits reach 363 and 260, and nothing does 115. It barely helps "
        "FLUX."
    )
    title = "Self-supervised verifiers stand in for the classifier's logit"
    return section(9, title, source, [self_supervised], [f"{MEASURE} 9"], held)


CLAIMS: tuple[Callable[[Held], Section], ...] = (claim_6, claim_8, claim_9)
