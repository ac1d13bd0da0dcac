"""``noisewright.measure_schedule_errors``: how wrong a model's noise prediction is at each noise level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from noisewright.outside.bounds import MOST_SAMPLES
from noisewright.outside.files import check_directory, check_output
from noisewright.samplers.protocol import Sampler
from noisewright.schemas.schedules import MeasureArguments, WrongArgument, argument, check_arguments
from noisewright.trajectory import images as sources
from noisewright.trajectory.disk_cache import DiskCache, sampler_key
from noisewright.trajectory.errors import ErrorTable
from noisewright.trajectory.measure import Checkpoint, check_count, measure
from noisewright.trajectory.model import PromptedModel, PromptSource, prompted_model, prompts_of, reporting
from noisewright.trajectory.progress import Progress, Report, Work

OWN = "self"
"""In place of images: the model's own samples."""

RECENT = 16
"""Samplers of conditions, with their encoded prompts, that are held at a time."""


def measure_schedule_errors(
    model: Any = "noisewright/shapes",
    images: str | Path | Sequence[str | Path] = OWN,
    *,
    recursive: bool = False,
    levels: int = 50,
    count: int = 1000,
    stride: int = 2,
    prompts: PromptSource | None = None,
    guidance_scale: float = 1.0,
    seed: int = 0,
    batch_size: int = 64,
    out: str | Path | None = None,
    keep: str | Path | None = None,
    device: str | None = None,
    dtype: Any = None,
    progress: bool | Callable[[Progress], None] | None = None,
) -> ErrorTable:
    """Measure a model's prediction errors by noise level, which ``fit_schedule(..., method="vrg")`` starts from.

    Cost, in guided network calls: ``count x levels / stride``, and with the model's own samples those of making them.

    Args:
        model: as :func:`noisewright.fit_schedule` takes it.
        images: directories and .parquet files of what the model was made for, or ``self`` for its own samples. What
            they show is read from .txt or .caption files beside them or a column prompt, caption, text or label.
        recursive: read the directories in directories too.
        levels: how many noise levels, even in time, 5 to 1,000.
        count: images at most; at least two at each level.
        stride: ask of each image at every Nth level only; 1 is all.
        prompts: prompts or classes: of images that come without, where there is one, and of the model's own samples;
            by default every class, else the empty prompt.
        guidance_scale: of the prediction that is measured; 1 is the network's own.
        seed: of the noise and of the model's own samples.
        batch_size: images at once.
        out: where to write the table too, as JSON.
        keep, device, dtype, progress: as in :func:`noisewright.fit_schedule`; half a minute at most is lost.

    Returns:
        The table: ``levels`` with the error's mean square, bias, skew and kurtosis; ``save(file)`` writes it.

    Raises:
        ValueError, TypeError: wrong use, in one line.
    """
    listed = [images] if isinstance(images, (str, Path)) else images
    given = check_arguments(
        MeasureArguments, images=list(listed) if isinstance(listed, (list, tuple)) else listed, recursive=recursive,
        levels=levels, count=count, stride=stride, guidance_scale=guidance_scale, seed=seed,
        batch_size=batch_size, out=out, keep=keep, device=device, dtype=dtype, progress=progress,
    )  # fmt: skip
    paths = _paths(given)
    check_count(given.count, given.stride)
    file = None if given.out is None else check_output(given.out, "out")
    cache = DiskCache(None if given.keep is None else check_directory(given.keep, "keep"))
    with reporting(given.progress) as report:
        return _measured(given, prompts_of(prompts), model, paths, cache, file, report)


def _measured(
    given: MeasureArguments, prompts: list[str] | None, model: Any, paths: list[Path], cache: DiskCache,
    file: Path | None, report: Report | None,
) -> ErrorTable:  # fmt: skip
    """The table of arguments that are checked."""
    loaded = prompted_model(model, prompts, given.guidance_scale, given.device, given.dtype)
    loaded = loaded.with_default_prompts()
    make = lru_cache(maxsize=RECENT)(loaded.sampler)
    known = list(loaded.prompts)
    checkpoint = Checkpoint(
        cache, sampler_key(make(known[0])), known, sources.stamps(paths, given.recursive), given.count,
        given.batch_size, given.levels, given.stride, given.seed,
    )  # fmt: skip
    work = Work(given.count, report)
    work.begin(
        "measuring", given.count, "images", f"going on after {checkpoint.done} images" if checkpoint.done else ""
    )
    work.spend(checkpoint.done, False)
    work.count(checkpoint.done)
    table = measure(
        make, _examples(loaded, make, paths, given, checkpoint.done), levels=given.levels, stride=given.stride,
        seed=given.seed, source=", ".join(given.images or [OWN]), checkpoint=checkpoint,
        progress=_counting(work, checkpoint.done),
        settings={"guidance_scale": given.guidance_scale, "count": given.count, "prompts": len(known)},
    )  # fmt: skip
    if file is not None:
        table.save(file)
    checkpoint.finish()
    return table


def _paths(given: MeasureArguments) -> list[Path]:
    """The files and directories of images; none where the model is to make its own.

    Raises:
        WrongArgument: where one is not there, or stands beside the model's own samples.
    """
    wanted = given.images or [OWN]
    if OWN not in wanted:
        for one in wanted:
            if not Path(one).exists():
                raise WrongArgument(
                    f"expected {argument('images')} as a directory, a .parquet file or self, got {one}, which is not "
                    "there"
                )
        return [Path(one) for one in wanted]
    if len(wanted) > 1:
        raise WrongArgument(f"expected {argument('images')} self alone, got {', '.join(wanted)}")
    if given.count > MOST_SAMPLES:
        raise WrongArgument(f"expected {argument('count')} of at most {MOST_SAMPLES} of the model's own samples")
    return []


def _examples(
    loaded: PromptedModel, make: Callable[[str], Sampler], paths: Sequence[Path], given: MeasureArguments, skip: int
) -> Iterator[sources.Example]:
    known = loaded.prompts
    if not paths:
        guided = lru_cache(maxsize=RECENT)(loaded.with_own_guidance().sampler)
        return sources.own_samples(guided, known, count=given.count, batch=given.batch_size, seed=given.seed, skip=skip)
    default = known[0] if len(known) == 1 else None
    return sources.from_files(
        paths, make, default, count=given.count, batch=given.batch_size, skip=skip, recursive=given.recursive
    )


def _counting(work: Work, done: int) -> Callable[[int], None]:
    """What is called with the number of images so far."""
    before = done

    def progress(now: int) -> None:
        nonlocal before
        work.spend(now - before)
        work.count(now - before)
        before = now

    return progress
