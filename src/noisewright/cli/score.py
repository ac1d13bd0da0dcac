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
    from noisewright.run.ranking import Ranking
    from noisewright.verifiers.protocol import Verifier

MOST_LINES = 3
"""Files that are named where none could be scored."""

LONGEST_SHOWN = 60
"""Characters of a prompt in the table."""

Recursive = Annotated[bool, typer.Option("--recursive", help="Read the directories in directories too.")]


Files = Annotated[list[Path], typer.Argument(metavar="FILES...", help="Images, or directories of images.")]
Prompt = Annotated[str | None, typer.Option(help="What the images should show.", metavar="TEXT")]
PromptFrom = Annotated[
    str | None,
    typer.Option(
        help="Each image's own prompt: metadata (of noisewright, A1111 or ComfyUI), sidecar (a .txt or .caption "
        "file of its name), or a .csv or .tsv file of files and prompts.",
        metavar="SOURCE",
    ),
]
CopyTo = Annotated[
    Path | None,
    typer.Option(
        "--copy-to", "--sort-into", help="Copy the images there by rank, as 0001_NAME; new or empty.", metavar="DIR"
    ),
]
Top = Annotated[
    int | None, typer.Option(help="Copy the best K only; by default all that have a score.", min=1, metavar="K")
]


def score(
    files: Files,
    *,
    prompt: Prompt = None,
    prompt_from: PromptFrom = None,
    verifier: Annotated[list[str], typer.Option(help="A name from `list verifiers`; may be repeated.", metavar="NAME")],
    recursive: Recursive = False,
    copy_to: CopyTo = None,
    top: Top = None,
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
    from noisewright.run.ranking import Ranking

    prompts = _prompts(prompt, prompt_from)
    check_device(device, None)
    hush_libraries()
    _forget_warnings()
    if score_cache is not None:
        score_cache = check_directory(score_cache, "--score-cache")
    if top is not None and copy_to is None:
        raise ValueError("expected --copy-to with --top, which says how many are copied, got it without")
    listed = images_in(files, recursive)
    made = copy_to is not None and sorting.claim(copy_to)
    try:
        verifiers, ensemble = _verifiers(verifier, ensemble, score_cache, device)
        found, bad = score_files(listed, prompts, verifiers, ensemble)
        if not found:
            more = f"; and {len(bad) - MOST_LINES} more" if len(bad) > MOST_LINES else ""
            raise ValueError("; ".join(bad[:MOST_LINES]) + more)
    except BaseException:
        if made and copy_to is not None:
            with suppress(OSError):
                copy_to.rmdir()
        raise
    failed = sorting.copy_by_rank(found, copy_to, top) if copy_to is not None else None
    if json:
        names = list(found[0]["scores"])
        into = {} if copy_to is None else {"copied_to": str(copy_to), "sorted_into": str(copy_to)}
        value = Ranking(tuple(names), ensemble).name
        terminal.print_json(
            {"prompt": prompt, "verifiers": names, "value_name": value, "images": found, "errors": bad, **into}
        )
    else:
        _print_scores(found, Ranking(tuple(found[0]["scores"]), ensemble))
    for line in bad:
        terminal.say(line)
    if copy_to is not None:
        _say_copied(found, bad, copy_to, failed, top)
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
    from noisewright.run.ensembles import ENSEMBLES, ensemble_weights, read_ensemble
    from noisewright.samplers.pipeline import best_device
    from noisewright.verifiers.cache import all_cached

    if not ensemble_weights(ensemble) and ensemble not in ENSEMBLES:
        raise ValueError(registry.unknown("ensemble", ensemble, list(ENSEMBLES)))
    no_more(MOST_VERIFIERS, "verifiers", names)
    made = [registry.make_verifier(name, device or best_device()) for name in names]
    recorded = read_ensemble(ensemble, [one.name for one in made])
    return made if score_cache is None else all_cached(made, score_cache), recorded


def _print_scores(found: Sequence[Mapping[str, Any]], ranking: Ranking) -> None:
    """A line for each image, best first, with as many decimals as the spread of a verifier deserves."""
    from noisewright.cli import terminal
    from noisewright.evaluate.numbers import decimals, written
    from noisewright.outside.reading import shown

    names = list(ranking.names)
    columns = {name: [one["scores"][name] for one in found] for name in names}
    headers = [*names, "file"]
    if len(names) > 1:
        columns = {ranking.name: [one["value"] for one in found], **columns}
        headers.insert(0, ranking.name)
    places = {name: decimals(column) for name, column in columns.items()}
    rows = [[*(written(column[row], places[name]) for name, column in columns.items()), shown(one["file"])]
            for row, one in enumerate(found)]  # fmt: skip
    if "prompt" in found[0]:
        headers.append("prompt")
        for cells, one in zip(rows, found, strict=True):
            text = terminal.one_line(one["prompt"])
            cells.append(text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "...")
    terminal.out().print(terminal.table(headers, rows, right=range(len(columns))))


def _say_copied(
    found: Sequence[Mapping[str, Any]], bad: Sequence[str], place: Path, failed: OSError | None, top: int | None
) -> None:
    from noisewright.cli import terminal
    from noisewright.outside.reading import shown

    copies = sum(one["copy"] is not None for one in found)
    scored = sum(one["rank"] is not None for one in found)
    if failed is not None:
        reason, wanted = failed.strerror or str(failed), scored if top is None else min(top, scored)
        terminal.say(f"only {copies} of {terminal.plural(wanted, 'image')} copied into {shown(place)}: {reason}")
        return
    without = len(found) - scored + len(bad)
    left = f", {without} without a score left out" if without else ""
    best = f"the best {copies} of {terminal.plural(scored, 'image')}"
    said = best if copies < scored else terminal.plural(copies, "image")
    terminal.say(f"{said} copied into {shown(place)}{left}")


def _forget_warnings() -> None:
    from noisewright.images import reading as images

    images.said_once.clear()


SaveStatistics = Annotated[
    Path | None, typer.Option(help="Write mean and covariance here (.safetensors or .npz).", metavar="FILE")
]


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
    save_statistics: SaveStatistics = None,
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
