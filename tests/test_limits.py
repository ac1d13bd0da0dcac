"""Sizes without bound: whatever number is asked for, a small budget costs little work and memory, or one line."""

import itertools
import tracemalloc

import pytest

import noisewright as nw
from noisewright import cli, registry
from noisewright.budget import Budget, parse_budget
from noisewright.particle import Particle
from noisewright.search.checks import BLOCK, FEWEST, MOST, short, widest
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
    "svdd": [{"proposals"}, {"block"}, {"width"}, {"proposals", "width"}],
    "rbf": [{"quota"}, {"first"}, {"batch"}, {"quota", "batch"}],
    "evolution": [{"population"}, {"elites"}, {"population", "elites"}],
    "halving": [{"n"}, {"pilot"}, {"n", "pilot"}],
    "refine": [{"population"}, {"elites"}, {"generations"}, {"dimensions"}, {"population", "elites"}],
    "gradient": [{"starts"}, {"iterations"}, {"every"}, {"iterations", "every"}, {"starts", "iterations"}],
}  # fmt: skip
"""The whole numbers that each search takes, and some of them together."""

OTHERS = {
    "svdd, plain": ("svdd", {"proposals": 1}, [{"width"}, {"block"}]),
    "rbf, plain": ("rbf", {"quota": 1}, [{"first"}, {"batch"}]),
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


@pytest.mark.parametrize("budget", ["2 images", "100 nfe"])
@pytest.mark.parametrize("huge", HUGE, ids=short)
@pytest.mark.parametrize(
    ("title", "name", "fixed", "names"), list(table()),
    ids=[f"{title} {' '.join(sorted(names))}" for title, _, _, names in table()],
)  # fmt: skip
def test_huge_arguments_cost_no_more_than_the_budget(title, name, fixed, names, huge, budget, tmp_path, counted):
    arguments = {**fixed, **dict.fromkeys(names, huge)}
    case = Case(registry.make_search(name), arguments, eta=1.0 if name in STEP_NOISE else 0.0)
    run = case.open(tmp_path / "run", budget, batch_size=4)
    try:
        case.go(run)
    except ValueError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 200
        assert run.spent.nfe == 0, "what is refused is refused before anything is spent"
    else:
        assert run.best is not None
        assert run.spent.images <= 2 or budget != "2 images"
        assert run.spent.nfe <= (100 if budget == "100 nfe" else MOST_NFE)


def test_a_budget_in_seconds_ends_them_too(tmp_path, monkeypatch):
    """With a clock that every look at it moves on by a hundredth of a second."""
    import time

    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) / 100)
    for title, name, fixed, names in table():
        arguments = {**fixed, **dict.fromkeys(names, 10**9)}
        case = Case(registry.make_search(name), arguments, eta=1.0 if name in STEP_NOISE else 0.0)
        run = case.open(tmp_path / f"{title} {' '.join(names)}", "5 s", batch_size=4)
        try:
            case.go(run)
        except ValueError as error:
            assert "\n" not in str(error)
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
