"""Sizes without bound: whatever number is asked for, a small budget costs little work and memory, or one line."""

import itertools
import tracemalloc

import pytest

import noisewright as nw
from commands import refused
from noisewright import registry
from noisewright.outside.messages import short
from noisewright.run.budget import Budget, parse_budget
from noisewright.run.particle import Particle
from noisewright.search.checks import BLOCK, FEWEST, MOST, widest
from noisewright.testing import Case

HUGE = (10**6, 10**9, 10**18, 10**30, 10**4500)

ARGUMENTS = {
    "random": [{"n"}],
    "zero-order": [{"neighbours"}, {"rounds"}, {"patience"}, {"neighbours", "rounds"}],
    "paths": [{"width"}, {"children"}, {"rounds"}, {"width", "children", "rounds"}],
    "zero-order+paths": [
        {"neighbours"}, {"rounds"}, {"width"}, {"children"}, {"path_rounds"}, {"rounds", "width"},
        {"neighbours", "rounds", "width"},
    ],
    "fk": [{"particles"}],
    "svdd": [{"proposals"}, {"block"}, {"width"}, {"rounds"}, {"proposals", "width"}],
    "rbf": [{"quota"}, {"first"}, {"batch"}, {"block"}, {"rounds"}, {"quota", "batch"}],
    "evolution": [{"population"}, {"elites"}, {"population", "elites"}],
    "halving": [{"n"}, {"pilot"}, {"n", "pilot"}],
    "refine": [{"population"}, {"elites"}, {"generations"}, {"dimensions"}, {"population", "elites"}],
    "gradient": [{"starts"}, {"iterations"}, {"every"}, {"iterations", "every"}, {"starts", "iterations"}],
}  # fmt: skip
"""The whole numbers that each search takes, and some of them together."""

OTHERS = {
    "svdd, plain": ("svdd", {"proposals": 1}, [{"width"}, {"block"}, {"rounds"}]),
    "rbf, plain": ("rbf", {"quota": 1}, [{"first"}, {"batch"}, {"rounds"}]),
    "refine, cmaes": (
        "refine", {"method": "cmaes"}, [{"population"}, {"elites"}, {"generations"}, {"dimensions"}],
    ),
    "zero-order, restart": ("zero-order", {"on_failure": "restart", "patience": 1}, [{"neighbours"}, {"rounds"}]),
    "paths, tiny steps": ("paths", {"up": 0.78, "down": 0.78 + 1e-12}, [{"rounds"}, set()]),
    "paths, one child": ("paths", {"children": 1}, [{"width"}, {"rounds"}]),
}  # fmt: skip

STEP_NOISE = {"fk", "svdd", "rbf"}
PARTICLES = 3 * BLOCK
"""How many a search may make with a small budget, whatever it was asked for."""

MOST_NFE = 64 * FEWEST
MEGABYTES = 100
LONGEST = 400
"""Characters of a line that refuses something, whatever was typed."""


def table():
    for name, sets in ARGUMENTS.items():
        yield from ((name, name, {}, names) for names in sets)
    for title, (name, fixed, sets) in OTHERS.items():
        yield from ((title, name, fixed, names) for names in sets)


def whole_numbers(name):
    from typing import get_type_hints

    hints = get_type_hints(registry.make_search(name))
    return {key for key in registry.search_arguments(name) if hints[key] in (int, int | None)}


@pytest.mark.parametrize("name", registry.names("search"))
def test_every_whole_number_of_every_search_is_in_the_table(name):
    assert set().union(*ARGUMENTS[name]) == whole_numbers(name)


@pytest.fixture
def counted(monkeypatch):
    """How many particles were made; too many of them end the test."""
    made = itertools.count(1)
    real = Particle.__post_init__

    def count(self):
        assert next(made) <= PARTICLES, "too many particles were made"
        real(self)

    monkeypatch.setattr(Particle, "__post_init__", count)
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEGABYTES * 2**20


def went(case, run):
    """Run a case; returns what it was refused with, or nothing."""
    try:
        case.go(run)
    except ValueError as error:
        return str(error)
    return ""


