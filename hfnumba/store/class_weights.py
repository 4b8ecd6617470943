"""Weights of classes: checking given ones, computing balanced ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hfnumba.errors import DataError, UsageError
from hfnumba.progress import SILENT, Counter, Reporter
from hfnumba.store.checks import checked_weights, count_classes
from hfnumba.store.split import Split

__all__ = ["balanced"]


def checked_class_weights(weights: Sequence[float], n_classes: int) -> tuple[float, ...]:
    """Convert weights of classes to floats.

    Raises
    ------
    UsageError
        If there is not one weight per class, or :func:`checked_weights` refuses one.
    """
    if len(weights) != n_classes:
        raise UsageError(f"expected a weight for each of the {n_classes} classes, got {len(weights)}")
    try:
        return tuple(checked_weights("class weights", weights, n_classes, "class").tolist())
    except DataError as error:
        raise UsageError(str(error)) from error


def balanced(split: Split, reporter: Reporter = SILENT) -> tuple[float, ...]:
    """Compute weights that give all classes of a split the same total weight, and its rows a mean weight of 1.

    The weight of class c is n / (k n_c), with n_c rows of class c (or the sum of their weights), n rows in total and k
    classes that have rows; it is 1 for a class without rows, which another split may have. This is scikit-learn's
    ``class_weight="balanced"``.

    Parameters
    ----------
    split : Split
        Rows of a classification.
    reporter : Reporter
        Receiver of the progress.

    Returns
    -------
    tuple of float
        A weight for each class, in the order of the class numbers.

    Raises
    ------
    UsageError
        If the split is for regression.
    StoreError
        If a file is missing or damaged, or a label is none of the classes.

    Notes
    -----
    Reads the labels (and weights) of all rows, but no features.
    """
    if split.n_classes is None:
        raise UsageError(f"balanced class weights need classes, but {split.path} is for regression")
    counter = Counter(reporter.progress("Counting classes", "partitions"), split.n_partitions)
    sums = np.zeros(split.n_classes)
    for j in range(split.n_partitions):
        y, weights = split.load_labels(j)
        sums += count_classes(split.partition_name(j), y, split.n_classes, weights)
        counter.advance()
    present = sums > 0
    found = np.ones(split.n_classes)
    found[present] = sums.sum() / (np.count_nonzero(present) * sums[present])
    return tuple(found.tolist())
