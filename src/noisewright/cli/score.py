"""``noisewright score`` and ``noisewright evaluate``: what existing images are worth, one by one and as a set.

As in :mod:`noisewright.cli`, nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisewright.cli import options
from noisewright.cli.exits import Ended
from noisewright.cli.libraries import hush_libraries, is_watched
from noisewright.cli.requests import check_device

if TYPE_CHECKING:
    from noisewright.verifiers.protocol import Verifier

MOST_LINES = 3
"""Files that are named where none could be scored."""

LONGEST_SHOWN = 60
"""Characters of a prompt in the table."""

Recursive = Annotated[bool, typer.Option("--recursive", help="Read the directories in directories too.")]


def score(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Images, or directories of images.")],
    *,
    prompt: Annotated[str | None, typer.Option(help="What the images should show.", metavar="TEXT")] = None,
    prompt_from: Annotated[
        str | None,
        typer.Option(
            help="Each image's own prompt: metadata (of noisewright, A1111 or ComfyUI), sidecar (a .txt or .caption "
            "file of its name), or a .csv or .tsv file of files and prompts.",
            metavar="SOURCE",
        ),
    ] = None,
    verifier: Annotated[list[str], typer.Option(help="A name from `list verifiers`; may be repeated.", metavar="NAME")],
    recursive: Recursive = False,
    sort_into: Annotated[
        Path | None,
        typer.Option(help="Copy the images there by rank, as 0001_NAME; new or empty.", metavar="DIR"),
    ] = None,
    ensemble: options.Ensemble = "rank",
    score_cache: options.ScoreCache = None,
    device: options.Device = None,
    json: options.Json = False,
) -> Any:
    """Score existing images, best first."""
    from noisewright.cli import terminal
    from noisewright.evaluate import sorting
    from noisewright.evaluate.folders import images_in
    from noisewright.evaluate.scoring import score_files
    from noisewright.outside.files import check_directory

    prompts = _prompts(prompt, prompt_from)
    check_device(device, None)
    hush_libraries()
    _forget_warnings()
    if score_cache is not None:
        score_cache = check_directory(score_cache, "--score-cache")
    listed = images_in(files, recursive)
    made = sort_into is not None and sorting.claim(sort_into)
    try:
        verifiers, ensemble = _verifiers(verifier, ensemble, score_cache, device)
        found, bad = score_files(listed, prompts, verifiers, ensemble)
        if not found:
            more = f"; and {len(bad) - MOST_LINES} more" if len(bad) > MOST_LINES else ""
            raise ValueError("; ".join(bad[:MOST_LINES]) + more)
    except BaseException:
        if made and sort_into is not None:
            with suppress(OSError):
                sort_into.rmdir()
        raise
    failed = sorting.copy_by_rank(found, sort_into) if sort_into is not None else None
    if json:
        names = list(found[0]["scores"])
        into = {} if sort_into is None else {"sorted_into": str(sort_into)}
        terminal.print_json({"prompt": prompt, "verifiers": names, "images": found, "errors": bad, **into})
    else:
        _print_scores(found)
    for line in bad:
        terminal.say(line)
    if sort_into is not None:
        _say_sorted(found, bad, sort_into, failed)
    return Ended(1) if failed else Ended(2) if bad else None


def _prompts(prompt: str | None, prompt_from: str | None) -> str | Callable[[Path, Mapping[str, Any]], str]:
    """The one prompt of all images, or what gives each its own."""
    from noisewright.evaluate.captions import prompt_source
    from noisewright.outside.reading import shown
    from noisewright.schemas.request import check_prompt

    if prompt is not None and prompt_from is not None:
        raise ValueError("expected --prompt or --prompt-from, got both")
    if prompt_from is None:
        if prompt is None:
            raise ValueError("expected --prompt or --prompt-from, got neither (see: noisewright score --help)")
        check_prompt(prompt)
        return prompt
    source = prompt_source(prompt_from)

    def checked(path: Path, info: Mapping[str, Any]) -> str:
        found = source(path, info)
        try:
            check_prompt(found)
        except ValueError as error:
            raise ValueError(f"{error}, of {shown(path)}") from None
        return found

    return checked


def _verifiers(
    names: Sequence[str], ensemble: str, score_cache: Path | None, device: str | None
) -> tuple[list[Verifier], str]:
    """The verifiers, and the ensemble as it is recorded."""
    from noisewright import registry
    from noisewright.outside.bounds import MOST_VERIFIERS, no_more
    from noisewright.run.particle import ENSEMBLES, ensemble_weights, read_ensemble
    from noisewright.samplers.pipeline import best_device
    from noisewright.verifiers.cache import all_cached

    if not ensemble_weights(ensemble) and ensemble not in ENSEMBLES:
        raise ValueError(registry.unknown("ensemble", ensemble, list(ENSEMBLES)))
    no_more(MOST_VERIFIERS, "verifiers", names)
    made = [registry.make_verifier(name, device or best_device()) for name in names]
    recorded = read_ensemble(ensemble, [one.name for one in made])
    return made if score_cache is None else all_cached(made, score_cache), recorded


def _print_scores(found: Sequence[Mapping[str, Any]]) -> None:
    from noisewright.cli import terminal
    from noisewright.outside.reading import shown

    names = list(found[0]["scores"])
    headers = [*names, "file"]
    rows = [[*(terminal.number(one["scores"][name]) for name in names), shown(one["file"])] for one in found]
    if "prompt" in found[0]:
        headers.append("prompt")
        for row, one in zip(rows, found, strict=True):
            text = terminal.one_line(one["prompt"])
            row.append(text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "...")
    terminal.out().print(terminal.table(headers, rows, right=range(len(names))))


def _say_sorted(found: Sequence[Mapping[str, Any]], bad: Sequence[str], place: Path, failed: OSError | None) -> None:
    from noisewright.cli import terminal
    from noisewright.outside.reading import shown

    copies = sum(one["copy"] is not None for one in found)
    if failed is not None:
        scored = sum(one["rank"] is not None for one in found)
        reason = failed.strerror or str(failed)
        terminal.say(f"only {copies} of {terminal.plural(scored, 'image')} copied into {shown(place)}: {reason}")
        return
    without = len(found) - copies + len(bad)
    left = f", {without} without a score left out" if without else ""
    terminal.say(f"{terminal.plural(copies, 'image')} copied into {shown(place)}{left}")


def _forget_warnings() -> None:
    from noisewright.images import reading as images

    images.told.clear()


def evaluate(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help="Directories of images, .parquet files, runs or directories of runs.",
            show_default=False,
        ),
    ],
    features: Annotated[
        str,
        typer.Option(help="The feature network: a classifier or a CLIPModel.", metavar="ID|DIR", show_default=False),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(help="Real images: a directory, a .parquet file, or saved statistics.", metavar="DIR|FILE"),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Of fid,kid,is,precision,recall,density,coverage; by default what can be measured of the first five.",
            metavar="NAMES",
        ),
    ] = None,
    of: Annotated[str, typer.Option(help="Which images of a run: best, baseline or all.", metavar="NAME")] = "best",
    recursive: Recursive = False,
    neighbours: Annotated[int, typer.Option(help="k of precision and recall.", min=1, metavar="K")] = 3,
    interval: Annotated[bool, typer.Option("--interval", help="Add a bootstrap interval of the FID.")] = False,
    save_statistics: Annotated[
        Path | None,
        typer.Option(help="Write mean and covariance here (.safetensors or .npz).", metavar="FILE"),
    ] = None,
    device: options.Device = None,
    json: options.Json = False,
) -> Any:
    """Measure a set of images: FID, KID, Inception Score, precision and recall.

    Measures of thousands of images; values of two feature networks, or of two numbers of images, cannot be compared.
    """
    from noisewright import registry
    from noisewright.cli import terminal

    check_device(device, None)
    from noisewright.evaluate.population import evaluate_images
    from noisewright.samplers.pipeline import best_device

    hush_libraries()
    _forget_warnings()
    with terminal.waiting("measuring ...", is_watched(json)):
        found = evaluate_images(
            images, registry.find_model(features), metrics, of=of, recursive=recursive, neighbours=neighbours,
            reference=None if reference is None else registry.find_file(reference), interval=interval,
            save_statistics=save_statistics, device=device or best_device(),
        )  # fmt: skip
    if json:
        terminal.print_json(found)
    else:
        terminal.print_metrics(found)
    for line in found["errors"]:
        terminal.say(line)
    return Ended(2) if found["errors"] else None