def cases():
    """Each row of the table with each huge number, under one of the two budgets.

    Of two rows that follow each other one has the number with images, the other with NFE: every search, argument,
    number and budget is there, and every pair of number and budget, without the whole product.
    """
    for row, one in enumerate(table()):
        for at, huge in enumerate(HUGE):
            yield (*one, huge, ("2 images", "100 nfe")[(row + at) % 2])


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("title", "name", "fixed", "names", "huge", "budget"), list(cases()),
    ids=[f"{title} {' '.join(sorted(names))}, {short(huge)}, {budget}" for title, _, _, names, huge, budget in cases()],
)  # fmt: skip
def test_huge_arguments_cost_no_more_than_the_budget(title, name, fixed, names, huge, budget, tmp_path, counted):
    arguments = {**fixed, **dict.fromkeys(names, huge)}
    case = Case(registry.make_search(name), arguments, eta=1.0 if name in STEP_NOISE else 0.0)
    run = case.open(tmp_path / "run", budget, batch_size=4)
    said = went(case, run)
    if said:
        assert "\n" not in said
        assert len(said) < 200
        assert run.spent.nfe == 0, "what is refused is refused before anything is spent"
    else:
        assert run.best is not None
        assert run.spent.images <= 2 or budget != "2 images"
        assert run.spent.nfe <= (100 if budget == "100 nfe" else MOST_NFE)


@pytest.mark.slow
def test_a_budget_in_seconds_ends_them_too(tmp_path, monkeypatch):
    """With a clock that every look at it moves on by a hundredth of a second."""
    import time

    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) / 100)
    for title, name, fixed, names in table():
        arguments = {**fixed, **dict.fromkeys(names, 10**9)}
        case = Case(registry.make_search(name), arguments, eta=1.0 if name in STEP_NOISE else 0.0)
        run = case.open(tmp_path / f"{title} {' '.join(names)}", "5 s", batch_size=4)
        assert "\n" not in went(case, run)
        assert run.spent.images < 500


def test_what_a_budget_has_use_for_is_taken():
    class Of:
        def __init__(self, text):
            self.budget = parse_budget(text)

    assert [widest(Of(text)) for text in ("1 image", "100 nfe", "0.1 s")] == [FEWEST] * 3
    assert widest(Of("64 images")) == 4096
    assert widest(Of("50000 nfe")) == 50_000
    assert widest(Of("60 s")) == 60_000
    assert widest(Of("64 images, 1500 nfe")) == 1500
    assert widest(Of(None)) == MOST


def test_blocks_change_no_candidate_and_no_micro_batch(tmp_path, monkeypatch):
    """What was asked for in one list before is cut into the same micro-batches."""
    from noisewright.search import random
    from noisewright.testing import journal

    for size in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16):
        assert BLOCK % size == 0
    monkeypatch.setattr(random, "block", lambda run: 12)
    for size in (3, 4, 5):
        blocks, whole = (
            Case(search).open(tmp_path / f"{kind} {size}", batch_size=size)
            for kind, search in (("blocks", random.random), ("whole", None))
        )
        random.random(blocks, 30)
        whole.finish(whole.noise(30))
        ids = [[line["ids"] for line in journal(one.store.root) if line["verb"] == "finish"] for one in (blocks, whole)]
        assert [key for line in ids[0] for key in line] == [key for line in ids[1] for key in line]
        if size != 5:
            assert ids[0] == ids[1]


@pytest.mark.parametrize("temperature", [1e-320, 1e-300, 1e300])
def test_temperatures_at_the_ends_of_the_numbers(temperature, tmp_path):
    import math

    case = Case(registry.make_search("fk"), {"particles": 4, "temperature": temperature}, eta=1.0)
    run = case.open(tmp_path / "run")
    found = case.search(run, **case.arguments)
    assert sum(share for _, share in found) == pytest.approx(1)
    assert all(math.isfinite(share) for _, share in found)
    run.store.close()


