"""``nw.benchmark``, ``nw.compare`` and ``nw.audit``: what the commands do, for callers in Python."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright import registry
from noisewright.benchmark.audit import Audit, audit_spec, audited, candidates_of
from noisewright.benchmark.audit_page import write_audit
from noisewright.benchmark.chosen import Chosen, Index, Scores, chosen_by
from noisewright.benchmark.compare import AXIS, Between, compare_spec, compared_in_pairs, equal_cost, read_searches
from noisewright.benchmark.concluded import Concluded, concluded
from noisewright.benchmark.drive import LOCAL, run_benchmark
from noisewright.benchmark.fitting import one_unit
from noisewright.benchmark.given import given_prompts, judges_for
from noisewright.benchmark.spec import Spec
from noisewright.benchmark.spec_files import read_spec
from noisewright.benchmark.store import Results, is_benchmark, read_benchmark
from noisewright.benchmark.tables import write_tables
from noisewright.benchmark.typed_axes import grid_spec
from noisewright.benchmark.votes import Vote, read_votes
from noisewright.errors import VerifierFailed
from noisewright.evaluate.scoring import score_files
from noisewright.executors.protocol import Executor
from noisewright.outside.files import check_directory
from noisewright.planning import load_requested
from noisewright.progress import displayed
from noisewright.request import Request, check_names
from noisewright.run.budget import parse_budget
from noisewright.samplers.quiet import quiet

if TYPE_CHECKING:
    from noisewright.progress import Show

MODEL = "noisewright/shapes"
BUDGET = "32 images"
CANDIDATES = 16


@dataclass(frozen=True)
class Comparison:
    """What came of a comparison of searches.

    Attributes:
        concluded: the benchmark: its results, what may be said of each search, and what was written.
        pairs: each two searches by each score, those by the score that decides first.
        verdicts: a sentence for each two by the score that decides, and one for each search whose cost was another.
    """

    concluded: Concluded
    pairs: tuple[Between, ...]
    verdicts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What ``noisewright compare --json`` prints, but for NaN, which JSON has not."""
        from dataclasses import asdict

        between = [asdict(one) for one in self.pairs]
        return {**self.concluded.to_json(), "verdicts": list(self.verdicts), "between": between}


def benchmark(
    spec: str | Path | Spec | None = None,
    *,
    prompts: str | Path | Sequence[str] | None = None,
    axes: Sequence[str] | None = None,
    model: str | None = None,
    seeds: int | None = None,
    seed: int | None = None,
    choice: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    workers: int = 1,
    executor: str | Executor = LOCAL,
    log: Sequence[str] = (),
    pictures: bool = False,
    progress: bool | None = None,
    **settings: Any,
) -> Concluded:
    """Run a grid of requests and compare what came of them; the same call goes on where it was cut short.

    Args:
        spec: a spec file, the name of a built-in one (see ``noisewright benchmark --list``), or a spec; None with
            ``axes``.
        prompts: in place of the spec's, as of :func:`compare`.
        axes: up to three fields that are varied, where there is no spec, as typed: ``"steps=10,25"``.
        model: in place of the spec's.
        seeds: of each prompt.
        seed: the first.
        choice: as of :func:`compare`.
        out: the benchmark's directory; by default a temporary one.
        workers: how many processes work.
        executor: whose workers are dealt the runs in place of those: ``"ray:HOST:PORT"``, or one as an object.
        log: loggers that are told: ``wandb``, ``trackio``, ``tensorboard``.
        pictures: whether to draw pictures of each run.
        progress: whether to show how far it is; by default where somebody looks.
        settings: fields of all requests in place of the spec's.

    Raises:
        ValueError, TypeError: wrong use, before anything is spent; of a spec file all that is wrong at once.
    """
    if (spec is None) != (axes is not None):
        raise ValueError(f"expected a spec or axes, got {'both' if axes is not None else 'neither'}")
    given = None if prompts is None else given_prompts(prompts, **(choice or {}))[:2]
    if isinstance(spec, Spec):
        made = spec
    elif spec is not None:
        made = read_spec(spec, model=model, overrides=settings, prompts=given, seeds=seeds, seed=seed)
    elif given is None:
        raise ValueError("expected prompts with axes, got none")
    else:
        typed = {f"axis {number}": text for number, text in enumerate(axes or (), start=1)}
        made = grid_spec(typed, {"model": model or MODEL, **settings}, *given, seeds=seeds or 1, seed=seed or 0)
    return concluded(_run(made, out, workers, executor, pictures, progress), logs=log)


