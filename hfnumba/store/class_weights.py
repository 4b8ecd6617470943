"""Weights of classes: which are taken, and the balanced ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hfnumba.errors import DataError, UsageError
from hfnumba.progress import Steps, Watch, unwatched
from hfnumba.store.checks import checked_weights
from hfnumba.store.split import Split


def checked_class_weights(weights: Sequence[float], n_classes: int) -> tuple[float, ...]:
    """Weights of classes as floats.

    Raises
    ------
    UsageError
        If there is not one for each class, or one is not a weight as :func:`checked_weights` has it.
    """
    if len(weights) != n_classes:
        raise UsageError(f"expected a weight for each of the {n_classes} classes, got {len(weights)}")
    try:
        return tuple(checked_weights("class weights", weights, n_classes, "class").tolist())
    except DataError as error:
        raise UsageError(str(error)) from error


def balanced(split: Split, watch: Watch = unwatched) -> tuple[float, ...]:
    """Weights by which all classes of a split weigh the same, and its rows 1 on average.

    They are n / (k n_c) for the n_c rows of class c (the sum of their weights, where rows have weights), n rows in all
    and k classes that have any; 1 for a class without rows, which another split may have. This is scikit-learn's
    ``class_weight="balanced"``.

    Raises
    ------
    UsageError
        If the split is for regression.

    Notes
    -----
    Reads the labels (and weights) of all rows, no features.
    """
    if split.n_classes is None:
        raise UsageError(f"balanced class weights need classes, but {split.path} is for regression")
    sums, steps = np.zeros(split.n_classes), Steps(watch("Counting classes", "partitions"), split.n_partitions)
    for j in range(split.n_partitions):
        y, weights = split.load_labels(j)
        sums += np.bincount(y, weights, split.n_classes)
        steps.step()
    present = sums > 0
    found = np.ones(split.n_classes)
    found[present] = sums.sum() / (np.count_nonzero(present) * sums[present])
    return tuple(found.tolist())
