"""What every search must hold, on the exact Gaussian-mixture sampler."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisewright.diffusion.solvers import Ddim
from noisewright.errors import BudgetExhausted, TargetReached, VerifierFailed
from noisewright.run.budget import parse_budget
from noisewright.run.reading import read_journal
from noisewright.run.store import Store
from noisewright.run.verbs import Run
from noisewright.samplers.mixture import MixtureSampler
from noisewright.verifiers.pixels import Brightness

STEPS = 8
CLOCK = ("seconds", "elapsed")
"""What of a line of the journal depends on the clock."""


@dataclass(frozen=True)
class Case:
    """A search under test.

    Attributes:
        search: the function.
        arguments: its own arguments; with them it must end by itself.
        nfe: what its docstring says it costs with these arguments, from the number of steps; None skips that check.
        eta: of the solver it is tested with; above 0 for a search that needs step noise.
        kind: ``vp`` or ``flow`` levels.
        verifiers: what it is tested with.
    """

    search: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    nfe: Callable[[int], int] | None = None
    eta: float = 0.0
    kind: str = "vp"
    verifiers: tuple[Any, ...] = (Brightness(),)

    def open(self, root: Path, budget: str | None = None, batch_size: int = 3, verifiers: Sequence[Any] = ()) -> Run:
        """A run of this case in a directory, new or continued."""
        sampler = MixtureSampler(steps=STEPS, solver=Ddim(self.eta), kind=self.kind)
        store = Store.create(root, {"sampler": sampler.description}, {"noisewright": "test"}, "now")
        seen = list(verifiers or self.verifiers)
        return Run(store, sampler, seen, seed=5, budget=parse_budget(budget), batch_size=batch_size)

    def go(self, run: Run, render: bool = True) -> str:
        """Search as :func:`noisewright.search` does, and close the run; returns why it stopped."""
        stopped = "finished"
        try:
            try:
                self.search(run, **self.arguments)
            except BudgetExhausted:
                stopped = "budget"
            except TargetReached:
                stopped = "target"
            if render:
                run.render()
        finally:
            run.store.close()
        return stopped


def journal(root: Path) -> list[dict[str, Any]]:
    """The journal of a run without what depends on the clock."""
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in read_journal(root)]


def same_seed_same_result(case: Case, root: Path) -> None:
    """Two runs of one seed write the same journal, and leave the global random state alone."""
    before = torch.get_rng_state()
    arguments = copy.deepcopy(dict(case.arguments))
    for name in ("one", "two"):
        case.go(case.open(root / name))
    assert journal(root / "one") == journal(root / "two"), "two runs of one seed differ"
    assert torch.equal(torch.get_rng_state(), before), "the search changed torch's global random state"
    assert dict(case.arguments) == arguments, "the search changed its arguments"


def micro_batches_change_nothing(case: Case, root: Path) -> None:
    """The candidates and their scores do not depend on how the work was packed."""
    found = {}
    for size in (1, 2, 16):
        run = case.open(root / str(size), batch_size=size)
        case.go(run)
        found[size] = {key: one.scores for key, one in run.candidates.items()}
    for size in (2, 16):
        assert found[size].keys() == found[1].keys(), f"micro-batches of {size} gave other candidates"
        for key, scores in found[size].items():
            for name, value in scores.items():
                assert math.isclose(value, found[1][key][name], abs_tol=1e-5), f"{name} of {key} at micro-batch {size}"


def budgets_hold(case: Case, root: Path) -> None:
    """No budget is exceeded, in images or NFE, and there is always a baseline and a best."""
    whole = case.open(root / "whole")
    case.go(whole)
    for unit, full in (("images", whole.spent.images), ("nfe", whole.spent.nfe)):
        least = 1 if unit == "images" else STEPS
        for limit in sorted({least, least + 1, (least + full) // 3, (least + full) // 2, full - 1, full}):
            if limit < least:
                continue
            run = case.open(root / f"{unit}-{limit}", f"{limit} {unit}")
            case.go(run)
            spent = run.spent.images if unit == "images" else run.spent.nfe
            assert spent <= limit, f"spent {spent} {unit} of {limit}"
            assert run.best is not None and run.baseline is not None, f"no best with {limit} {unit}"  # noqa: PT018
    run = case.open(root / "enough", f"{whole.spent.nfe} nfe")
    assert case.go(run) == "finished", "a budget of exactly its cost did not suffice"


def cost_is_the_formula(case: Case, root: Path) -> None:
    """The NFE in the journal are those of the docstring's formula, exactly."""
    if case.nfe is None:
        return
    run = case.open(root / "run")
    case.go(run, render=False)
    written = sum(line.get("nfe", 0) for line in read_journal(root / "run"))
    assert written == run.sampler.meter.nfe, f"the journal has {written} NFE, the model ran {run.sampler.meter.nfe}"
    assert written == case.nfe(STEPS), f"the formula says {case.nfe(STEPS)} NFE, the journal has {written}"