def compare(
    prompts: str | Path | Sequence[str],
    search: str | Sequence[str],
    *,
    budget: str = BUDGET,
    model: str = MODEL,
    verifier: str | Sequence[str] | None = None,
    judge: str | Sequence[str] | None = None,
    seeds: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    workers: int = 1,
    executor: str | Executor = LOCAL,
    progress: bool | None = None,
    choice: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Comparison:
    """Compare searches with plain best of N, and with each other, at one budget: paired, with intervals and verdicts.

    Args:
        prompts: a file, a bundled set's name, a prompt of several words, or texts.
        search: names, or ``NAME:KEY=VALUE,...``.
        budget: in images (as so many NFE), NFE or seconds; what makes a search large or small is fitted to it.
        model: a name, a directory or a file.
        verifier: what the searches maximise; by default what the model's card names.
        judge: who decides; by default what the model's card names.
        seeds: of each prompt.
        seed: the first.
        out: the benchmark's directory; by default a temporary one.
        workers: how many processes work.
        executor: whose workers are dealt the runs in place of those: ``"ray:HOST:PORT"``, or one as an object.
        progress: whether to show how far it is; by default where somebody looks.
        choice: ``column``, ``category``, ``limit``, ``sample`` and ``seed`` of a set of prompts.
        settings: other fields of :class:`noisewright.Request`.

    Raises:
        ValueError, TypeError: wrong use, in one line, before anything is spent.
    """
    base = base_of(model, verifier, judge, settings)
    searches = [search] if isinstance(search, str) else list(search)
    with quiet():
        spec, _ = comparison_asked(prompts, searches, (), budget, base, seeds, seed, before_in(out), choice or {})
    return comparison_of(_run(spec, out, workers, executor, False, progress))


def audit(
    prompts: str | Path | Sequence[str],
    verifier: str | Sequence[str],
    *,
    judge: str | Sequence[str] | None = None,
    candidates: int = CANDIDATES,
    votes: str | Path | Sequence[Vote] | None = None,
    model: str = MODEL,
    seed: int = 0,
    out: str | Path | None = None,
    workers: int = 1,
    executor: str | Executor = LOCAL,
    progress: bool | None = None,
    choice: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Audit:
    """Which verifier to trust on some prompts: each prompt's plain candidates, scored by all, picked by each.

    Args:
        prompts: as of :func:`compare`.
        verifier: their names.
        judge: who judges their picks; by default what the model's card names.
        candidates: of each prompt.
        votes: a person's choices between two of the images: a file, or values (:mod:`noisewright.benchmark.votes`).
        model: as of :func:`compare`.
        seed: the first.
        out: as of :func:`compare`; ``audit.html`` and ``audit.md`` are written there.
        workers: how many processes work.
        executor: whose workers are dealt the runs in place of those: ``"ray:HOST:PORT"``, or one as an object.
        progress: whether to show how far it is; by default where somebody looks.
        choice: as of :func:`compare`.
        settings: other fields of :class:`noisewright.Request`.

    Raises:
        ValueError, TypeError: wrong use, in one line, before anything is spent.
    """
    said, place = votes_of(votes)
    names = listed(verifier) or []
    with quiet():
        spec, count, _ = audit_asked(prompts, names, judge, candidates, model, seed, choice or {}, settings)
    return audit_of(_run(spec, out, workers, executor, False, progress), count, said, place)


def _run(
    spec: Spec, out: str | Path | None, workers: int, executor: str | Executor, pictures: bool, progress: bool | None
) -> Results:  # fmt: skip
    if out is None:
        place = Path(tempfile.mkdtemp(prefix="noisewright-"))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    else:
        place = check_directory(out, "out")
    with quiet(), displayed(progress) as show:
        return run_benchmark(spec, place, workers=workers, executor=executor, show=show, pictures=pictures)


# What is asked for


def listed(given: str | Sequence[str] | None) -> list[str] | None:
    """One name or several as a list."""
    return None if given is None else [given] if isinstance(given, str) else list(given)


def base_of(model: str, verifier: Any, judge: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a request that all cells share, without those that nobody gave."""
    named = {"model": model, "verifier": listed(verifier), "judge": listed(judge)}
    return {key: value for key, value in {**named, **settings}.items() if value is not None}


def before_in(out: str | Path | None) -> Spec | None:
    """The spec that a directory was begun with, if it holds a benchmark."""
    return read_benchmark(out)[1] if out is not None and is_benchmark(out) else None


def comparison_asked(
    prompts: Any, searches: Sequence[str], arguments: Sequence[str], budget: str, base: Mapping[str, Any], seeds: int,
    seed: int, before: Spec | None, choice: Mapping[str, Any],
) -> tuple[Spec, list[str]]:  # fmt: skip
    """The spec of a comparison, and what a person should know.

    Raises:
        ValueError, TypeError: in one line.
    """
    compared = read_searches(searches, arguments)
    one_unit(parse_budget(budget))
    some, name, warnings = given_prompts(prompts, **choice)
    request = Request(**base, prompt=some[0].text, seed=seed).located()
    check_names(request)
    if before is not None and [axis.name for axis in before.axes] != [AXIS]:
        before = None
    spec = compare_spec(
        compared, base, some, budget, load_requested(request), prompt_set=name, seeds=seeds, seed=seed, before=before
    )
    return spec, warnings


def comparison_of(results: Results, logs: Sequence[str] = ()) -> Comparison:
    """What the rows of a comparison say; tables and report are written."""
    found = concluded(results, logs=logs)
    pairs = compared_in_pairs(results, found.compared)
    said = [one.verdict for one in pairs if one.score == found.compared.deciding]
    unit = "seconds" if any("second" in one for one in results.spec.base.get("budget", ())) else "nfe"
    return Comparison(found, tuple(pairs), (*said, *(equal_cost(results, unit) if pairs else ())))


def audit_asked(
    prompts: Any, verifiers: Sequence[str], judge: Any, candidates: int, model: str, seed: int,
    choice: Mapping[str, Any], settings: Mapping[str, Any],
) -> tuple[Spec, int, list[str]]:  # fmt: skip
    """The spec of an audit, how many of those who score are verifiers, and what a person should know.

    Raises:
        ValueError, TypeError: in one line.
    """
    some, name, warnings = given_prompts(prompts, **choice)
    check_names(Request(model=model, verifier=list(verifiers), judge=listed(judge), prompt=some[0].text))
    judges, more = judges_for(listed(judge), verifiers, model, some)
    spec = audit_spec(base_of(model, None, None, settings), some, verifiers, judges, candidates, seed, name)
    return spec, len(verifiers), [*warnings, *more]


# An audit's votes


def votes_of(given: str | Path | Sequence[Vote] | None) -> tuple[list[Vote], Path]:
    """The votes of a file, and the directory of the files that it names; of values this one."""
    if isinstance(given, (str, Path)):
        return read_votes(given), Path(given).absolute().parent
    return list(given or ()), Path.cwd()


def audit_of(
    results: Results, verifiers: int, votes: Sequence[Vote] = (), place: Path | None = None, show: Show | None = None
) -> Audit:
    """What the rows of an audit say; tables and the page are written.

    Args:
        results: of a spec of :func:`audit_asked`.
        verifiers: how many of those who score are verifiers.
        votes: a person's.
        place: the directory of the files that they name.
        show: is told that images of votes are scored.

    Raises:
        ValueError: where no prompt has candidates, or too many images hang together by votes.
    """
    held = candidates_of(results, verifiers)
    chosen: Chosen | None = None
    if votes:
        index = Index([one.text for one in held.prompts], held.rows)
        device = results.spec.base.get("device")
        elsewhere = _scored_elsewhere(tuple(results.spec.base["verifier"]), device, show)
        chosen = chosen_by(votes, held.names, verifiers, index, place or Path.cwd(), elsewhere)
    found = audited(results, verifiers, chosen, held)
    warnings = [f"{found.failed} of {found.failed + found.prompts} prompts failed"] if found.failed else []
    warnings += ["one prompt only: nothing can be said of others"] if found.prompts == 1 else []
    tables = write_tables(results)
    found = replace(found, warnings=(*warnings, *results.warnings, *tables.notes))
    return replace(found, files=(*tables.files, *write_audit(found, results.root)))


def _scored_elsewhere(names: Sequence[str], device: str | None, show: Show | None) -> Any:
    """What scores a file that is no candidate, as all verifiers of the audit do, made when one is asked for."""

    @cache
    def made() -> list[Any]:
        from noisewright.samplers.pipeline import best_device

        return [registry.make_verifier(name, device or best_device()) for name in names]

    @cache
    def scores(path: Path, prompt: str) -> Scores:
        if show is not None:
            show(1.0, None, f"scoring {path.name}")
        found: dict[str, Any] = {}
        for one in made():
            with suppress(VerifierFailed, ValueError):  # it can say nothing of that prompt; others can
                found.update(score_files([path], prompt, [one])[0][0]["scores"])
        return found

    return scores
