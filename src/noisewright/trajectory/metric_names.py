"""Metrics by what people write: ``teacher``, ``fid``, a verifier by its name, or one that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noisewright import registry
from noisewright.measures.statistics import FeatureStatistics, check_same_network
from noisewright.outside import bounds
from noisewright.outside.messages import short
from noisewright.samplers.load import best_device
from noisewright.schemas.schedules import WrongArgument, argument
from noisewright.trajectory.disk_cache import DiskCache
from noisewright.trajectory.metrics import ByVerifier, Fid, Metric, Teacher
from noisewright.verifiers.cache import why_not_lasting
from noisewright.verifiers.features import FeatureNetwork
from noisewright.verifiers.protocol import as_verifier, is_lasting

TEACHER, FID = "teacher", "fid"


def check_metrics(metric: Any, features: str | None, reference: str | None) -> list[Any]:
    """What a person names as one metric or several, as a list; nothing is loaded.

    Args:
        metric: a name, a function ``(images, prompt) -> scores``, a verifier, a :class:`~.Metric`, or a list of these.
        features: for fid, the feature network.
        reference: for fid, saved statistics of real images.

    Raises:
        ValueError, TypeError: in one line, on a name that there is not, or a FID without its network and reference.
    """
    given = list(metric) if isinstance(metric, (list, tuple)) else [metric]
    found = [one for n, one in enumerate(given) if one not in given[:n]]
    if not found:
        raise ValueError("expected a metric (teacher, fid or a verifier), got none")
    bounds.no_more(bounds.MOST_VERIFIERS, "metrics", found)
    for one in found:
        if isinstance(one, str):
            _check_name(one, features, reference)
        elif not isinstance(one, Metric):
            as_verifier(one)
    return found


def _check_name(name: str, features: str | None, reference: str | None) -> None:
    if name == FID:
        if features is None or reference is None:
            raise WrongArgument(f"metric fid needs {argument('features')} and {argument('reference')}, got not both")
        if not registry.find_file(reference).is_file():
            raise ValueError(f"expected statistics of real images, got {reference}, which does not exist")
    elif name != TEACHER and registry.from_file(name) is None:
        known = registry.names("verifier")
        if name.partition(":")[0] not in known:
            raise ValueError(registry.unknown("metric", name, list(dict.fromkeys([TEACHER, FID, *known]))))


def make_metrics(
    given: Sequence[Any],
    cache: DiskCache,
    *,
    teacher_steps: int,
    features: str | None,
    reference: str | None,
    device: str | None,
) -> list[Metric]:
    """The metrics of :func:`check_metrics`.

    Raises:
        ValueError: on statistics of another network, or two of one name.
    """
    device = device or best_device()
    there = None if reference is None else registry.find_file(reference).absolute()  # before a verifier goes elsewhere
    found: list[Metric] = []
    for one in given:
        if one == TEACHER:
            found.append(Teacher(teacher_steps, cache))
        elif one == FID:
            assert features is not None and there is not None  # noqa: S101, PT018 - see check_metrics
            found.append(_fid(features, there, device))
        elif isinstance(one, str):
            found.append(ByVerifier(registry.make_verifier(one, device)))
        else:
            found.append(one if isinstance(one, Metric) else ByVerifier(as_verifier(one)))
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        raise ValueError(f"expected metrics of different names, got {short(names)}")
    return found


def _fid(features: str, reference: Any, device: str) -> Fid:
    known = FeatureStatistics.load(reference)
    network = FeatureNetwork(registry.find_model(features), device)
    check_same_network(FeatureStatistics(network.fingerprint), known)
    return Fid(network, known)


def not_kept(metrics: Sequence[Metric], cache: DiskCache) -> list[str]:
    """A line on each metric whose values are not kept, with the reason; none where nothing is kept."""
    if cache.root is None:
        return []
    return [
        f"values of {one.name} are not kept in {cache.root}: {why_not_lasting(getattr(one, 'verifier', one))}"
        for one in metrics
        if not is_lasting(one)
    ]
