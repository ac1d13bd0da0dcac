"""Distribution metrics of images on disk: what ``noisewright evaluate`` computes and prints."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisewright.evaluate.distribution import fid_interval, inception_score, kid, manifold
from noisewright.evaluate.folders import images_in
from noisewright.evaluate.scoring import PIXELS_AT_ONCE
from noisewright.images.reading import decode_image, read_image
from noisewright.measures.statistics import SUFFIXES, FeatureStatistics, check_same_network, check_suffix
from noisewright.outside.files import check_output
from noisewright.outside.messages import did_you_mean, first_line, short
from noisewright.outside.reading import open_regular, refused, shown
from noisewright.run.reading import is_run
from noisewright.verifiers.features import AT_ONCE, Features, feature_network

METRICS = ("fid", "kid", "is", "precision", "recall", "density", "coverage")
OF_RUNS = ("best", "baseline", "all")
"""Which images of a run count."""

MANIFOLD = {"precision", "recall", "density", "coverage"}
COLUMNS = ("img", "image")
MOST_KID = 1000
"""Images in a KID subset, where there are as many."""


def metric_names(text: str | None) -> tuple[str, ...] | None:
    """The metrics of a list with commas; None stands for all that can be measured.

    Raises:
        ValueError: on an unknown name.
    """
    if text is None:
        return None
    wanted = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for name in wanted or ("",):
        if name not in METRICS:
            near = did_you_mean(name, METRICS)
            raise ValueError(f"unknown metric {short(name)}: expected some of {', '.join(METRICS)}{near}")
    return wanted


def population(paths: Sequence[Path], of: str = "best", recursive: bool = False, *, quiet: bool = False) -> list[Path]:
    """The files of a set: images, directories of images, .parquet files, runs and directories of runs.

    Args:
        paths: what was given.
        of: which images of a run count: ``best``, ``baseline`` or ``all`` its candidates.
        recursive: read sub-directories too, whatever is in them.
        quiet: say nothing of files that are skipped.

    Raises:
        ValueError: on a path that is not there or holds no images, or a run that has not ended.
    """
    given: list[Path] = []
    for path in paths:
        try:
            path.stat()
        except OSError as error:
            raise refused(path, "images, a directory or a .parquet file", error) from None
        runs = [] if recursive or is_run(path) else sorted(one.parent for one in path.glob("*/run.json"))
        given += runs or [path]
    return images_in(given, recursive, of=of, quiet=quiet)


def image_batches(files: Sequence[Path], bad: list[str], size: int = AT_ONCE) -> Iterator[list[np.ndarray]]:
    """Images (height, width, 3) uint8 in batches; ``bad`` collects a line for each that cannot be read.

    A batch holds at most ``size`` images, and at most :data:`~noisewright.evaluate.scoring.PIXELS_AT_ONCE` pixels where
    it holds more than one.

    Raises:
        ValueError: on a .parquet file without a column of images, or without pyarrow.
    """
    held: list[np.ndarray] = []
    pixels = 0
    for file in files:
        for image in _parquet_images(file, bad) if file.suffix == ".parquet" else _image(file, bad):
            more = image.shape[0] * image.shape[1]
            if held and (len(held) == size or pixels + more > PIXELS_AT_ONCE):
                yield held
                held, pixels = [], 0
            held.append(image)
            pixels += more
    if held:
        yield held


def evaluate_images(
    paths: Sequence[Path],
    features: str | Path | Callable[[Any], Features],
    metrics: str | None = None,
    *,
    reference: Path | None = None,
    of: str = "best",
    recursive: bool = False,
    neighbours: int = 3,
    interval: bool = False,
    save_statistics: Path | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Metrics of a set of images against a reference.

    Args:
        paths: as for :func:`population`.
        features: a model for :class:`~.FeatureNetwork`, or any callable ``images -> Features`` with
            a ``fingerprint``.
        metrics: some of :data:`METRICS` with commas; by default those that can be measured, without density and
            coverage.
        reference: a directory, a .parquet file, a run, or saved statistics, which allow ``fid`` alone.
        of: which images of runs count.
        recursive: read sub-directories too.
        neighbours: k of precision, recall, density and coverage.
        interval: add a bootstrap interval of the FID.
        save_statistics: write the set's statistics there.
        device: where the network runs.

    Returns:
        ``images`` and ``reference_images`` (counts), ``features`` (their number), ``network`` (its fingerprint),
        ``metrics`` (values by name, with what belongs to them), ``statistics`` (the file that was written) and
        ``errors``: a line for each image that could not be read.

    Raises:
        ValueError: on what cannot be compared, or is too small to be measured.
    """
    wanted = metric_names(metrics)
    if of not in OF_RUNS:
        raise ValueError(f"expected {', '.join(OF_RUNS)} of a run, got {short(of)}")
    if save_statistics is not None:
        check_suffix(save_statistics)
    saved = check_output(save_statistics, "--save-statistics") if save_statistics is not None else None
    files = population(paths, of, recursive)
    known = FeatureStatistics.load(reference) if reference is not None and reference.suffix in SUFFIXES else None
    reference_files = population([reference], of, recursive) if reference is not None and known is None else []
    network = feature_network(features, device)
    fingerprint: str = getattr(network, "fingerprint", "")
    has_classes = bool(getattr(network, "labels", True))
    chosen = _chosen(wanted, reference, bool(reference_files), has_classes)
    if not chosen and save_statistics is None:
        raise ValueError("nothing to measure: expected --reference, or a network with classes, or --save-statistics")
    if known is not None:
        check_same_network(FeatureStatistics(fingerprint), known)

    bad: list[str] = []
    pairs = bool((MANIFOLD | {"kid"}) & set(chosen))
    statistics, rows, probabilities = _gather(files, network, bad, pairs or interval, "is" in chosen)
    other = None
    if reference_files and set(chosen) - {"is"}:
        known, other, _ = _gather(reference_files, network, bad, pairs, False)
    values: dict[str, Any] = {}
    if "fid" in chosen and known is not None:
        values["fid"] = statistics.distance(known)
        if interval and rows is not None:
            values["fid_interval"] = list(fid_interval(rows, known))
    if "kid" in chosen and rows is not None and other is not None:
        values.update(_kid(rows, other))
    if "is" in chosen and probabilities is not None:
        values["is"], values["is_deviation"] = inception_score(probabilities, splits=min(10, len(probabilities)))
    if MANIFOLD & set(chosen) and rows is not None and other is not None:
        found = asdict(manifold(rows, other, k=neighbours))
        values.update({name: found[name] for name in chosen if name in found})
    if saved is not None:
        statistics.save(saved)
    return {
        "images": statistics.count,
        "reference_images": known.count if known is not None else None,
        "features": len(statistics.mean),
        "network": fingerprint,
        "metrics": values,
        "statistics": str(save_statistics) if save_statistics is not None else None,
        "errors": bad,
    }