@pytest.mark.parametrize(
    "given", [10**16, 10**400, 10**5000, float("inf"), "1e300 images", "1e308 hours", "1e30 nfe", 1e300], ids=short
)
def test_budgets_have_an_end(given):
    with pytest.raises((ValueError, TypeError), match="expected") as caught:
        Budget(images=given) if not isinstance(given, str) else parse_budget(given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert str(Budget(images=10**15)) == "1e+15 images"


@pytest.mark.parametrize("value", [10**4500, -(10**4500), "x" * 10**6, (0.5,) * 10**6, 1.5, 3], ids=short)
def test_values_are_short_in_messages(value):
    assert len(short(value)) <= 60


# The numbers of commands and of Python calls

SHAPES = "noisewright/shapes"
GENERATE = ["generate", "two red circles", "--budget", "2 images"]
FIT = ["schedule", "fit", "--out", "fit.json", "--prompt", "x"]
COMPARE = ["schedule", "compare", "uniform", "--prompt", "x"]
HUGE_COMMANDS = {
    "steps": [*GENERATE, "--steps", "{huge}"],
    "search steps": [*GENERATE, "--search-steps", "{huge}"],
    "batch size": [*GENERATE, "--batch-size", "{huge}"],
    "batch size, dry run": [*GENERATE, "--batch-size", "{huge}", "--dry-run"],
    "size": [*GENERATE, "--height", "{huge}", "--width", "{huge}"],
    "height": [*GENERATE, "--height", "{huge}", "--width", "64"],
    "named schedule": [*GENERATE, "--steps", "{huge}", "--schedule", "karras", "--solver", "ddim"],
    "fit": [*FIT, "--steps", "{huge}", "--method", "search"],
    "fit, dmn": ["schedule", "fit", "--out", "fit.json", "--steps", "{huge}", "--method", "dmn"],
    "fit, gits": [*FIT, "--steps", "{huge}", "--method", "gits"],
    "fit, nodes": [*FIT, "--steps", "4", "--method", "gits", "--nodes", "{huge}"],
    "fit, samples": [*FIT, "--steps", "4", "--method", "search", "--samples", "{huge}"],
    "fit, evaluations": [*FIT, "--steps", "4", "--method", "search", "--evaluations", "{huge}"],
    "fit, teacher steps": [*FIT, "--steps", "4", "--method", "search", "--teacher-steps", "{huge}"],
    "fit, batch size": [*FIT, "--steps", "4", "--method", "search", "--batch-size", "{huge}"],
    "compare": [*COMPARE, "--steps", "{huge}"],
    "compare, samples": [*COMPARE, "--steps", "4", "--samples", "{huge}"],
    "compare, teacher steps": [*COMPARE, "--steps", "4", "--teacher-steps", "{huge}"],
    "measure, levels": ["schedule", "measure", SHAPES, "--levels", "{huge}"],
    "measure, count": ["schedule", "measure", SHAPES, "--count", "{huge}"],
    "measure, stride": ["schedule", "measure", SHAPES, "--stride", "{huge}"],
    "measure, batch size": ["schedule", "measure", SHAPES, "--batch-size", "{huge}"],
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("huge", [10**6, 10**9, 10**18, 10**30])
@pytest.mark.parametrize("name", HUGE_COMMANDS)
def test_huge_numbers_are_refused_before_a_model_is_loaded(name, huge, no_model, capsys, tmp_path):
    assert len(refused(capsys, [one.format(huge=huge) for one in HUGE_COMMANDS[name]])) < LONGEST
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]


@pytest.mark.parametrize(
    "argv", [GENERATE, [*FIT, "--method", "dmn", "--steps", "4"], [*COMPARE, "--steps", "4"],
             ["schedule", "measure", SHAPES]],
)  # fmt: skip
@pytest.mark.parametrize("seed", [2**63 - 2**32, 2**63 - 1, 2**63, 2**64, 10**30])
def test_seeds_near_the_limit_are_refused(argv, seed, no_model, capsys):
    said = refused(capsys, [*(one for one in argv if one not in ("--prompt", "x")), "--seed", str(seed)], "seed")
    assert len(said) < LONGEST


@pytest.mark.parametrize(
    "argv", [
        ["generate", "x" * 10**6], ["generate", "--class-label", "x" * 10**6],
        ["generate", "x", "--negative-prompt", "y" * 10**6],
        ["score", "x.png", "--verifier", "brightness", "--prompt", "x" * 10**6],
        ["schedule", "fit", "--method", "search", "--steps", "4", "--out", "f.json", "--prompt", "x" * 10**6],
        ["schedule", "compare", "uniform", "--steps", "4", "--prompts", "long.txt"],
        ["schedule", "compare", "uniform", "--steps", "4", "--prompts", "many.txt"],
    ], ids=range(7),
)  # fmt: skip
def test_texts_have_an_end(argv, no_model, capsys, tmp_path):
    (tmp_path / "long.txt").write_text("a\n" + "x" * 10**6)
    (tmp_path / "many.txt").write_text("a cat\n" * 10**5 + "a dog\n")
    assert len(refused(capsys, argv, "at most")) < LONGEST


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--verifier", "--judge"])
def test_verifiers_and_judges_have_an_end(option, no_model, capsys):
    assert len(refused(capsys, [*GENERATE, *([option, "brightness"] * 10**4)], "at most 64")) < LONGEST


def test_very_many_targets_are_read_in_a_pass(no_model, capsys):
    argv = [*GENERATE, *(part for n in range(10**4) for part in ("--target", f"n{n}=1"))]
    assert len(refused(capsys, [*argv, "--steps", str(10**9)], "expected")) < LONGEST


def test_a_schedule_of_very_many_levels_is_refused():
    from noisewright.diffusion.schedule import Schedule
    from noisewright.samplers.mixture import MixtureSampler, vp_schedule

    count = 10**6
    with pytest.raises(ValueError, match="at most 20000 noise levels, got 1000000"):
        Schedule((1.0,) * count, (0.5,) * (count + 1), (0.5,) * (count + 1))
    with pytest.raises(ValueError, match="steps of at most 10000"):
        MixtureSampler(steps=10**9)
    with pytest.raises(ValueError, match="steps of at most 10000"):
        MixtureSampler(steps=2).with_steps(10**9)
    assert vp_schedule(10_000).steps == 10_000


@pytest.mark.slow
@pytest.mark.parametrize("command", [["show"], ["compare", "uniform"]])
def test_a_file_of_very_many_levels_is_refused(command, no_model, capsys, tmp_path):
    """A million levels took 90 seconds."""
    import json

    from noisewright.samplers.mixture import vp_schedule
    from noisewright.trajectory.files import FittedSchedule, write_schedule_file

    about = {"model": "m", "fingerprint": "f", "prediction": "epsilon"}
    write_schedule_file(tmp_path / "s.json", FittedSchedule(vp_schedule(4), "ddim", about))
    held = json.loads((tmp_path / "s.json").read_text())
    count = 10**6
    held.update(
        steps=count, t=[1.0] * count, alpha=[n / count for n in range(count + 1)],
        sigma=[1 - n / count for n in range(count + 1)],
    )  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps(held))
    assert len(refused(capsys, ["schedule", command[0], "s.json", *command[1:]], "at most")) < LONGEST


