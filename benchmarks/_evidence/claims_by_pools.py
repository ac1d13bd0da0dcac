"""Claims that pools of plain candidates decide: 1 (steps), 4 (ensembles), 5 (axes of compute), 10 (target stopping)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from _evidence.figures import ENSEMBLE, Check, Section, check, mean_of, picked, section, shown, table
from _evidence.kept import Held, Lacking, Pool

STEPS = (5, 10, 25, 50)
NFES = (50, 100, 250, 640)
PLATEAU = 5.0
"""Points of success: what twice the steps may gain at most for steps alone to be called flat."""

ROUNDS = (4, 16, 64)
CAP = 32
"""Images of best-of-32, and the cap of target stopping."""

AS_GOOD = 5.0
"""Points of success that target stopping may lose against best-of-32 and still be called as good."""

ORDERS = 100
MEASURE = "python benchmarks/evidence.py measure --claims"


def shared(held: Held, count: int | None = None) -> dict[int, Pool]:
    """The pools of all numbers of steps, on the prompts that they share."""
    pools = {steps: held.pool(f"shapes-{steps}") for steps in STEPS}
    numbers = [n for n in pools[STEPS[-1]].numbers.tolist() if all(n in one.numbers for one in pools.values())]
    return {steps: one.only(numbers, min(one.count, count or one.count)) for steps, one in pools.items()}


# 1: steps alone, and search


def steps_alone(held: Held) -> tuple[list[str], list[Check]]:
    pools = shared(held)
    plain = {steps: one.of("success").mean(1) for steps, one in pools.items()}
    rows = [[str(steps), str(pools[steps].count), mean_of(values, 100)] for steps, values in plain.items()]
    about = f"Success of a plain image, {len(plain[10])} prompts, the mean over a prompt's candidates:"
    flat = check("50 steps gain less over 25 than 5 points of success", plain[50] - plain[25],
                 below=PLATEAU, scale=100, unit="points")  # fmt: skip
    rise = check("25 steps are better than 5", plain[25] - plain[5], above=0, scale=100, unit="points")
    return [f"{about}\n\n{table(['steps', 'candidates a prompt', 'success, 95 %'], rows)}"], [rise, flat]


def steps_and_search(held: Held) -> tuple[list[str], list[Check]]:
    pools = shared(held)
    blocks, checks = [], []
    for picker in ("shapes-clip", "ensemble"):
        found = {(steps, nfe): _success(one, picker, nfe // steps) for steps, one in pools.items() for nfe in NFES}
        rows = []
        for steps in STEPS:
            cells = [_cell(found, steps, nfe) for nfe in NFES]
            rows.append([str(steps), *cells])
        about = f"Success of {picker}'s pick of as many candidates as the NFE pay (in brackets), the best mix bold:"
        blocks.append(f"{about}\n\n{table(['steps', *(f'{nfe} NFE' for nfe in NFES)], rows)}")
        checks.append(check(
            f"at 50 NFE {picker}'s best of 5 at 10 steps is better than one image of 50 steps",
            found[10, 50] - found[50, 50], above=0, scale=100, unit="points",
        ))  # fmt: skip
        checks.append(check(
            f"at 640 NFE {picker}'s best of 64 at 10 steps goes beyond one image of 50 steps",
            found[10, 640] - found[50, 50], above=0, scale=100, unit="points",
        ))  # fmt: skip
    return blocks, checks


def _success(pool: Pool, picker: str, count: int) -> np.ndarray:
    if not 1 <= count <= pool.count:
        return np.full(len(pool.numbers), np.nan)
    return picked(pool, picker, count, ["success"])[:, 0]


def _cell(found: dict[tuple[int, int], np.ndarray], steps: int, nfe: int) -> str:
    values = found[steps, nfe]
    if not np.isfinite(values).any():
        return "-"
    best = max(np.nanmean(found[other, nfe]) for other in STEPS if np.isfinite(found[other, nfe]).any())
    text = f"{100 * np.nanmean(values):.1f} ({nfe // steps})"
    return f"**{text}**" if np.nanmean(values) == best else text


def claim_1(held: Held) -> Section:
    source = (
        "Ma et al. 2025 (2501.09732): FID of SiT-XL is flat at 8.84 after about 150 NFE, and search goes on to 1.35; "
        "the aesthetic score of FLUX falls from 5.79 to 5.62 between 30 and 240 steps. FlowEvo, SD3.5-M, PickScore: "
        "25, 47, 102 NFE of steps alone .8344, .8343, .8334; best of 4 with 11, 18, 25 steps .8455 at 44, .8524 at 72, "
        ".8536 at 100 NFE."
    )
    title = "More denoising steps alone plateau, search goes beyond"
    return section(1, title, source, [steps_alone, steps_and_search], [f"{MEASURE} 1"], held)


# 4: ensembles

READERS = "shapes-clip + shapes-reward"


def ensembles(held: Held) -> tuple[list[str], list[Check]]:
    pool = held.pool("shapes-10")
    names = [*ENSEMBLE, "success", "shapes-oracle"]
    blocks, checks = [], []
    for count in (16, 96):
        if count > pool.count:
            raise Lacking(f"{count} candidates a prompt")
        found = {one: picked(pool, one, count, names) for one in (*ENSEMBLE, READERS, "ensemble")}
        rows = [["any one", *_means(np.stack([pool.of(name).mean(1) for name in names], 1))]]
        rows += [[one, *_means(values)] for one, values in found.items()]
        head = ["picked by", *ENSEMBLE, "success", "oracle's grade"]
        blocks.append(f"Best of {count}, {len(pool.numbers)} prompts; a column a judge:\n\n{table(head, rows)}")
        blocks.append(_default_verifier(count, found[READERS][:, 3] - found["shapes-clip"][:, 3]))
    success = {one: values[:, 3] for one, values in found.items()}
    for one in ENSEMBLE:
        checks.append(check(f"of 96, the rank ensemble's picks succeed more often than those of {one}",
                            success["ensemble"] - success[one], above=0, scale=100, unit="points"))  # fmt: skip
    for one in ("shapes-clip", "shapes-aesthetic"):
        checks.append(check(f"of 96, shapes-reward (of ImageReward's kind) is better than {one}",
                            success["shapes-reward"] - success[one], above=0, scale=100, unit="points"))  # fmt: skip
    return blocks, checks


def _default_verifier(count: int, lead: np.ndarray) -> str:
    """Whether the two verifiers that read a prompt are better together: which of both is the model card's default."""
    one = check("", lead, above=0, scale=100, unit="points")
    answer = {"yes": "better", "no": "worse", "open": "no other, as far as can be told"}[one.answer]
    by = shown(one.mean, one.low, one.high)
    return (f"{READERS} together against shapes-clip alone, best of {count}: {by} points of success, so together they "
            f"are {answer}.")  # fmt: skip