def _chosen(wanted: Sequence[str] | None, reference: Path | None, images: bool, has_classes: bool) -> tuple[str, ...]:
    """The metrics to measure, after a look at what there is to measure them with.

    Raises:
        ValueError: where one that was asked for cannot be.
    """
    found = []
    for name in METRICS if wanted is None else wanted:
        if name == "is":
            lacks = "" if has_classes else "a classifier, got a feature network without classes"
        elif reference is None:
            lacks = "--reference: a directory, a .parquet file or saved statistics"
        else:
            lacks = "" if images or name == "fid" else f"the reference's images, got statistics alone: {reference}"
        if lacks and wanted is not None:
            raise ValueError(f"metric {name} needs {lacks}")
        if not lacks and (wanted is not None or name not in ("density", "coverage")):
            found.append(name)
    return tuple(found)


def _gather(
    files: Sequence[Path],
    network: Callable[[Any], Features],
    bad: list[str],
    keep_features: bool,
    keep_probabilities: bool,
) -> tuple[FeatureStatistics, Tensor | None, Tensor | None]:
    """Statistics of the files' images, and what of them is asked for image by image, in float32."""
    statistics = FeatureStatistics(getattr(network, "fingerprint", ""))
    features: list[Tensor] = []
    probabilities: list[Tensor] = []
    for images in image_batches(files, bad):
        given = network(images)
        statistics.add(given.features)
        if keep_features:
            features.append(given.features.float())
        if keep_probabilities:
            if given.probabilities is None:
                raise ValueError("metric is needs a classifier, got features without probabilities")
            probabilities.append(given.probabilities.float())
    if not statistics.count:
        raise ValueError("; ".join(bad[:3]) or "expected images, got none")
    return statistics, _whole(features), _whole(probabilities)


def _whole(parts: list[Tensor]) -> Tensor | None:
    return torch.cat(parts) if parts else None


def _kid(features: Tensor, other: Tensor) -> dict[str, Any]:
    """Subsets of 1,000 where both sides have more, else of half the smaller side, so that there is an error."""
    least = min(len(features), len(other))
    found = kid(features, other, size=MOST_KID if least > MOST_KID else max(2, least // 2))
    error = None if math.isnan(found.standard_error) else found.standard_error
    return {"kid": found.value, "kid_standard_error": error, "kid_subset_size": found.size}


def _image(file: Path, bad: list[str]) -> Iterator[np.ndarray]:
    try:
        yield read_image(file)[0]
    except ValueError as error:
        bad.append(str(error))


def _parquet_images(file: Path, bad: list[str]) -> Iterator[np.ndarray]:
    for number, (data, _) in enumerate(parquet_rows(file)):
        name = f"row {number} of {file}"
        if not isinstance(data, bytes):
            bad.append(f"expected an encoded image, got {type(data).__name__} in {name}")
            continue
        try:
            yield decode_image(io.BytesIO(data), name)[0]
        except ValueError as error:
            bad.append(str(error))


def parquet_rows(file: Path, beside: Sequence[str] = ()) -> Iterator[tuple[Any, str | None]]:
    """What a hub-style parquet file holds in its column ``img`` or ``image``: encoded bytes, where it is well.

    Args:
        file: the file.
        beside: columns of text or numbers; the first that is there is given besides.

    Yields:
        The bytes (or whatever else is there) and the text of the other column, None where there is none or it is null.

    Raises:
        ValueError: where it is no such file, or pyarrow is not installed.
    """
    with open_regular(file, "a parquet file") as source:
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise ValueError(f"reading {shown(file)} needs pyarrow: pip install 'noisewright[data]'") from None
        try:
            yield from _rows_of(parquet.ParquetFile(source), file, beside)
        except (OSError, ArrowException) as error:
            first = first_line(error)
            raise ValueError(f"expected a parquet file, got {shown(file)}: {first}") from None


def _rows_of(opened: Any, file: Path, beside: Sequence[str]) -> Iterator[tuple[Any, str | None]]:
    names = opened.schema_arrow.names
    column = next((name for name in COLUMNS if name in names), None)
    if column is None:
        raise ValueError(f"expected a column {' or '.join(COLUMNS)} in {shown(file)}, got {', '.join(names)}")
    said = next((name for name in beside if name in names), None)
    wanted = [column] if said is None else [column, said]
    for part in opened.iter_batches(batch_size=AT_ONCE, columns=wanted):
        for row in part.to_pylist():
            data = row[column].get("bytes") if isinstance(row[column], dict) else row[column]
            note = None if said is None else row[said]
            yield data, None if note is None else str(note)