@pytest.mark.parametrize("name", ["uniform", "beta", "karras", "sgm-uniform", "ays-sd15"])
def test_named_schedules_have_an_end(name):
    from noisewright.diffusion.clock import Clock
    from noisewright.diffusion.schedules import named_schedule

    clock = Clock("flow", unit=1000.0)
    with pytest.raises(ValueError, match="steps of at most 10000"):
        named_schedule(name, clock, 10**9)
    assert named_schedule(name, clock, 300).steps == 300


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "given", [
        {"num_inference_steps": 10**9}, {"search_steps": 10**30}, {"batch_size": 10**49}, {"seed": 10**30},
        {"seed": 2**63 - 2**32}, {"budget": 10**400}, {"height": 10**6, "width": 10**6}, {"verifier": ["a"] * 10**4},
        {"judge": [lambda images, prompt: [0.0]] * 10**4}, {"negative_prompt": "x" * 10**6},
        {"search": "fk", "search_args": {"particles": 10**9}}, {"search": "fk", "search_args": {"at": (0.5,) * 10**5}},
        {"search": "halving", "search_args": {"cuts": (0.1,) * 10**5}},
        {"search": "evolution", "search_args": {"at": (0.1,) * 10**5}},
    ], ids=range(14),
)  # fmt: skip
def test_python_calls_have_bounds_too(given):
    from noisewright.diffusion.solvers import Ddim
    from noisewright.samplers.mixture import MixtureSampler

    sampler = MixtureSampler(steps=8, solver=Ddim(1.0 if given.get("search") == "fk" else 0.0))
    with pytest.raises(ValueError, match="expected") as caught:
        nw.search(sampler, "a mixture", **{"verifier": "brightness", "budget": 2, **given})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", registry.names("search"))
def test_the_largest_seed_works(name):
    from noisewright.diffusion.solvers import Ddim
    from noisewright.samplers.mixture import MixtureSampler

    sampler = MixtureSampler(steps=8, solver=Ddim(1.0 if name in STEP_NOISE else 0.0))
    found = nw.search(
        sampler, "a mixture", verifier="brightness", budget=3, search=name, seed=2**63 - 2**32 - 1, pictures=False
    )
    assert found.baseline.seed == 2**63 - 2**32 - 1


def test_a_billion_candidates_of_which_the_budget_has_two():
    from noisewright.samplers.mixture import MixtureSampler

    found = nw.search(
        MixtureSampler(steps=8), "a mixture", verifier="brightness", budget="2 images", search_args={"n": 10**9},
        pictures=False,
    )  # fmt: skip
    assert (found.images, [one.seed for one in found.candidates]) == (2, [0, 1])