class _Killed(Exception):
    pass


def killed_and_resumed_is_the_same(case: Case, root: Path) -> None:
    """A run that was killed before or after any line of its journal and resumed equals one that never was."""
    whole = case.open(root / "whole")
    case.go(whole)
    expected = journal(root / "whole")
    stride = max(1, len(expected) // 8)
    for number in range(0, len(expected), stride):
        for after in (False, True):
            place = root / f"{number}-{after}"
            run = case.open(place)
            _kill_at(run, number, after)
            with contextlib.suppress(_Killed):
                case.go(run)
            case.go(case.open(place))
            assert journal(place) == expected, f"killed at line {number} of {len(expected)} and resumed"


def _kill_at(run: Run, number: int, after: bool) -> None:
    append, lines = run.store.append, [0]

    def counted(record: dict[str, Any]) -> None:
        if lines[0] == number and not after:
            raise _Killed
        append(record)
        if lines[0] == number:
            raise _Killed
        lines[0] += 1

    run.store.append = counted  # type: ignore[method-assign]


@dataclass
class Scored:
    """A verifier of made-up scores: a function of the image's mean."""

    function: Callable[[float], float]
    name: str = "scored"
    fingerprint: str = "scored"

    def __call__(self, images: Tensor, prompt: str) -> list[float]:
        return [self.function(float(image.mean())) for image in images]

    def gradient_scores(self, images: Tensor, prompt: str) -> Tensor:
        """The mean's, whatever the function: for searches that climb."""
        return images.mean(dim=(1, 2, 3))


def strange_scores_are_survived(case: Case, root: Path) -> None:
    """Scores that are all equal, partly NaN or infinite, huge or negative end in a valid best; none at all is said."""
    functions: dict[str, Callable[[float], float]] = {
        "equal": lambda mean: 1.0,
        "partly-nan": lambda mean: math.nan if int(mean * 3060) % 4 == 0 else mean,
        "partly-infinite": lambda mean: math.inf if int(mean * 3060) % 4 == 0 else mean,
        "negative": lambda mean: -1e6 * mean,
    }
    for name, function in functions.items():
        run = case.open(root / name, verifiers=[Scored(function)])
        case.go(run)
        best = run.best
        assert best is not None, f"no best with scores that are {name}"
        if any(not math.isnan(one.scores["scored"]) for one in run.candidates.values()):
            assert not math.isnan(best.scores["scored"]), "a NaN is the best, though there are numbers"
    run = case.open(root / "none", verifiers=[Scored(lambda mean: math.nan)])
    with contextlib.suppress(VerifierFailed):
        case.go(run)
        raise AssertionError("a run without a single number did not say so")
    assert run.candidates, "the images of a run without a single number are gone"


def several_verifiers_are_survived(case: Case, root: Path) -> None:
    """An ensemble of two, which disagree, ends in a valid best."""
    both = [Brightness(), Scored(lambda mean: -mean)]
    run = case.open(root / "run", verifiers=both)
    case.go(run)
    assert run.best is not None, "no best with two verifiers"


def best_so_far_never_falls(case: Case, root: Path) -> None:
    """The curve only rises and ends at the best."""
    run = case.open(root / "run")
    case.go(run)
    values = [point.value for point in run.curve()]
    assert values == sorted(values), "the best so far fell"
    assert run.best is not None and run.curve()[-1].candidate == run.best.id, "the curve does not end at the best"  # noqa: PT018


CONTRACT: dict[str, Callable[[Case, Path], None]] = {
    check.__name__: check
    for check in (
        same_seed_same_result,
        micro_batches_change_nothing,
        budgets_hold,
        cost_is_the_formula,
        killed_and_resumed_is_the_same,
        strange_scores_are_survived,
        several_verifiers_are_survived,
        best_so_far_never_falls,
    )
}
"""The checks by name; each takes a :class:`Case` and an empty directory."""
