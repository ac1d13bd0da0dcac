"""Mean and covariance of the features of many images: gathered in batches, merged, kept in a small file."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisewright.measures.frechet import RunningFrechet, frechet_distance
from noisewright.outside.files import write_atomically
from noisewright.outside.messages import first_line, short
from noisewright.outside.reading import open_regular

log = logging.getLogger("noisewright")

SUFFIXES = (".safetensors", ".npz")
MOST_BYTES = 2**30
"""Of a file that is read, packed or not: the covariance of 8,192 features takes half."""

MOST_COUNT = 2**53
LONGEST_FINGERPRINT = 500


class FeatureStatistics:
    """Count, mean and scatter (the sum of (x - mean)(x - mean)^T) of features, in float64.

    Batches are merged by the formula of Chan, Golub and LeVeque 1979, which loses no digits where means are large, as
    the difference of a sum of products and a product of sums does. Memory is d^2, whatever the count.

    Args:
        fingerprint: of the network that gives the features; statistics of two networks are never compared or merged.
    """

    def __init__(self, fingerprint: str = "") -> None:
        self.fingerprint = fingerprint
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)  # (d,)
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)  # (d, d)

    @property
    def covariance(self) -> Tensor:
        """(d, d), divided by count - 1 as numpy.cov does.

        Raises:
            ValueError: below two samples.
        """
        if self.count < 2:
            raise ValueError(f"expected at least 2 images for a covariance, got {self.count}")
        if self.count <= len(self.mean):
            log.warning(
                "%d images of %d features: their covariance is singular, and the FID far from that of many images",
                self.count, len(self.mean),
            )  # fmt: skip
        return self.scatter / (self.count - 1)

    def add(self, features: Tensor) -> FeatureStatistics:
        """Takes in (batch, d), any float type; returns itself.

        Raises:
            ValueError: on another shape, or features that are not finite.
        """
        checked = check_features(features)
        if not len(checked):
            return self
        if self.count and checked.shape[1] != len(self.mean):
            raise ValueError(f"expected {len(self.mean)} features, got {checked.shape[1]}")
        mean = checked.mean(0)
        centred = checked - mean
        self._join(len(checked), mean, centred.T @ centred)
        return self

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Takes in what another has gathered; returns itself.

        Raises:
            ValueError: on statistics of another network.
        """
        check_same_network(self, other)
        if other.count:
            self._join(other.count, other.mean, other.scatter)
        return self

    def _join(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if not self.count:
            self.count, self.mean, self.scatter = count, mean.clone(), scatter.clone()
            return
        whole = self.count + count
        offset = mean - self.mean
        self.scatter = (self.scatter + scatter).addr_(offset, offset, alpha=self.count * count / whole)
        self.mean = self.mean + offset * (count / whole)
        self.count = whole

    def copy(self) -> FeatureStatistics:
        return FeatureStatistics(self.fingerprint).merge(self)

    def digest(self) -> str:
        """16 hex digits that change with the network, the count, and any value of mean and scatter."""
        found = hashlib.sha256(f"{self.fingerprint} {self.count}".encode())
        found.update(self.mean.numpy().tobytes())
        found.update(self.scatter.contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    def distance(self, reference: FeatureStatistics) -> float:
        """The squared Frechet distance to another set's statistics: FID, if the network is Inception's.

        Raises:
            ValueError: on statistics of another network, or below two samples.
        """
        check_same_network(self, reference)
        return frechet_distance(self.mean, self.covariance, reference.mean, reference.covariance)

    def running(self, reference: FeatureStatistics) -> RunningFrechet:
        """The same distance, ready to be asked what one more sample would make of it; this object stays as it is.

        Raises:
            ValueError: on statistics of another network.
        """
        covariance = reference.covariance
        if not self.count:
            return RunningFrechet(reference.mean, covariance, 0, reference.mean, torch.zeros_like(covariance))
        check_same_network(self, reference)
        return RunningFrechet(reference.mean, covariance, self.count, self.mean, self.scatter)

    def save(self, path: str | Path) -> Path:
        """Count, mean, covariance and fingerprint as ``.safetensors`` (its upper triangle, row by row) or ``.npz``.

        Raises:
            ValueError: on another suffix, or below two samples.
        """
        path = Path(path)
        check_suffix(path)
        covariance = self.covariance
        if path.suffix == ".npz":
            import numpy as np

            buffer = io.BytesIO()
            np.savez(
                buffer, count=self.count, mean=self.mean.numpy(), covariance=covariance.numpy(),
                fingerprint=self.fingerprint,
            )  # fmt: skip
            data = buffer.getvalue()
        else:
            from safetensors.torch import save

            rows, columns = torch.triu_indices(len(self.mean), len(self.mean))
            tensors = {"mean": self.mean.contiguous(), "upper": covariance[rows, columns].contiguous()}
            data = save(tensors, {"count": str(self.count), "fingerprint": self.fingerprint})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
        return path

    @classmethod
    def load(cls, path: str | Path) -> FeatureStatistics:
        """What :meth:`save` wrote.

        Raises:
            ValueError: on a file that holds something else, or is not there.
        """
        path = Path(path)
        check_suffix(path)
        open_regular(path, "a file of statistics").close()
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES} bytes")
            held = _read_npz(path) if path.suffix == ".npz" else _read_safetensors(path)
            found = cls(_fingerprint(held["fingerprint"]))
            found.count = _count(held["count"])
            found.mean = _numbers(held["mean"])
            covariance = _whole(_numbers(held["upper"])) if "upper" in held else _numbers(held["covariance"])
        except Exception as error:
            detail = short(first_line(error, empty=""), 120).strip("'")
            raise ValueError(
                f"expected count, mean, covariance and fingerprint in {path}, as noisewright writes them, got a file "
                f"without ({type(error).__name__}: {detail})"
            ) from error
        width = len(found.mean) if found.mean.ndim == 1 else -1
        sound = covariance.shape == (width, width) and bool((covariance.diagonal() >= 0).all())
        sound = sound and bool(torch.isfinite(found.mean).all() and torch.isfinite(covariance).all())
        if not sound or found.count < 2 or not torch.allclose(covariance, covariance.T):
            raise ValueError(
                f"expected finite statistics of one width and at least 2 images in {path}, got damaged ones"
            )
        found.scatter = covariance * (found.count - 1)
        return found


def _fingerprint(given: Any) -> str:
    text = str(given)
    if len(text) > LONGEST_FINGERPRINT or not text.isprintable():
        raise ValueError(f"its fingerprint is {short(text)}")
    return text


def _count(given: Any) -> int:
    count = int(given)
    if str(count) != str(given) or count > MOST_COUNT:
        raise ValueError(f"its count is {short(str(given))}")
    return count


def _numbers(given: Any) -> Tensor:
    """An array of real numbers in float64."""
    found = torch.as_tensor(given)
    if found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"its numbers are of type {found.dtype}")
    return found.double()