def _means(values: np.ndarray) -> list[str]:
    """Means of columns: three verifiers, success in %, the grade."""
    scales, digits = (1, 1, 1, 100, 1), (2, 3, 3, 1, 3)
    return [f"{scale * np.nanmean(values[:, k]):.{digit}f}" for k, (scale, digit) in enumerate(
        zip(scales, digits, strict=True))]  # fmt: skip


def claim_4(held: Held) -> Section:
    source = (
        "Ma et al. 2025, FLUX, DrawBench, best of 96, LLM grader: selected by Aesthetic 86.04, CLIPScore 86.15, "
        "ImageReward 87.09, the rank ensemble 88.18 (none 84.29); Aesthetic lowers CLIPScore (.71 to .69). "
        "T2I-CompBench, best of 64: ImageReward ahead in all six categories, the ensemble second."
    )
    title = "ImageReward and the ensemble of verifiers perform best"
    return section(4, title, source, [ensembles], [f"{MEASURE} 4"], held)


# 5: three axes of compute


def axes(held: Held) -> tuple[list[str], list[Check]]:
    most = max(ROUNDS)
    pools = shared(held)
    if any(one.count < most for one in pools.values()):
        raise Lacking(f"{most} candidates a prompt at every number of steps")
    pools = {steps: one.only(one.numbers.tolist(), most) for steps, one in pools.items()}

    def success(drafts: int, final: int, count: int) -> np.ndarray:
        """Candidates drafted with some steps, the pick's noise rendered with others."""
        mixed = Pool(("picker", "shapes-oracle"), pools[10].numbers,
                     np.stack([pools[drafts].of("shapes-clip"), pools[final].of("shapes-oracle")], 2))  # fmt: skip
        return picked(mixed, "picker", count, ["success"])[:, 0]

    rows = []
    for drafts in (5, 10, 25):
        for count in ROUNDS:
            cells = [f"{100 * np.nanmean(success(drafts, final, count)):.1f}" for final in (10, 25, 50)]
            rows.append([str(count), str(drafts), str(count * drafts), *cells])
    head = ["iterations", "NFE an iteration", "NFE of the search", "final 10", "final 25", "final 50"]
    about = (f"Success when shapes-clip picks among drafts and the pick's noise is rendered with 10, 25 or 50 steps; "
             f"{len(pools[10].numbers)} prompts:")  # fmt: skip
    points = {"above": 0.0, "scale": 100.0, "unit": "points"}
    checks = [
        check("more iterations: 64 of 10 NFE are better than 4", success(10, 10, 64) - success(10, 10, 4), **points),
        check("more NFE an iteration: 64 of 25 are better than 64 of 5, rendered with 25",
              success(25, 25, 64) - success(5, 25, 64), **points),
        check("64 iterations of 5 NFE (320) are better than 12 of 25 (300), each rendered with its own steps",
              success(5, 5, 64) - success(25, 25, 12), **points),
        check("a longer final render of the same pick (50 over 25, drafts of 25) gains less than 5 points",
              success(25, 50, 64) - success(25, 25, 64), below=PLATEAU, scale=100, unit="points"),
    ]  # fmt: skip
    return [f"{about}\n\n{table(head, rows)}"], checks


