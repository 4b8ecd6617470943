"""Variances of the targets of a split."""

from __future__ import annotations

import numpy as np

from hfnumba.progress import SILENT, Counter, Reporter
from hfnumba.store.checks import count_classes
from hfnumba.store.split import Split
from hfnumba.store.standardise import Moments


def target_variances(split: Split, reporter: Reporter = SILENT) -> tuple[float, ...]:
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
