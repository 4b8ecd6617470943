"""Rows in the form the kernels take, samples of them, and arrays in memory as a source of partitions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.errors import DataError, UsageError
from hfnumba.network import Network
from hfnumba.objective import RowSample
from hfnumba.store.checks import checked_weights, unmasked

# Enough partitions to keep 16 threads busy; so many rows in each that adding its gradient to the others costs little.
_MAX_PARTITIONS = 16
_PARTITION_ROWS = 512


class RowSource(Protocol):
    """The rows of all partitions: arrays in memory, or a split of a store."""

    @property
    def n_rows(self) -> int:
        """Rows in total."""
        ...

    @property
    def n_partitions(self) -> int:
        """Partitions; the unit of parallel work and of summation order."""
        ...

    @property
    def scale(self) -> float:
        """Features are X * scale + offset."""
        ...

    @property
    def offset(self) -> float:
        """See ``scale``."""
        ...

    @property
    def weighted(self) -> bool:
        """Whether rows have weights."""
        ...

    @property
    def autoencodes(self) -> bool:
        """Whether the targets are the features."""
        ...

    def partition_rows(self, j: int) -> tuple[int, int]:
        """First row of partition j, and the one after its last."""
        ...

    @property
    def x_dtype(self) -> np.dtype[Any]:
        """Dtype of X."""
        ...

    def load_compact(self, j: int) -> Mapping[str, NDArray[Any]]:
        """Partition j in the form in which it takes least memory; ``weights`` (rows,) is in it if rows have any."""
        ...

    def compact_nbytes(self, j: int) -> int:
        """Bytes of what ``load_compact`` returns."""
        ...

    def expand(self, compact: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """X (rows, n_features) and y, from what ``load_compact`` returned; no y if the targets are the features."""
        ...


class RowArrays(NamedTuple):
    """Features (rows, n_features), and labels (rows,) int32 or targets (rows, n_outputs); the other is empty.

    Both are empty if the targets are the features, which the passes then read for both.
    ``weights`` (rows,) is empty where rows have none.
    """

    X: NDArray[Any]
    labels: NDArray[np.int32]
    targets: NDArray[np.floating[Any]]
    weights: NDArray[np.floating[Any]]

    def take(self, indices: NDArray[np.intp]) -> RowArrays:
        """The rows at ``indices``, copied."""
        labels = self.labels[indices] if self.labels.size else self.labels
        targets = self.targets[indices] if self.targets.size else self.targets
        weights = self.weights[indices] if self.weights.size else self.weights
        return RowArrays(self.X[indices], labels, targets, weights)

    def split(self, n: int) -> tuple[RowArrays, RowArrays]:
        """The first n rows and the others, as views; what is empty for all rows is empty in both."""
        X, labels, targets, weights = self
        first = RowArrays(X[:n], labels[:n], targets[:n], weights[:n])
        return first, RowArrays(X[n:], labels[n:], targets[n:], weights[n:])


def as_rows(
    network: Network,
    X: NDArray[Any],
    y: NDArray[Any] | None,
    dtype: np.dtype[Any],
    weights: NDArray[Any] | None = None,
    *,
    scale: float = 1.0,
    offset: float = 0.0,
) -> RowArrays:
    """Check rows against a network and bring them into the kernels' form, without a copy where they have it.

    uint8 features stay as they are. One-dimensional labels for a loss that takes targets become indicator rows. Without
    y the targets are the features, X * scale + offset.
    """
    if X.ndim != 2 or X.shape[1] != network.n_features:
        raise DataError(f"expected features of shape (rows, {network.n_features}) for this network, got {X.shape}")
    if y is not None and len(y) != len(X):
        raise DataError(f"expected a label or target for each of the {len(X)} rows, got {len(y)}")
    features = np.require(X, None if X.dtype == np.uint8 else dtype, ["C", "W"])
    own = np.empty(0, dtype) if weights is None else np.require(weights, dtype, ["C", "W"])
    n_out = network.n_outputs
    if y is None:
        network.require_autoencoder()
        _check_range(network, features, scale, offset)
        return RowArrays(features, np.empty(0, np.int32), np.empty((0, n_out), dtype), own)
    if network.takes_labels:
        if y.ndim != 1 or y.dtype.kind not in "iub":
            raise DataError(f"{network.loss} takes one whole-number label a row, got {y.dtype} of shape {y.shape}")
        if y.size and (y.min() < 0 or y.max() >= n_out):
            raise DataError(f"labels must lie in 0 … {n_out - 1} (the network's outputs), got {y.min()} … {y.max()}")
        return RowArrays(features, np.require(y, np.int32, ["C", "W"]), np.empty((0, n_out), dtype), own)
    if y.ndim == 1 and n_out > 1 and y.dtype.kind in "iub":
        if y.size and (y.min() < 0 or y.max() >= n_out):
            raise DataError(f"labels must lie in 0 … {n_out - 1} (the network's outputs), got {y.min()} … {y.max()}")
        targets = np.zeros((len(y), n_out), dtype)
        targets[np.arange(len(y)), y] = 1
    else:
        targets = np.require(y.reshape(len(y), -1), dtype, ["C", "W"])
    if targets.shape[1] != n_out:
        raise DataError(f"expected {n_out} targets a row for this network, got {targets.shape[1]}")
    if network.loss == "sigmoid_cross_entropy" and targets.size and not (targets.min() >= 0 and targets.max() <= 1):
        raise DataError(f"sigmoid_cross_entropy takes targets in [0, 1], got {targets.min()} … {targets.max()}")
    return RowArrays(features, np.empty(0, np.int32), targets, own)


def _check_range(network: Network, features: NDArray[Any], scale: float, offset: float) -> None:
    """Refuse features, as the kernels scale them, that are no targets of the loss."""
    if network.loss != "sigmoid_cross_entropy" or not features.size:
        return
    number = features.dtype.type if features.dtype.kind == "f" else np.float32
    ends = [number(end) * number(scale) + number(offset) for end in (features.min(), features.max())]
    if not (min(ends) >= 0 and max(ends) <= 1):
        raise DataError(
            "sigmoid_cross_entropy takes targets in [0, 1], but the features, which are the targets, lie in "
            f"{min(ends):g} … {max(ends):g}; scale them, or use squared_error"
        )


@functools.lru_cache(maxsize=128)
def _permutation(seed: int, draw: int, first_row: int, n: int) -> NDArray[np.intp]:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, draw, first_row)))).permutation(n)


def sample_indices(sample: RowSample, start: int, stop: int, n_rows: int) -> NDArray[np.intp]:
    """The rows of a sample within the partition [start, stop), counted from its start.

    Each part is in ascending order, and the first part comes first. The partition's share is
    floor(stop n / N) - floor(start n / N) of the sample's n rows, so that the shares of all partitions add up to n and
    follow their sizes.
    """
    share = _share(sample.n_rows, start, stop, n_rows)
    rows = _permutation(sample.seed, sample.draw, start, stop - start)
    drawn = rows[(sample.index * share + np.arange(share)) % max(1, stop - start)]
    first = n_first(sample, start, stop, n_rows) if sample.part else 0
    return np.concatenate([np.sort(drawn[:first]), np.sort(drawn[first:])])


def n_first(sample: RowSample | None, start: int, stop: int, n_rows: int) -> int:
    """Number of a sample's rows within the partition [start, stop) that belong to its first part; all without one."""
    if sample is None:
        return stop - start
    share = _share(sample.n_rows, start, stop, n_rows)
    # Shares of part and sample are rounded separately.
    return min(share, _share(sample.part, start, stop, n_rows)) if sample.part else share


