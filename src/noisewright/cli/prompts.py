"""``noisewright generate --prompt-file``: a run for each prompt of a file, in one process, with one display."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisewright.cli import output
from noisewright.cli.exits import Ended, Interrupted
from noisewright.cli.libraries import hush_libraries, is_watched, loading, share_processors, warn
from noisewright.cli.requests import check_device
from noisewright.cli.runs import new_directory
from noisewright.evaluate.numbers import decimals, gained, written
from noisewright.outside.files import check_directory
from noisewright.outside.texts import clean
from noisewright.run.directory import summary_in

if TYPE_CHECKING:
    from noisewright.many import PromptRun, PromptRuns
    from noisewright.request import Request

LONGEST_SHOWN = 60
"""Characters of a prompt in the table."""


def run_prompts(request: Request, prompts: Sequence[str], name: str, out: Path | None, as_json: bool) -> Ended | None:
    """Run a request for each prompt, and print a table of what came of them.

    Args:
        request: with any of the prompts.
        prompts: all of them.
        name: what to call a new directory after.
        out: where the runs' directories are made; by default a new one in ``runs``.
        as_json: whether to print one JSON object.
    """
    from noisewright.request import check_names

    here = Path.cwd()  # a verifier may change the working directory
    if out is not None:
        check_directory(out)
    check_names(request)
    share_processors()
    from noisewright.cli import progress, terminal

    claimed = out is None
    place = here / out if out is not None else here / "runs"
    with loading(), terminal.waiting(f"loading {request.model} ...", is_watched(as_json)):
        check_device(request.device, None)
        from noisewright.many import PromptRuns

        hush_libraries()
        runs = PromptRuns.of(request, prompts, place)
    if out is None:
        out = new_directory(here, name)
        runs = runs.placed(here / out)
    found: list[PromptRun] = []
    stopped = False
    try:
        with progress.shown(as_json) as show:
            for one in runs.runs(show):
                found.append(one)
                _say(one, runs.place, out)
    except KeyboardInterrupt:
        stopped = True
    except (ValueError, TypeError) as error:
        if claimed:
            _remove(here / out)
        raise _as_typed(error, runs.place, out) from None
    found.sort(key=lambda one: one.number)  # side by side they end in another order
    return _finished(runs, found, out, stopped, as_json)


def _finished(runs: PromptRuns, found: Sequence[PromptRun], out: Path, stopped: bool, as_json: bool) -> Ended | None:
    """Print what came of the prompts; the exit code says whether all of them were made."""
    failed = [one for one in found if one.status == "failed"]
    stopped = stopped or any(one.status == "interrupted" for one in found)
    _print(runs, found, out, as_json)
    again = "the same command with --out " + str(out) + " goes on"
    if stopped:
        made = sum(one.status in ("done", "found") for one in found)
        raise Interrupted(f"interrupted after {made} of {len(runs.prompts)} prompts; {again}")
    if failed:
        count = f"{len(failed)} of {len(runs.prompts)} prompts" if len(runs.prompts) > 1 else "the prompt"
        from noisewright.cli import terminal

        terminal.say(f"{count} failed (the first: {clean(failed[0].prompt, LONGEST_SHOWN)}); {again}")
        return Ended(1)
    return None


def _say(one: PromptRun, place: Path, out: Path) -> None:
    """What is to be known of a run at once: why it failed, and its warnings, with the prompt that they are about."""
    from noisewright.cli import terminal

    about = clean(one.prompt, LONGEST_SHOWN)
    if one.error is not None:
        terminal.say(f"{about}: {one.error.replace(str(place), str(out))}")
    elif one.summary is not None and one.status != "found":
        for text in one.summary.get("warnings", []):
            warn(f"{about}: {text.replace(str(place), str(out))}")


def _print(runs: PromptRuns, found: Sequence[PromptRun], out: Path, as_json: bool) -> None:
    from noisewright.cli import terminal

    if as_json:
        terminal.print_json({"out": str(out), "prompts": len(runs.prompts),
                             "runs": [_as_json(one, runs.place, out) for one in found]})  # fmt: skip
        return
    if found:
        terminal.out().print(_table(found))
    output.print_line(str(out))


def _as_json(one: PromptRun, place: Path, out: Path) -> dict[str, Any]:
    """One run for ``--json``: what ``generate --json`` prints of it, with its prompt and how it went."""
    run = out / one.run.name
    about: dict[str, Any] = {"number": one.number, "prompt": one.prompt, "status": one.status, "run": str(run)}
    if one.error is not None:
        return {**about, "error": one.error.replace(str(place), str(out))}
    summary = summary_in(run, one.summary or {})
    summary["warnings"] = [text.replace(str(place), str(out)) for text in summary.get("warnings", [])]
    return {**summary, **about}


def _table(found: Sequence[PromptRun]) -> Any:
    """A row for each prompt: the best's scores, by how much they are above the baseline's, and where it is."""
    from noisewright.cli import terminal

    names = list(dict.fromkeys(name for one in found for name in _scores(one, "best")))
    places = {
        name: decimals(_scores(one, key).get(name) for one in found for key in ("best", "baseline")) for name in names
    }
    rows = []
    for one in found:
        cells = []
        for name in names:
            best, baseline = _scores(one, "best").get(name), _scores(one, "baseline").get(name)
            change = gained(baseline, best, places[name])
            text = "" if best is None else written(best, places[name])
            cells.append(f"{text} ({change})" if change else text)
        rows.append([clean(one.prompt, LONGEST_SHOWN), *cells, one.status, one.run.name])
    return terminal.table(["prompt", *names, "", "run"], rows, right=range(1, len(names) + 1))


def _scores(one: PromptRun, key: str) -> dict[str, float | None]:
    """The scores of a run's best or baseline; none of a run that failed."""
    return dict(((one.summary or {}).get(key) or {}).get("scores", {}))


def _remove(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()


def _as_typed(error: Exception, place: Path, out: Path) -> Exception:
    """The error with the directory as it was typed in its message."""
    if len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (error.args[0].replace(str(place), str(out)),)
    return error
