"""Variances of the targets of a split."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hfnumba.progress import SILENT, Counter, Reporter
from hfnumba.store.checks import count_classes
from hfnumba.store.standardise import Moments


class Targets(Protocol):
    """Rows with labels or targets: a split, or a part of one."""

    @property
    def name(self) -> str:
        """Name in messages."""
        ...

    @property
    def n_partitions(self) -> int:
        """Number of partitions."""
        ...

    @property
    def n_outputs(self) -> int:
        """Number of classes or targets."""
        ...

    @property
    def n_classes(self) -> int | None:
        """Number of classes; None for targets."""
        ...

    def partition_name(self, j: int) -> str:
        """Name of a partition in messages."""
        ...

    def load_labels(self, j: int) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Labels or targets of a partition, and weights where there are any."""
        ...


def target_variances(split: Targets, reporter: Reporter = SILENT) -> tuple[float, ...]:
    """Variance of each target over the rows of a split with a weight above 0, each counted once, in own units squared.

    For classes the targets are the indicators of the classes.

    Raises
    ------
    StoreError
        If a file is missing or damaged.

    Notes
    -----
    Reads targets and weights, no features; those of one partition at a time are in memory.
    """
    counter = Counter(reporter.progress(f"Reading targets of {split.name}", "partitions"), split.n_partitions)
    moments = Moments(split.n_outputs)
    counts = np.zeros(split.n_outputs)
    for j in range(split.n_partitions):
        y, weights = split.load_labels(j)
        taken = y if weights is None else y[weights > 0]
        if split.n_classes is None:
            moments.update(taken)
        elif len(taken):
            counts += count_classes(split.partition_name(j), taken, split.n_classes)
        counter.advance()
    if split.n_classes is None:
        return tuple((moments.squares / max(moments.n, 1)).tolist())
    shares = counts / max(counts.sum(), 1)
    return tuple((shares * (1 - shares)).tolist())
