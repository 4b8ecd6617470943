"""Objectives over rows in memory, dense or sparse, and their division into training and validation rows."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from hfnumba.engine import ArrayObjective, RoundObjective
from hfnumba.engine.local import LocalEngine
from hfnumba.engine.protocol import Problem
from hfnumba.engine.rows import ArraySource
from hfnumba.errors import UsageError
from hfnumba.estimator.scaling import Scaling, dense_blocks
from hfnumba.estimator.settings import thread_count
from hfnumba.network import Network
from hfnumba.store.checks import checked_weights
from hfnumba.store.rounding import Ranges, refuse_rounded


@dataclass(frozen=True)
class Rows:
    """Rows to train on.

    Attributes
    ----------
    X : ndarray or scipy.sparse.csr_array, shape (n_rows, n_features)
        Features before standardisation.
    y : ndarray
        Labels of shape (n_rows,), or targets of shape (n_rows, n_outputs).
    weights : ndarray of float64 or None, shape (n_rows,)
    """

    X: Any
    y: NDArray[Any]
    weights: NDArray[np.float64] | None = None

    def take(self, indices: NDArray[np.intp]) -> Rows:
        """Return some of the rows, copied."""
        return Rows(self.X[indices], self.y[indices], None if self.weights is None else self.weights[indices])

    def with_weight(self) -> Rows:
        """Return the rows without those of weight 0."""
        if self.weights is None or self.weights.all() or not self.weights.any():
            return self
        return self.take(np.flatnonzero(self.weights))

    def divided(self, fraction: float, seed: int, *, stratify: bool) -> tuple[Rows, Rows]:
        """Divide into training and validation rows, at random; by ``stratify`` with the same shares of the classes.

        Raises
        ------
        UsageError
            If one of the two would have no rows.
        """
        n_rows = self.X.shape[0]
        n_validation = math.ceil(fraction * n_rows)
        if n_validation >= n_rows:
            raise UsageError(
                f"expected a validation_fraction that leaves rows to train on, got {fraction} of {n_rows} rows; give a "
                "smaller one, or set early_stopping to False"
            )
        labels = self.y if stratify and n_validation >= len(np.unique(self.y)) else None
        if labels is not None and np.unique(labels, return_counts=True)[1].min() < 2:
            labels = None
        train, validation = train_test_split(
            np.arange(n_rows), test_size=n_validation, random_state=seed, stratify=labels
        )
        return self.take(np.sort(train)), self.take(np.sort(validation))


@dataclass(frozen=True, eq=False)
class SparseSource(ArraySource):
    """Partitions of a sparse matrix in CSR form, each made dense when it is computed.

    Where the dense rows do not fit into memory, the sparse ones stay there and are made dense in each round.
    """

    X: Any
    scaling: Scaling | None = None

    @property
    def x_dtype(self) -> np.dtype[Any]:
        """Dtype of the dense rows."""
        return np.dtype(np.float32)

    def load_compact(self, j: int) -> Mapping[str, NDArray[Any]]:
        """Views of the rows of partition j in CSR form."""
        start, stop = self.partition_rows(j)
        assert self.y is not None
        X, (first, last) = self.X, self.X.indptr[[start, stop]]
        compact = {"data": X.data[first:last], "indices": X.indices[first:last], "y": self.y[start:stop]}
        compact["indptr"] = X.indptr[start : stop + 1] - first
        return compact if self.weights is None else compact | {"weights": self.weights[start:stop]}

    def expand(self, compact: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """X (rows, n_features), standardised, and y."""
        parts = (compact["data"], compact["indices"], compact["indptr"])
        shape = (len(compact["indptr"]) - 1, self.X.shape[1])
        X = type(self.X)(parts, shape).toarray()
        return (X.astype(np.float32) if self.scaling is None else self.scaling.apply(X)), compact["y"]

    @property
    def n_rows(self) -> int:
        """Rows in total."""
        return int(self.X.shape[0])


def objective(
    network: Network, rows: Rows, scaling: Scaling | None, *, l2: float, n_threads: int | None
) -> RoundObjective:
    """Return the objective over rows, standardised by ``scaling`` if there is one."""
    n_threads = thread_count(n_threads, network, rows.X.shape[0])
    if hasattr(rows.X, "toarray"):
        source = sparse_source(rows, scaling)
        problem = Problem(uuid.uuid4().hex, network, source, np.dtype(np.float32), None, True, None)
        return RoundObjective(problem, LocalEngine(problem, n_threads), l2)
    X = rows.X if scaling is None else scaling.apply(rows.X)
    return ArrayObjective(network, X, rows.y, l2=l2, n_threads=n_threads, weights=rows.weights)


def refuse_rounded_rows(rows: Rows, *, targets: bool) -> None:
    """Raise if rounding to float32 would make the values of a feature or target the same.

    Raises
    ------
    DataError
    """
    ranges = Ranges()
    for _, block in dense_blocks(rows.X):
        ranges.update(block)
    ranges.origin(lambda j: f"feature {j} (counted from 0)", "scale the features first")
    if targets:
        refuse_rounded("target", rows.y, "scale the targets first")


def sparse_source(rows: Rows, scaling: Scaling | None) -> SparseSource:
    """Return sparse rows as a source of partitions, standardised by ``scaling`` if there is one."""
    n_rows = rows.X.shape[0]
    # The number of partitions, which decides the order of summation, is that of the same rows in an array.
    n_partitions = ArraySource.of(np.empty((n_rows, 0)), np.zeros(n_rows), None, 1.0, 0.0).n_partitions
    weights = None if rows.weights is None else checked_weights("weights", rows.weights, n_rows)
    return SparseSource(rows.X, rows.y, n_partitions, weights=weights, scaling=scaling)
