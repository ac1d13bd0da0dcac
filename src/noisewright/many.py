"""One request for many prompts: a run each, in one process, on a pipeline and verifiers that are made once."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from noisewright import registry
from noisewright.api import given_apart
from noisewright.continuing import as_recorded, check_spent
from noisewright.errors import Stopped
from noisewright.execute import execute
from noisewright.executors.dealt import dealt, ended_gently
from noisewright.executors.optional import DealsRuns, reach
from noisewright.executors.protocol import Executor
from noisewright.outside.bounds import MOST_PROMPTS, no_more
from noisewright.outside.files import check_directory
from noisewright.outside.messages import short
from noisewright.outside.prompts import read_prompts
from noisewright.outside.texts import clean
from noisewright.planning import Plan, decided_dtype, load_requested, plan_on, recordable, settled
from noisewright.progress import RunProgress, Show, Together, displayed, parts_of
from noisewright.request import Request, read_request
from noisewright.result import Result
from noisewright.run.budget import parse_budget
from noisewright.run.directory import summary_in
from noisewright.run.reading import is_concluded, is_run, read_run
from noisewright.run.store import check_same
from noisewright.run.verbs import Run
from noisewright.samplers.quiet import quiet
from noisewright.samplers.speeds import Decided
from noisewright.schemas.request import AUTO, check_arguments, check_prompt

LONGEST_SLUG = 40
MAY_CHANGE = ("budget", "target", "judge", "batch_size", "keep", "executor", "device", "score_cache", "no_check",
              "concurrency")  # fmt: skip
"""Fields of a request that may be others when a run is continued."""


@dataclass(frozen=True)
class PromptRun:
    """What came of one prompt.

    Attributes:
        number: its place among the prompts, from 1.
        prompt: the text.
        run: the directory.
        status: ``done``; ``found``, where it was done before; ``interrupted``; ``failed``.
        result: of what was run now, else None.
        summary: the object that ``--json`` prints; None where it failed.
        judges: their names.
        error: one line on why it failed, else None.
    """

    number: int
    prompt: str
    run: Path
    status: str
    result: Result | None = None
    summary: dict[str, Any] | None = None
    judges: tuple[str, ...] = ()
    error: str | None = None


def search_many(
    pipe: Any,
    prompts: Sequence[str] | Path,
    *,
    out: str | Path | None = None,
    progress: bool | None = None,
    pictures: bool = True,
    **settings: Any,
) -> Iterator[PromptRun]:
    """Search for each of many prompts, one after the other; gives what came of each as soon as it is known.

    An executor with several workers (``ray``) is dealt whole runs: as many prompts are in hand as there are workers,
    which keep what they have loaded from one to the next; what came of them is given in the order in which they end.
    The pipeline and the verifiers are made once. A run that is done already in ``out`` is not made again, so that the
    same call goes on where it was cut short; what fails of one prompt does not keep the others from being made.

    Args:
        pipe: as :func:`noisewright.search` takes it.
        prompts: texts, each once; or a file with one a line, in which ``#`` begins a comment.
        out: the directory of the runs' directories ``NNNN-the-prompt``; by default a temporary one.
        progress: whether to show how far it is; by default where somebody looks.
        pictures: as there.
        settings: everything else that :func:`noisewright.search` takes.

    Raises:
        ValueError, TypeError: wrong use, in one line, before anything is spent.
    """
    checked = check_arguments(out=out, progress=progress, pictures=pictures)
    texts = checked_prompts(prompts)
    fields, arguments, given = given_apart(settings)
    executor: Any = given.pop("executor", None)
    if executor is not None and not isinstance(executor, DealsRuns):
        name = type(executor).__name__
        raise TypeError(f"expected an executor as a name for many prompts, each of which starts its own, got {name}")
    named = isinstance(pipe, (str, Path))
    base = Request(prompt=texts[0], **fields, **({"model": pipe} if named else {}))
    if checked.out is None:
        place = Path(tempfile.mkdtemp(prefix="noisewright-"))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    else:
        place = check_directory(checked.out, "out")
    with quiet():
        many = PromptRuns.of(
            base, texts, place, pipe=None if named else pipe, executor=executor, arguments=arguments, **given
        )
    return _shown(many, progress, checked.pictures)


def _shown(many: PromptRuns, progress: bool | None, pictures: bool) -> Iterator[PromptRun]:
    with quiet(), displayed(progress) as show:
        yield from many.runs(show, pictures)


def checked_prompts(prompts: Sequence[str] | Path) -> list[str]:
    """Prompts from a list or a file, each checked.

    Raises:
        ValueError, TypeError: in one line.
    """
    if isinstance(prompts, Path):
        return read_prompts(prompts, comments=True, distinct=True)
    if isinstance(prompts, (str, bytes)) or not isinstance(prompts, Sequence):
        raise TypeError(f"expected prompts as a list of texts, or a file as a Path, got {short(prompts)}")
    no_more(MOST_PROMPTS, "prompts", prompts)
    if not prompts:
        raise ValueError("expected at least one prompt, got none")
    for number, text in enumerate(prompts, start=1):
        try:
            check_prompt(text)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{error} as prompt {number}") from None
    seen: dict[str, int] = {}
    for number, text in enumerate(prompts, start=1):
        if seen.setdefault(text, number) != number:
            raise ValueError(f"expected each prompt once, got {short(text)} as number {seen[text]} and {number}")
    return list(prompts)


@dataclass(frozen=True)
class PromptRuns:
    """Prompts with the pipeline and all else that their runs share.

    Attributes:
        request: of the first prompt, as it is recorded.
        prompts: all of them.
        place: the directory of the runs' directories.
        pipe: the pipeline, loaded.
        live: verifiers, judges and arguments that were given as objects.
        known: verifiers that were made, by their names.
        decided: how the pipeline's type was decided, where the request left it open.
        executor: who does the work, where that is none by name.
    """

    request: Request
    prompts: Sequence[str]
    place: Path
    pipe: Any
    live: Mapping[str, Any]
    known: dict[str, Any]
    decided: Decided | None = None
    executor: Executor | DealsRuns | None = None

    @classmethod
    def of(
        cls, request: Request, prompts: Sequence[str], place: Path, *, pipe: Any = None,
        executor: Executor | DealsRuns | None = None, **given: Any,
    ) -> PromptRuns:  # fmt: skip
        """Check what all runs share, and load the pipeline.

        Args:
            request: with any of the prompts.
            prompts: all of them.
            place: the directory of the runs' directories.
            pipe: the pipeline, where it is loaded already.
            executor: who does the work, in place of whom the request names; it can be dealt runs.
            given: verifiers, judges and arguments, as :func:`noisewright.planning.plan` takes them.

        Raises:
            ValueError, TypeError: in one line.
        """
        if request.class_label is not None:
            raise ValueError(f"expected no class_label beside prompts, got {short(request.class_label)}")
        if is_run(place):
            raise ValueError(f"expected a directory of runs, got {place}, which is a run")
        recorded, live = recordable(request, pipe=pipe, **given)
        begun = (_directory(place, number, text) for number, text in enumerate(prompts, start=1))
        first = next((one for one in begun if is_run(one)), None) if recorded.dtype == AUTO else None
        recorded = recorded if first is None else as_recorded(first, recorded)
        reach(executor or registry.make_executor(recorded.executor))
        loaded = load_requested(recorded) if pipe is None else pipe
        decided = decided_dtype(recorded, loaded)
        return cls(settled(recorded, loaded), prompts, place, loaded, live, {}, decided, executor)

    def placed(self, place: Path) -> PromptRuns:
        """The same in another directory."""
        return replace(self, place=place)

    def directory(self, number: int) -> Path:
        """The run directory of the prompt of a number, from 1."""
        return _directory(self.place, number, self.prompts[number - 1])

    def request_of(self, number: int) -> Request:
        return self.request.changed(prompt=self.prompts[number - 1])

    def plan(self, number: int) -> Plan:
        """The plan of the prompt of a number.

        Raises:
            ValueError, TypeError: in one line.
        """
        doer = self.executor or self.request.executor
        shared = isinstance(registry.make_executor(doer) if isinstance(doer, str) else doer, DealsRuns)
        return plan_on(
            self.request_of(number), self.pipe, known=self.known, decided=self.decided, shared=shared, **self.live
        )

    def runs(self, show: Show | None, pictures: bool = True) -> Iterator[PromptRun]:
        """Run them; after Ctrl-C those that were interrupted are the last.

        Args:
            show: is told how far all of it is.
            pictures: whether to draw pictures of each run.

        Raises:
            ValueError, TypeError: what the first prompts are refused with alike: it is about the settings; and, before
                anything is spent, where the directory holds a run of other settings.
            KeyboardInterrupt: where nothing of the run in hand is finished.
        """
        self._check_same()
        executor = self.executor or registry.make_executor(self.request.executor)
        if isinstance(executor, DealsRuns):
            yield from self._dealt(executor, show, pictures)
            return
        part = None if show is None else parts_of(show, len(self.prompts))
        for one in self._planned():
            if not isinstance(one, PromptRun):
                number, plan = one
                one = self._run(number, plan, None if part is None else RunProgress(part(number)), pictures)
            yield one
            if one.status == "interrupted":
                return

    def _dealt(self, executor: DealsRuns, show: Show | None, pictures: bool) -> Iterator[PromptRun]:
        """Run them side by side, each planned here and run by whichever worker is free."""
        planned = self._planned()
        first = next(planned, None)  # what is wrong with the settings is said before there are workers
        on_gpu = str(getattr(self.pipe, "device", "cpu")).startswith("cuda")
        with ended_gently() as ending, executor.apart(on_gpu) as workers:
            telling = Together(show, len(self.prompts), ending)

            def run(one: PromptRun | tuple[int, Plan], place: int) -> Iterator[PromptRun]:
                if not isinstance(one, PromptRun):
                    number, plan = one
                    plan.give_to(workers[place])
                    one = self._run(number, plan, telling.of(number), pictures)
                telling.end(one.number)
                yield one

            yield from dealt(chain([] if first is None else [first], planned), len(workers), run, ending)

    def _planned(self) -> Iterator[PromptRun | tuple[int, Plan]]:
        """What is to be run, with its number; and what was run before or cannot be.

        Raises:
            ValueError, TypeError: what the first prompts are refused with alike.
        """
        held: PromptRun | None = None  # the first, where it could not be planned
        for number in range(1, len(self.prompts) + 1):
            found = self._found(number)
            if found is None:
                try:
                    plan = self.plan(number)
                except (ValueError, TypeError, OSError) as error:
                    if number == len(self.prompts) == 1 or (held is not None and held.error == _line(error)):
                        raise
                    found = self._failed(number, error)
                    held = found if number == 1 else None
                    if held is not None:
                        continue
            if held is not None and number == 2:
                yield held
                held = None
            yield (number, plan) if found is None else found

    def _check_same(self) -> None:
        """Refuse a directory with a run of other settings; the model and its like are compared once.

        Raises:
            RunMismatch: naming the first that differs.
        """
        seen = False
        for number in range(1, len(self.prompts) + 1):
            run = self.directory(number)
            if not is_run(run):
                continue
            try:
                held, request = read_run(run), self.request_of(number)
                before = read_request(held.get("request"), str(run))
                changes = {name: getattr(before, name) for name in MAY_CHANGE}
                if seen and before == request.changed(**changes):
                    continue
                spec = self.plan(number).spec
            except (ValueError, TypeError, OSError):  # said when it is opened
                continue
            check_same(run, held["spec"], spec)
            seen = True

    def _found(self, number: int) -> PromptRun | None:
        """A run that was done before, as it is asked for now."""
        run = self.directory(number)
        try:
            if not is_run(run) or not is_concluded(run):
                return None
            held = read_run(run)
            wanted = self.request_of(number)
            if wanted.profile is not None:  # a run records what that one chose
                wanted = self.plan(number).request
            if read_request(held.get("request"), str(run)) != wanted:
                return None
        except (ValueError, TypeError, OSError):  # said when it is opened
            return None
        judges = tuple(one["name"] for one in held["spec"].get("judges", []))
        return PromptRun(number, self.prompts[number - 1], run, "found", None, summary_in(run, held["summary"]), judges)

    def _run(self, number: int, plan: Plan, progress: Callable[[Run], None] | None, pictures: bool) -> PromptRun:
        run = self.directory(number)
        try:
            if is_run(run):
                check_spent(run, parse_budget(plan.budget))
            result = execute(plan, run, progress, pictures=pictures)
        except Stopped as error:
            return PromptRun(number, self.prompts[number - 1], run, "interrupted", error=_line(error))
        except Exception as error:  # of this prompt alone, perhaps: the others are made all the same
            return self._failed(number, error)
        summary = summary_in(run, result.to_json())
        status = "interrupted" if result.interrupted else "done"
        return PromptRun(number, self.prompts[number - 1], run, status, result, summary, result.judges)

    def _failed(self, number: int, error: BaseException) -> PromptRun:
        return PromptRun(number, self.prompts[number - 1], self.directory(number), "failed", error=_line(error))


def _directory(place: Path, number: int, prompt: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:LONGEST_SLUG].strip("-") or "run"
    return place / f"{number:04d}-{slug}"


def _line(error: BaseException) -> str:
    return clean(str(error) or type(error).__name__, 1000)