def _share(n: int, start: int, stop: int, n_rows: int) -> int:
    return stop * n // n_rows - start * n // n_rows


def _n_partitions(n_rows: int) -> int:
    fewest = 1 if n_rows <= _PARTITION_ROWS // 2 else 2
    return min(_MAX_PARTITIONS, max(fewest, n_rows // _PARTITION_ROWS))


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Arrays in memory, cut into partitions of equal size.

    The number of partitions depends on the rows alone, never on threads: it decides the order of summation, and so
    the bits of the result. There is one for each 512 rows, 16 at most, and two from 257 rows on.
    """

    X: NDArray[Any]
    y: NDArray[Any] | None
    n_partitions: int
    scale: float = 1.0
    offset: float = 0.0
    weights: NDArray[Any] | None = None

    @staticmethod
    def of(
        X: ArrayLike,
        y: ArrayLike | None,
        n_partitions: int | None,
        scale: float,
        offset: float,
        *,
        weights: ArrayLike | None = None,
    ) -> ArraySource:
        """Check that there are finite rows, and choose the number of partitions."""
        features, targets = unmasked("features", X), None if y is None else unmasked("targets", y)
        if features.ndim != 2 or not len(features):
            raise DataError(
                f"expected features of shape (rows, n_features) with at least one row, got {features.shape}"
            )
        for what, array in (("features", features), ("targets", targets)):
            if array is None:
                continue
            if array.dtype.kind not in "fiub":
                raise DataError(f"expected numbers as {what}, got dtype {array.dtype}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                where = np.argwhere(~np.isfinite(array))
                raise DataError(f"{len(where)} of the {what} are NaN or infinite, the first in row {where[0][0]}")
        chosen = _n_partitions(len(features)) if n_partitions is None else n_partitions
        if not 1 <= chosen <= len(features):
            raise UsageError(f"expected n_partitions from 1 to {len(features)}, the number of rows, got {n_partitions}")
        own = None if weights is None else checked_weights("weights", weights, len(features))
        return ArraySource(features, targets, chosen, scale, offset, own)

    @property
    def n_rows(self) -> int:
        """Rows in total."""
        return len(self.X)

    def partition_rows(self, j: int) -> tuple[int, int]:
        """First row of partition j, and the one after its last."""
        return j * self.n_rows // self.n_partitions, (j + 1) * self.n_rows // self.n_partitions

    @property
    def x_dtype(self) -> np.dtype[Any]:
        """Dtype of X."""
        return self.X.dtype

    @property
    def weighted(self) -> bool:
        """Whether rows have weights."""
        return self.weights is not None

    @property
    def autoencodes(self) -> bool:
        """Whether the targets are the features."""
        return self.y is None

    def load_compact(self, j: int) -> Mapping[str, NDArray[Any]]:
        """Views of the rows of partition j."""
        start, stop = self.partition_rows(j)
        arrays = {"X": self.X, "y": self.y, "weights": self.weights}
        return {name: array[start:stop] for name, array in arrays.items() if array is not None}

    def compact_nbytes(self, j: int) -> int:
        """Nothing: views take no memory of their own."""
        return 0

    def expand(self, compact: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """X and y."""
        return compact["X"], compact.get("y")