def _whole(upper: Tensor) -> Tensor:
    """The symmetric matrix, (d, d) float64, of its upper triangle, row by row."""
    width = (math.isqrt(8 * len(upper) + 1) - 1) // 2
    if width * (width + 1) // 2 != len(upper):
        raise ValueError(f"it has {len(upper)} numbers, which is no triangle")
    rows, columns = torch.triu_indices(width, width)
    found = torch.empty(width, width, dtype=torch.float64)
    found[rows, columns] = found[columns, rows] = upper.double()
    return found


def check_features(features: Tensor) -> Tensor:
    """``features`` as (batch, d) float64 on the CPU.

    Raises:
        ValueError: on another shape, or features that are not finite.
    """
    if features.ndim != 2:
        raise ValueError(f"expected features (images, features), got the shape {tuple(features.shape)}")
    checked = features.detach().double().cpu()
    bad = (~torch.isfinite(checked).all(1)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"expected finite features, got nan or inf for {len(bad)} images, the first number {bad[0]}")
    return checked


def check_same_network(one: FeatureStatistics, other: FeatureStatistics) -> None:
    """Refuses statistics that have nothing to do with each other.

    Raises:
        ValueError: on two fingerprints.
    """
    if one.fingerprint != other.fingerprint:
        raise ValueError(
            f"expected statistics of one feature network, got those of {one.fingerprint or 'an unnamed one'} and "
            f"{other.fingerprint or 'an unnamed one'}: distances between features of two networks mean nothing"
        )


def check_suffix(path: Path) -> None:
    """Refuses a file that no statistics are kept in.

    Raises:
        ValueError: on another suffix than those of :data:`SUFFIXES`.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"expected statistics as {' or '.join(SUFFIXES)}, got {path}")


def _read_npz(path: Path) -> dict[str, Any]:
    import numpy as np

    with zipfile.ZipFile(path) as packed:  # a small file can hold an array that fills the memory
        if sum(one.file_size for one in packed.infolist()) > MOST_BYTES:
            raise ValueError(f"it unpacks to more than {MOST_BYTES} bytes")
    with np.load(path, allow_pickle=False) as held:
        return {name: held[name] for name in ("count", "mean", "covariance", "fingerprint")}


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as held:
        metadata = held.metadata() or {}
        return {**metadata, **{key: held.get_tensor(key) for key in held.keys()}}  # noqa: SIM118 - not a mapping