def claim_5(held: Held) -> Section:
    source = (
        "Ma et al. 2025, SiT-XL, guidance 1.5, random search by DINO: with 10, 25, 50, 100, 250 NFE an iteration the "
        "IS ends at 383, 420, 447, 458, 470, after 2.8k, 6.6k, 13k, 26k, 64k NFE: few NFE an iteration rise first, "
        "many end higher; beyond 50 little is gained. The final render has 250 NFE whatever the search had."
    )
    title = "Compute has three axes: iterations, NFE an iteration, NFE of the final render"
    return section(5, title, source, [axes], [f"{MEASURE} 5"], held)


# 10: target stopping


def stopped(scores: np.ndarray, success: np.ndarray, target: float) -> tuple[np.ndarray, np.ndarray]:
    """Success and images of drawing until a score reaches a target, (prompts,) each: the mean over random orders.

    Args:
        scores: (prompts, candidates), as many as the cap.
        success: the same, 0 or 1.
        target: in the scores' unit; where none reaches it, the best is taken and all were drawn.
    """
    generator = np.random.default_rng(0)
    prompts, most = scores.shape
    right, images = np.zeros(prompts), np.zeros(prompts)
    for _ in range(ORDERS):
        order = np.argsort(generator.random((prompts, most)), 1)
        some = np.take_along_axis(scores, order, 1)
        reached = some >= target
        place = np.where(reached.any(1), reached.argmax(1), some.argmax(1))
        taken = np.take_along_axis(order, place[:, None], 1)
        right += np.take_along_axis(success, taken, 1)[:, 0]
        images += np.where(reached.any(1), place + 1, most)
    return right / ORDERS, images / ORDERS


def target_of(dev: Pool) -> float:
    """The lowest score at which stopping succeeds as often as best-of-32 on dev prompts."""
    scores, success = dev.of("shapes-clip"), dev.of("success")
    whole = picked(dev, "shapes-clip", CAP, ["success"])[:, 0].mean()
    for target in np.nanquantile(scores, np.linspace(0.3, 1, 141)):
        if stopped(scores, success, float(target))[0].mean() >= whole:
            return float(target)
    return float(np.nanmax(scores))


def target_stopping(held: Held) -> tuple[list[str], list[Check]]:
    dev = held.pool("dev-10")
    if dev.count < CAP:
        raise Lacking(f"{CAP} candidates of dev prompts")
    dev = dev.only(dev.numbers.tolist(), CAP)
    target = target_of(dev)
    whole = held.pool("shapes-10")
    pool = whole.only(whole.numbers.tolist(), CAP)
    right, images = stopped(pool.of("shapes-clip"), pool.of("success"), target)
    best = picked(pool, "shapes-clip", CAP, ["success"])[:, 0]
    even = picked(pool, "shapes-clip", max(1, round(float(images.mean()))), ["success"])[:, 0]
    rows = [
        ["best of 32", f"{CAP}", mean_of(best, 100)],
        [f"until shapes-clip gives {target:.1f}, at most 32", mean_of(images), mean_of(right, 100)],
        ["best of as many for every prompt", f"{round(float(images.mean()))}", mean_of(even, 100)],
    ]
    about = (f"The target was chosen on {len(dev.numbers)} dev prompts (the lowest at which stopping succeeds as often "
             f"as best of 32), and is reported on {len(pool.numbers)} test prompts:")  # fmt: skip
    checks = [
        check("stopping loses less than 5 points of success against best of 32", right - best, above=-AS_GOOD,
              scale=100, unit="points"),
        check("it makes less than half of the images", images, below=CAP / 2, unit="images"),
    ]  # fmt: skip
    return [f"{about}\n\n{table(['images', 'images a prompt', 'success, 95 %'], rows)}"], checks


def claim_10(held: Held) -> Section:
    source = (
        "Simulated on published scores of FLUX (ImageReward, cap 32): a goal of 1.0 is met in 91.4 % of prompts with "
        "5.3 images (6.1 times fewer), 1.5 in 78.7 % with 10.1, 1.8 in 61.4 % with 16.0: 2 to 6 times fewer images for "
        "the success of best of 32."
    )
    title = "Stopping at a target needs 2 to 6 times fewer images for the success of best-of-32"
    return section(10, title, source, [target_stopping], [f"{MEASURE} 10"], held)


CLAIMS: tuple[Callable[[Held], Section], ...] = (claim_1, claim_4, claim_5, claim_10)
