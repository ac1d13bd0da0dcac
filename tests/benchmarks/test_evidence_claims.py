"""The verdict on each claim of the evidence, on synthetic rows, both ways."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from _evidence import claims_by_grids, claims_by_model, claims_by_pools
from _evidence.figures import DOES_NOT, HOLDS, LARGE, NO, YES, picked
from _evidence.kept import Pool, Table
from evidence_rows import ABOUT, NAMES, PROMPTS, held, point, pool, rng


def answers(section):
    return [one.answer for one in section.checks]


# The claims, both ways


def of_steps(rates, skill=(1.0, 1.0, 1.0)):
    counts = {5: 128, 10: 64, 25: 64, 50: 64}
    return {f"shapes-{s}": pool(rates[s], count=counts[s], steps=s, skill=skill, seed=s) for s in counts}


def test_1_steps_plateau_and_search_goes_beyond(tmp_path):
    found = claims_by_pools.claim_1(held(tmp_path, of_steps({5: 0.3, 10: 0.5, 25: 0.55, 50: 0.55}, (3, 3, 3))))
    assert found.verdict == HOLDS
    assert "640 NFE" in found.blocks[1]
    assert "**" in found.blocks[1]


def test_1_does_not_hold_where_steps_go_on(tmp_path):
    found = claims_by_pools.claim_1(held(tmp_path, of_steps({5: 0.2, 10: 0.3, 25: 0.5, 50: 0.9}, (0, 0, 0))))
    assert found.verdict == DOES_NOT
    assert answers(found)[:2] == [YES, NO]


def scaled(tmp_path, lead, rate=0.3):
    """A pool in which random search rises, and searches that lead by so much at the end."""
    shapes = pool(rate, count=256, skill=(2, 2, 2))
    columns = [f"{n} {r}" for n in ("classifier", "judge") for r in ("logit", "probability", "right", "similarity")]
    draw = rng(3)
    right = draw.random((PROMPTS, 256)) < rate
    seen = [right + (0 if "right" in name else draw.normal(0, 0.3, right.shape)) for name in columns]
    about = {**ABOUT, "model": "noisewright/cifar10"}
    classes = Pool(tuple(columns), shapes.numbers, np.stack(seen, 2).astype(float), about)
    tables = {}
    for name, one, picker in (("scaling", shapes, "shapes-clip"), ("scaling-cifar10", classes, "classifier logit")):
        best = picked(one, picker, 64, [picker])[:, 0]
        more = {"shapes-oracle": np.ones(PROMPTS)} if name == "scaling" else {"judge right": np.ones(PROMPTS)}
        tables[name] = Table({}, tuple(
            point({"search": search, "nfe": "640"}, number=one.numbers, nfe=[640] * PROMPTS, seconds=[6] * PROMPTS,
                  **{picker: best + lead}, **more)
            for search in ("zero-order, N = 2", "paths, M = 4")
        ))  # fmt: skip
    return held(tmp_path, {"shapes-10": shapes, "cifar10-long": classes}, tables)


def test_2_random_is_ahead(tmp_path):
    found = claims_by_grids.claim_2(scaled(tmp_path, -0.5))
    assert (found.verdict, found.missing) == (HOLDS, ())


def test_2_random_is_behind(tmp_path):
    found = claims_by_grids.claim_2(scaled(tmp_path, 0.5))
    assert found.verdict == DOES_NOT
    assert answers(found)[:4] == [YES] * 4


def recalls(fall, local):
    """Recall of sets: a plain one, random search's and zero-order search's."""
    noise = rng(1).normal(0, 0.005, 61)

    def one(search, verifier, images, recall):
        values = {name: recall + noise for name in ("fid", "precision", "recall", "judge")}
        return point({"search": search, "verifier": verifier, "images": images}, **values)

    points = [one("random", "any one", "1", 0.6)]
    for verifier in ("classifier probability", "judge logit"):
        points += [one("random", verifier, "64", 0.6 - fall), one("zero-order", verifier, "64", 0.6 - fall + local)]
    return Table({"slots": 320}, tuple(points))


def test_3_over_optimisation(tmp_path):
    pools = {"shapes-10": pool(0.4, skill=(1, 1, -2))}
    assert claims_by_grids.claim_3(held(tmp_path, pools, {"recall": recalls(0.2, 0.1)})).verdict == HOLDS


def test_3_does_not_hold_where_recall_stays_and_the_held_out_rises(tmp_path):
    pools = {"shapes-10": pool(0.4, skill=(1, 1, 2))}
    found = claims_by_grids.claim_3(held(tmp_path, pools, {"recall": recalls(-0.1, -0.1)}))
    assert answers(found) == [YES, NO, NO, NO, NO, NO, NO]
    assert found.verdict == DOES_NOT


def test_4_ensembles(tmp_path):
    some = pool(0.03, count=96, prompts=200, skill=(0.7, 1.1, 0.7))
    assert claims_by_pools.claim_4(held(tmp_path, {"shapes-10": some})).verdict == HOLDS


def test_4_does_not_hold_where_one_verifier_sees_all(tmp_path):
    some = pool(0.1, count=96, prompts=100, skill=(9, 0, -1))
    found = claims_by_pools.claim_4(held(tmp_path, {"shapes-10": some}))
    assert answers(found)[0] == NO
    assert found.verdict == DOES_NOT


def along(rates):
    """Pools at all numbers of steps in which a noise that is right with few steps is so with more."""
    draw = rng(5)
    luck, seen = draw.random((100, 64)), draw.normal(0, 0.3, (100, 64))
    found = {}
    for steps, rate in rates.items():
        right = luck < rate
        scores = np.stack([np.where(right, 1.0, 0.5), right + seen, right + seen, right + seen], 2)
        found[f"shapes-{steps}"] = Pool(NAMES, np.arange(1, 101), scores, {**ABOUT, "steps": steps})
    return found


def test_5_three_axes(tmp_path):
    some = along({5: 0.09, 10: 0.05, 25: 0.02, 50: 0.02})
    found = claims_by_pools.claim_5(held(tmp_path, some))
    assert answers(found)[0] == YES
    assert answers(found)[2:] == [YES, YES]
    some = along({5: 0.3, 10: 0.3, 25: 0.3, 50: 0.3})
    some["shapes-5"] = pool(0.3, prompts=100, skill=(-3, 0, 0), seed=5)
    assert answers(claims_by_pools.claim_5(held(tmp_path, some)))[1:3] == [YES, NO]


def costs(ratio):
    one = {"seconds": [0.1] * 9, "FLOPs": [8e9] * 9}
    small = {"seconds": [0.1 / ratio] * 9, "FLOPs": [8e9 / ratio] * 9}
    return Table({}, (point({"model": "shapes"}, **one), point({"model": "shapes-small"}, **small)))


@pytest.mark.parametrize(("rate", "said"), [(0.35, HOLDS), (0.05, DOES_NOT)])
def test_6_a_smaller_model(tmp_path, rate, said):
    pools = {"shapes-10": pool(0.4), "small-10": pool(rate, skill=(3, 3, 3), seed=2)}
    found = claims_by_model.claim_6(held(tmp_path, pools, {"cost": costs(4)}))
    assert found.verdict == said
    assert "best of 4" in found.blocks[0]


def slides(grades):
    draw = rng(7)
    points = [
        point({"row": row}, number=range(1, 51), nfe=[480] * 50,
              **{column: grade + draw.normal(0, 0.3, 50) for column in claims_by_grids.COLUMNS})
        for row, grade in zip(claims_by_grids.SLIDES, grades, strict=True)
    ]  # fmt: skip
    return Table({"steps": 30}, tuple(points))


@pytest.mark.parametrize(
    ("grades", "said"), [((6, 7, 7, 7, 8), HOLDS), ((6, 9, 7, 7, 8), DOES_NOT), ((6, 8, 7, 7, 8), LARGE)]
)
def test_7_the_class_slides(tmp_path, grades, said):
    assert claims_by_grids.claim_7(held(tmp_path, tables={"class-slides": slides(grades)})).verdict == said


def vrg(change, fid):
    cells = [
        point({"model": "shapes", "solver": solver, "steps": str(steps), "start": start}, before=[0.1],
              change=[change * (1 + steps / 100)], low=[change - 0.001], high=[change + 0.001])
        for solver in ("ddim", "deis-2") for steps in (5, 10) for start in ("logsnr", "quadratic", "uniform")
    ]  # fmt: skip
    known = {"fid": [8.0], "low": [7.5], "high": [8.5]}
    more = {"images": [5000], "change": [fid], "change low": [fid - 0.2], "change high": [fid + 0.2]}
    about = {"model": "shapes", "sampling": "ddim, 5 steps", "features": "a network"}
    start, after = ({**about, "schedule": name} for name in ("uniform", "uniform, vrg"))
    fids = (point(start, **known), point(after, **known, **more))
    columns = {f"{name}{end}": [0.1] for name in ("distance", "fid") for end in ("", " low", " high")}
    tuned = Table({}, (point({"model": "shapes", "schedule": "search on both", "features": "a network"}, **columns),))
    return {"vrg-distance": Table({}, tuple(cells)), "vrg-fid": Table({}, fids), "vrg-search": tuned}


@pytest.mark.parametrize(
    ("change", "fid", "said"),
    [(-0.01, -1.0, HOLDS), (0.01, -1.0, DOES_NOT), (-0.01, 1.0, DOES_NOT), (-0.01, 0.1, LARGE)],
)
def test_8_vrg(tmp_path, change, fid, said):
    found = claims_by_model.claim_8(held(tmp_path, tables=vrg(change, fid)))
    assert found.verdict == said
    assert f"| {4 if change < 0 else 0} | {4 if change > 0 else 0} | 0 |" in found.blocks[0]


def of_classes(goes_with):
    draw = rng(11)
    logit = draw.normal(0, 1, (60, 64))
    similar = goes_with * logit + draw.normal(0, 1, logit.shape)
    right = (logit + draw.normal(0, 0.5, logit.shape) > 0.3).astype(float)
    names = [f"{n} {r}" for n in ("classifier", "judge") for r in ("logit", "right", "similarity")]
    scores = np.stack([logit, right, similar] * 2, 2)
    return Pool(tuple(names), np.arange(1, 61), scores, {**ABOUT, "model": "noisewright/cifar10"})


@pytest.mark.parametrize(("goes_with", "said"), [(0.7, HOLDS), (-0.7, DOES_NOT)])
def test_9_self_supervised_verifiers(tmp_path, goes_with, said):
    assert claims_by_model.claim_9(held(tmp_path, {"cifar10-10": of_classes(goes_with)})).verdict == said


def test_9_classes_do_not_make_a_correlation():
    level = np.repeat(np.arange(10.0), 6)[:, None]
    draw = rng(2)
    one, other = (level + draw.normal(0, 1, (60, 64)) for _ in range(2))
    r, low, high = claims_by_model.correlation(one, other, np.repeat(np.arange(10), 6))
    assert low < 0 < high
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.8
    assert abs(r) < 0.1


def test_10_target_stopping(tmp_path):
    pools = {"dev-10": pool(0.4, count=32, skill=(9, 0, 0), seed=1), "shapes-10": pool(0.4, skill=(9, 0, 0))}
    found = claims_by_pools.claim_10(held(tmp_path, pools))
    assert found.verdict == HOLDS
    pools = {"dev-10": pool(0.5, count=32, skill=(9, 0, 0), seed=1), "shapes-10": pool(0.02, skill=(9, 0, 0))}
    assert claims_by_pools.claim_10(held(tmp_path, pools)).verdict == DOES_NOT


def test_10_drawing_until_a_target_counts_what_was_drawn():
    scores, success = np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[0.0, 0.0, 0.0, 1.0]])
    assert claims_by_pools.stopped(scores, success, 0.0)[1].item() == 1
    right, images = claims_by_pools.stopped(scores, success, 4.0)
    assert right.item() == 1
    assert images.item() == pytest.approx(2.5, abs=0.4)
    assert claims_by_pools.stopped(scores, success, 9.0) == (1, 4)


def seconds(rates):
    draw = rng(13)
    points = [
        point({"search": name, "budget": "1 s"}, number=range(1, 101), seconds=[1] * 100, nfe=[80] * 100,
              images=[8] * 100, **{"shapes-clip": [90] * 100, "shapes-oracle": draw.random(100) < rate})
        for name, rate in rates.items()
    ]  # fmt: skip
    return {"equal-seconds": Table({}, tuple(points))}


def test_11_equal_seconds(tmp_path):
    found = claims_by_grids.claim_11(held(tmp_path, tables=seconds({"random": 0.8, "svdd": 0.5, "paths": 0.4})))
    assert found.verdict == HOLDS
    assert "| 1 s | random |" in found.blocks[-1]
    found = claims_by_grids.claim_11(held(tmp_path, tables=seconds({"random": 0.3, "svdd": 0.2, "paths": 0.9})))
    assert found.verdict == DOES_NOT
    assert "| 1 s | paths |" in found.blocks[-1]


def test_11_by_other_verifiers(tmp_path):
    some = seconds({"random": 0.8, "svdd": 0.5})
    (one,) = seconds({"random": 0.3, "paths": 0.9}).values()
    found = claims_by_grids.claim_11(held(tmp_path, tables={**some, "equal-oracle": one}))
    assert found.verdict == HOLDS, "which is by shapes-clip alone"
    assert any("Searched by shapes-oracle" in block for block in found.blocks)
    assert "| 1 s | paths |" in found.blocks[-1]
