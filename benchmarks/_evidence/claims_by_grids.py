"""Claims that searches decide: 2 (scaling), 3 (over-optimisation), 7 (the class slides), 11 (equal seconds)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from _evidence.claims_by_pools import MEASURE
from _evidence.figures import ENSEMBLE, Check, Section, check, mean_of, picked, section, shown, stated, table
from _evidence.kept import CLIP, EQUAL_BY, ORACLE, RIGHT, Held, Lacking, Point, Pool, Table
from noisewright.measures.paired import holm, paired_intervals, sign_flip

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
POINTS = {"scale": 100.0, "unit": "points"}
LEVEL = 0.05


def success_of(point: Point) -> np.ndarray:
    """Whether the oracle finds the whole scene right, of the best of each prompt."""
    scores = point.of("shapes-oracle")
    return np.where(np.isfinite(scores), (scores >= RIGHT).astype(np.float64), np.nan)


def matched(first: Point, second: Point) -> tuple[np.ndarray, np.ndarray]:
    """The places in two cells of the prompts that both have."""
    one, other = first.of("number").tolist(), second.of("number").tolist()
    both = sorted(set(one) & set(other))
    return np.array([one.index(n) for n in both], int), np.array([other.index(n) for n in both], int)


def named(name: str, point: Point, points: Sequence[Point]) -> str:
    """What a line is called, with how many prompts it is of where others have more."""
    count, most = len(point.of("number")), max(len(one.of("number")) for one in points)
    return name if count == most else f"{name} (of {count} prompts)"


# 2: scaling


def random_scales(held: Held) -> tuple[list[str], list[Check]]:
    blocks, checks = [], []
    for name, picker, judges in (
        ("shapes-10", "shapes-clip", ("success", "shapes-oracle")),
        ("cifar10-long", "classifier logit", ("judge right", "judge logit")),
    ):
        pool = held.pool(name)
        counts = [count for count in COUNTS if count <= pool.count]
        found = {count: picked(pool, picker, count, [picker, *judges]) for count in counts}
        rows = [[str(count), str(count * pool.steps), f"{np.nanmean(values[:, 0]):.2f}", mean_of(values[:, 1], 100),
                 f"{np.nanmean(values[:, 2]):.3f}"] for count, values in found.items()]  # fmt: skip
        about = f"`{pool.about['model']}`, random search by {picker}, {len(pool.numbers)} prompts:"
        head = ["N", "NFE", picker, f"{judges[0]}, %, 95 %", judges[1]]
        blocks.append(f"{about}\n\n{table(head, rows)}")
        most = max(counts)
        if most < 256:
            raise Lacking(f"256 candidates a prompt of {name} (there are {most})")
        where = pool.about["model"]
        checks.append(check(f"{where}: {judges[0]} rises from N = 1 to 16", found[16][:, 1] - found[1][:, 1], above=0,
                            **POINTS))  # fmt: skip
        checks.append(check(f"{where}: the searched score still rises from N = 64 to 256",
                            found[256][:, 0] - found[64][:, 0], above=0, digits=3))  # fmt: skip
    return blocks, checks


def searches_scale(name: str, pool_name: str, picker: str, judge: str) -> Callable[..., tuple[list[str], list[Check]]]:
    """The part of a ground: zero-order search and paths against random search at the NFE that they spent."""

    def part(held: Held) -> tuple[list[str], list[Check]]:
        known, pool = held.table(name), held.pool(pool_name)
        rows, last = [], dict[str, np.ndarray]()
        for point in known.points:
            spent = float(np.nanmean(point.of("nfe")))
            gap = _random_at(pool, point, picker, spent) - point.of(picker)
            last[point.labels["search"]] = gap
            judged = success_of(point) if judge == "success" else point.of(judge)
            rows.append([
                named(point.labels["search"], point, known.points), f"{spent:.0f}",
                f"{np.nanmean(point.of('seconds')):.1f}", f"{np.nanmean(point.of(picker)):.2f}",
                mean_of(judged, 100), mean_of(gap, 1, 2, sign=True),
            ])  # fmt: skip
        head = ["search", "NFE", "s", picker, f"{judge}, %, 95 %", "random's lead in the score at that NFE, 95 %"]
        about = f"`{pool.about['model']}`, {max(len(one.of('number')) for one in known.points)} prompts:"
        checks = [
            check(f"{pool.about['model']}: random is ahead of {one} at its largest NFE, by the searched score",
                  last[one], above=0, digits=2)
            for one in last if one != "random"
        ]  # fmt: skip
        return [f"{about}\n\n{table(head, rows)}"], checks

    return part


def _random_at(pool: Pool, point: Point, picker: str, nfe: float) -> np.ndarray:
    """The score of random search's pick on the prompts of a cell, for as many images as its NFE pay."""
    count = max(1, min(pool.count, int(nfe // pool.steps)))
    return picked(pool.only([int(n) for n in point.of("number")]), picker, count, [picker])[:, 0]


def claim_2(held: Held) -> Section:
    source = (
        "Ma et al. 2025, SiT-XL, IS at 300, 1000, 5000, 13000 NFE: random by DINO 172, 302, 349, 363; zero-order (N = "
        "2) 126, 174, 248, 284; paths 270 at 23000. FLUX, DrawBench, 2880 NFE: in every row random is at least as good "
        "as zero-order and paths on the score that is searched for and by the grader."
    )
    title = "Scores rise with compute, and random search is ahead of zero-order and paths at equal NFE"
    parts = [
        random_scales, searches_scale("scaling", "shapes-10", "shapes-clip", "success"),
        searches_scale("scaling-cifar10", "cifar10-long", "classifier logit", "judge right"),
    ]  # fmt: skip
    return section(2, title, source, parts, [f"{MEASURE} 2"], held)


# 3: over-optimisation


def over_optimised(held: Held) -> tuple[list[str], list[Check]]:
    pool = held.pool("shapes-10")
    names = [*ENSEMBLE, "success"]
    counts = [count for count in (1, 4, 16, 64, 256) if count <= pool.count]
    deviations = np.stack([pool.of(name).std(1) for name in ENSEMBLE], 1)
    rows, found = [], {}
    for picker in ENSEMBLE:
        plain = picked(pool, picker, 1, names)
        for count in counts[1:]:
            gains = picked(pool, picker, count, names) - plain
            found[picker, count] = gains
            in_sd = gains[:, :3] / np.where(deviations > 0, deviations, np.nan)
            rows.append([picker, str(count), *(f"{np.nanmean(in_sd[:, k]):+.2f}" for k in range(3)),
                         mean_of(gains[:, 3], 100, sign=True)])  # fmt: skip
    head = ["picked by", "of", *ENSEMBLE, "success, points, 95 %"]
    about = f"Gains over a plain image, scores in standard deviations within the prompt; {len(pool.numbers)} prompts:"
    most = max(counts)
    if most < 64:
        raise Lacking(f"64 candidates a prompt (there are {most})")
    gains = found["shapes-aesthetic", most]
    deviation = np.nanmean(deviations[:, 2])
    checks = [
        check(f"best of {most} by shapes-aesthetic raises that score (in sd)", gains[:, 2] / deviation, above=0,
              digits=2),
        check("and lowers shapes-clip, held out", gains[:, 0], below=0, digits=2),
        check("and lowers success, held out", gains[:, 3], below=0, **POINTS),
    ]  # fmt: skip
    return [f"{about}\n\n{table(head, rows)}"], checks


def recall_falls(held: Held) -> tuple[list[str], list[Check]]:
    """Columns of these points: the figure of the whole set first, then those of resampled slots, paired over points."""
    known = held.table("recall")
    rows = []
    for one in known.points:
        cells = [_set_figure(one.of(name)) for name in ("fid", "precision", "recall", "judge")]
        rows.append([one.labels["search"], one.labels["verifier"], one.labels["images"], *cells])
    checks = []
    plain = known.at(search="random", images="1")
    for verifier in ("classifier probability", "judge logit"):
        point = known.at(search="random", verifier=verifier, images="64")
        checks.append(_set_check(f"recall falls from a plain image to random search's best of 64 by {verifier}",
                                 point, plain, below=0.0))  # fmt: skip
        local = known.at(search="zero-order", verifier=verifier, images="64")
        checks.append(_set_check(f"it is higher under zero-order search at as many images, by {verifier}", local, point,
                                 above=0.0))  # fmt: skip
    head = ["search", "verifier", "images", "FID", "precision", "recall", "judge right"]
    about = f"`noisewright/cifar10`, guidance 1, {known.about['slots']} slots a set, classes in turn, 95 % over slots:"
    return [f"{about}\n\n{table(head, rows)}"], checks


def _set_figure(values: np.ndarray) -> str:
    low, high = _centred_ends(values)
    return shown(float(values[0]), low, high, 3, sign=False)


def _centred_ends(values: np.ndarray) -> tuple[float, float]:
    """The interval of a set's figure: resampled sets hold images twice, so their mean is off; their spread counts."""
    low, high = np.percentile(values[1:], [2.5, 97.5]) - values[1:].mean()
    return float(values[0] + low), float(values[0] + high)


def _set_check(text: str, first: Point, second: Point, **side: float) -> Check:
    difference = first.of("recall") - second.of("recall")
    low, high = _centred_ends(difference)
    return stated(text, float(difference[0]), low, high, len(difference) - 1, digits=3, **side)


def claim_3(held: Held) -> Section:
    source = (
        "Ma et al. 2025, SiT-XL, random search by DINO's logit: precision .672 to .867, recall .678 to .437 at 13000 "
        "NFE, and FID gets worse past about 400; zero-order and paths are local, hack less and rise slower (FID 2.6 at "
        "5000 NFE where random has 6.9). FLUX selected by Aesthetic: that score +10.6 %, CLIPScore -2.2 %."
    )
    title = "The optimised score goes up and what is held out goes down; recall falls, less under local searches"
    return section(3, title, source, [over_optimised, recall_falls], [f"{MEASURE} 3 --data CIFAR10.parquet"], held)


# 7: the class slides

SLIDES = ("random noise", "random, best of N", "ensemble + zero-order", "ensemble + paths", "ensemble + both")
COLUMNS = ("shapes-aesthetic", "shapes-clip", "shapes-reward", "vlm")


def class_slides(held: Held) -> tuple[list[str], list[Check]]:
    known = held.table("class-slides")
    found = {name: known.at(row=name) for name in SLIDES}
    rows = [
        [named(name, one, list(found.values())), f"{np.nanmean(one.of('nfe')):.0f}", *(
            mean_of(one.of(column), 10 if column == "vlm" else 1, 1 if column == "vlm" else 2) for column in COLUMNS
        )]
        for name, one in found.items()
    ]  # fmt: skip
    head = ["row", "NFE", "Aesthetic", "CLIPScore", "ImageReward", "VLM grade"]
    about = (f"{known.about['steps']} steps, {len(found[SLIDES[0]].of('number'))} prompts; verifiers of the same "
             "classes, bundled; the grade (times 10) by an OpenAI-compatible server around the oracle:")  # fmt: skip
    checks = []
    both = found["ensemble + both"]
    for name in SLIDES[:-1]:
        one, other = matched(both, found[name])
        lead = both.of("vlm")[one] - found[name].of("vlm")[other]
        checks.append(check(f"the grade of both together is above that of {name}", lead, above=0, scale=10, digits=2))
    return [f"{about}\n\n{table(head, rows)}"], checks


def claim_7(held: Held) -> Section:
    source = (
        "Class slides (K. Deng, SDXL, 30 steps), Aesthetic, CLIPScore, ImageReward, LLM grade: random 5.38/.64/.91/84; "
        "ensemble + zero-order 5.72/.69/.96/87; + paths 5.99/.70/.95/86; + both 6.31/.82/1.22/89. Of four prompts, "
        "without intervals; where the numbers are from is not known."
    )
    title = "Zero-order search and paths together are better than either, and than random noise"
    return section(7, title, source, [class_slides], [f"{MEASURE} 7"], held)


# 11: equal seconds

BASE = "random"
LEAD = 5.0
"""Points of success: what another search has to lead by."""

ONE_TRAJECTORY, MADE_BY = ", one trajectory", "a9f736c"
"""Rows of searches that spent all of a budget on one trajectory, and the commit that made them."""


def equal_seconds(held: Held) -> tuple[list[str], list[Check]]:
    known = held.table("equal-seconds")
    blocks, leads = _equal(known, CLIP)
    checks = []
    for budget, some in leads.items():
        name, (lead, _) = max(some.items(), key=lambda one: one[1][0].mean)
        text = f"{budget}: the best other search, {name}, does not lead by 5 points or more"
        checks.append(replace(lead, text=text))
    if any(one.labels["search"].endswith(ONE_TRAJECTORY) for one in known.points):
        text = f"Rows of one trajectory are by commit {MADE_BY}, whose `svdd` and `rbf` spent all of a budget on it."
        blocks = [text, *blocks]
    return blocks, checks


def equal_by_others(held: Held) -> tuple[list[str], list[Check]]:
    """The same with other verifiers than the claim is judged by, where that was measured: with the oracle, the verifier
    is not what is short.
    """
    blocks = []
    for file, verifier in EQUAL_BY.items():
        if file == "equal-seconds" or not held.has(file):
            continue
        ends = "; each search ends with its first success" if verifier == ORACLE else ""
        blocks.append(f"**Searched by {verifier}**{ends}:")
        blocks += _equal(held.table(file), verifier)[0]
    return blocks, []


def _equal(known: Table, verifier: str) -> tuple[list[str], dict[str, dict[str, tuple[Check, float]]]]:
    """Tables of equal seconds, a budget each and that of the defaults; and each search's lead, by budget."""
    blocks, best, found = [], [], {}
    head = ["search", "success, 95 %", "lead over random, points, 95 %", "p, Holm", "score", "images", "NFE", "s"]
    for budget in dict.fromkeys(one.labels["budget"] for one in known.points):
        lines, leads = _at_budget(known, budget, verifier)
        blocks.append(f"{budget}, {_prompts(known, budget)} prompts:\n\n{table(head, [line for _, line in lines])}")
        surely = [(lead.mean, name) for name, (lead, p) in leads.items() if lead.mean > 0 and p < LEVEL]
        best.append([budget, max(surely)[1] if surely else BASE])
        if not leads:
            raise Lacking(f"another search than random at {budget}")
        found[budget] = leads
    about = ("**The recommended default by budget**: the search whose lead in success over random is largest among "
             "those whose lead stands after Holm's correction, else random:")  # fmt: skip
    return [*blocks, f"{about}\n\n{table(['seconds of', 'default'], best)}"], found


def _prompts(known: Table, budget: str) -> int:
    return max(len(one.of("number")) for one in known.points if one.labels["budget"] == budget)


def _at_budget(
    known: Table, budget: str, verifier: str
) -> tuple[list[tuple[str, list[str]]], dict[str, tuple[Check, float]]]:
    """The lines of a budget's table, and each search's lead over random with its p."""
    base = known.at(search=BASE, budget=budget)
    others = [one for one in known.points if one.labels["budget"] == budget and one.labels["search"] != BASE]
    leads = []
    for one in others:
        first, second = matched(one, base)
        leads.append(success_of(one)[first] - success_of(base)[second])
    p = holm(np.array([float(sign_flip(lead[:, None])[0]) for lead in leads]))
    found: dict[str, tuple[Check, float]] = {}
    for one, lead, value in zip(others, leads, p, strict=True):
        mean, low, high = (float(k[0]) for k in paired_intervals(100 * lead[:, None], np.zeros((len(lead), 1))))
        name = one.labels["search"]
        found[name] = stated(name, mean, low, high, len(lead), below=LEAD, unit="points"), float(value)
    lines = []
    for one in [base, *others]:
        name = one.labels["search"]
        lead = found.get(name)
        against = ["-", "-"] if lead is None else [shown(lead[0].mean, lead[0].low, lead[0].high), f"{lead[1]:.3f}"]
        costs = [f"{np.nanmean(one.of(column)):.{digits}f}" for column, digits in
                 ((verifier, 2), ("images", 0), ("nfe", 0), ("seconds", 1))]  # fmt: skip
        lines.append((name, [named(name, one, [base, *others]), mean_of(success_of(one), 100), *against, *costs]))
    return lines, found


def claim_11(held: Held) -> Section:
    source = (
        "Ma et al. 2025, FLUX: random is at least as good as zero-order and paths at equal NFE. Follow-ups agree that "
        "best of N is strong, that half-denoised scores mislead, and that compute is saved by early pruning done "
        "gently (halving 1.2 to 1.5 times for ImageReward, 1.0 to 1.2 for HPSv2 and PickScore)."
    )
    title = "At equal seconds no search is ahead of best-of-N by 5 points of success or more"
    return section(11, title, source, [equal_seconds, equal_by_others], [f"{MEASURE} 11 (on a quiet machine)"], held)


CLAIMS: Sequence[Callable[[Held], Section]] = (claim_2, claim_3, claim_7, claim_11)
