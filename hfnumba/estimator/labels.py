"""Labels of a classification: their form, and weights of their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from hfnumba.errors import UsageError


def checked_labels(labels: Any) -> NDArray[Any]:
    """Return labels of shape (n_rows,), or zeros and ones of shape (n_rows, n_labels).

    Raises
    ------
    UsageError
        If there are several columns of several classes.
    """
    check_classification_targets(labels)
    if type_of_target(labels) == "multilabel-indicator":
        return np.asarray(labels.toarray() if hasattr(labels, "toarray") else labels)
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise UsageError(
            f"expected one label a row, or zeros and ones, got {labels.shape[1]} columns of several classes; train "
            "a classifier for each column (sklearn.multioutput.MultiOutputClassifier)"
        )
    return np.asarray(column_or_1d(labels, warn=True))


def indicators(labels: NDArray[Any], n_labels: int) -> NDArray[np.float32]:
    """Return zeros and ones as targets; raise a UsageError if there are not ``n_labels`` columns of them."""
    if labels.ndim != 2 or labels.shape[1] != n_labels:
        raise UsageError(f"expected zeros and ones for each of {n_labels} labels, got labels of shape {labels.shape}")
    return labels.astype(np.float32)


def numbers_of(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int32]:
    """Return the number of each label's class; raise a UsageError if a label is none of the classes."""
    unknown = np.setdiff1d(labels, classes)
    if labels.ndim != 1 or len(unknown):
        raise UsageError(
            f"expected labels among the classes of the first call, got {unknown.tolist()[:10]}; pass all labels as "
            "classes in the first call"
        )
    return np.searchsorted(classes, labels).astype(np.int32)


def class_weighted(
    class_weight: Any, classes: NDArray[Any], numbers: NDArray[np.int32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of rows, multiplied by those of their classes."""
    if class_weight == "balanced":
        # scikit-learn's own function ignores the weights of rows before version 1.8.
        sums = np.bincount(numbers, weights)
        of_class = np.divide(sums.sum(), np.count_nonzero(sums) * sums, out=np.zeros_like(sums), where=sums > 0)
    else:
        of_class = compute_class_weight(class_weight, classes=classes, y=classes[numbers])
    product: NDArray[np.float64] = weights * of_class[numbers]
    return product
