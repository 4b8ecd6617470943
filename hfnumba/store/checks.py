"""Checks of features, labels and weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.errors import DataError, StoreError
from hfnumba.progress import Advance

BLOCK = 65_536
"""Number of rows that are checked together."""

SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-12, 1e12
"""Limits of weights other than 0, within which sums over any number of rows are accurate in float32.

Only ratios matter, so that weights beyond them are multiplied by a power of 2."""


def refuse_masked(name: str, values: Any) -> None:
    """Raise if any values are masked, which NumPy would drop silently: naming their number and the first place."""
    if isinstance(values, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in values):
        values = np.ma.array(values)
    if isinstance(values, np.ma.MaskedArray):
        refuse(name, "values are masked (fill them, or leave their rows out)", np.ma.getmaskarray(values), values.data)


def unmasked(name: str, values: Any) -> NDArray[Any]:
    """Convert to an array without a mask; raise if any values are masked."""
    refuse_masked(name, values)
    return np.asarray(values)


def checked_features(name: str, X: NDArray[Any], advance: Advance | None = None) -> NDArray[np.float32]:
    """Convert features to float32; raise, naming how many are not finite and where the first one is.

    ``advance`` is called with the number of rows of each block.
    """
    with np.errstate(over="ignore"):
        values = X.astype(np.float32, copy=False)
    for first in range(0, len(values), BLOCK):
        # The whole array, which may be a file larger than memory, is checked only to describe a fault.
        block = values[first : first + BLOCK]
        if not np.isfinite(block).all():
            refuse(name, "features are not finite in float32 (NaN, infinite or too large)", ~np.isfinite(values), X)
        if advance is not None:
            advance(len(block))
    return values


def checked_labels(name: str, y: NDArray[Any], n_classes: int | None) -> NDArray[np.int64]:
    """Convert class numbers to int64; raise, naming how many are invalid and where the first one is."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(f"{name}: {several_labels(y)}")
    if y.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            refuse(name, "labels are not integers", ~np.isfinite(y) | (y != np.floor(y)), y)
    limit = 2**31 - 1 if n_classes is None else n_classes
    top = f"{n_classes - 1}" if n_classes else "2147483646"
    refuse(name, f"labels are out of range (expected 0 to {top})", (y < 0) | (y >= limit), y)
    return y.astype(np.int64)


def several_labels(y: NDArray[Any]) -> str:
    """Return what labels with several numbers in a row are likely to be, and what to do."""
    text = f"labels have shape {y.shape}, expected one class number per row"
    if y.ndim == 2 and ((y == 0) | (y == 1)).all():
        if is_one_hot(y):
            return (
                f"{text} (not one-hot); take the argmax of each row, or for an output for each column set "
                f'task = "regression"'
            )
        return (
            f"{text}; they are 0 or 1, with rows that have several ones or none, so each column is a label of its own: "
            f'set task = "regression" and train with --loss sigmoid_cross_entropy, for a probability of each'
        )
    return f'{text}; if they are targets, set task = "regression"'


def is_one_hot(y: NDArray[Any]) -> bool:
    """Whether each row of an array (rows, columns) has a single 1, and 0 elsewhere."""
    return bool((((y == 0) | (y == 1)).all() and (y == 1).sum(axis=1) == 1).all())


def checked_weights(name: str, weights: ArrayLike, n: int, of: str = "row") -> NDArray[np.float64]:
    """Convert weights to float64, within the limits of float32 sums; raise, naming how many are invalid and the first.

    If some are beyond the limits, all are multiplied by one power of 2, which leaves their ratios as they are; one that
    is then still too small, less than about 1e-23 of the largest, becomes the least there may be. ``of`` names what
    each of the ``n`` weights belongs to.

    Raises
    ------
    DataError
        If there are not ``n`` numbers, some are negative or not finite, or all are 0.
    """
    values = unmasked(f"{name}, weights", weights)
    if values.shape not in ((n,), (n, 1)) or values.dtype.kind not in "buif":
        raise DataError(f"{name}: expected {n} weights, one for each {of}, got {values.dtype} of shape {values.shape}")
    own = values.reshape(-1).astype(np.float64)
    refuse(name, "weights are negative, NaN or infinite", ~(np.isfinite(own) & (own >= 0)), own, of)
    if not own.any():
        raise DataError(f"{name}: all {n} weights are 0; at least one {of} needs a weight")
    return _within_limits(own)


def _within_limits(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = weights > 0
    smallest, largest = float(weights[positive].min()), float(weights.max())
    if smallest >= SMALLEST_WEIGHT and largest <= LARGEST_WEIGHT:
        return weights
    with np.errstate(over="ignore"):
        ratio = np.float64(largest) / smallest
    # The largest becomes as small as the smallest allows, so that products with weights of classes stay in range, too.
    target = min(max(4 * SMALLEST_WEIGHT * ratio, 1.0), LARGEST_WEIGHT)
    scaled = np.ldexp(weights, math.frexp(target)[1] - 1 - math.frexp(largest)[1])
    return np.where(positive, np.maximum(scaled, SMALLEST_WEIGHT), 0.0)


def count_classes(
    where: str, y: NDArray[Any], n_classes: int, weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Number of rows of each class in the stored labels ``y``, or the sum of their weights.

    Raises
    ------
    StoreError
        If a label is none of the classes of the store.
    """
    if y.min() < 0 or y.max() >= n_classes:
        raise StoreError(
            f"{where} has labels from {y.min()} to {y.max()}, expected 0 to {n_classes - 1}; delete the store and "
            f"build it again"
        )
    if weights is not None:
        return np.bincount(y, weights, n_classes)
    counts = np.zeros(n_classes)
    for first in range(0, len(y), BLOCK):  # NumPy makes 64-bit numbers of all labels it is given
        counts += np.bincount(y[first : first + BLOCK], minlength=n_classes)
    return counts


def label_dtype(n_classes: int) -> type[np.uint8 | np.uint16 | np.int32]:
    """Smallest dtype for the stored labels of ``n_classes`` classes."""
    if n_classes <= 2**8:
        return np.uint8
    return np.uint16 if n_classes <= 2**16 else np.int32


def refuse(name: str, what: str, bad: NDArray[np.bool_], values: NDArray[Any], of: str = "row") -> None:
    """Raise if any values are bad, naming their number and the place of the first one."""
    count = int(np.count_nonzero(bad))
    if not count:
        return
    first, n = int(np.argmax(bad)), len(np.atleast_1d(bad))
    row, column = divmod(first, bad.size // n)
    place = f"{of} {row}, column {column}" if bad.size > n else f"{of} {row}"
    raise DataError(
        f"{name}: {count} of {bad.size} {what}; the first is {values.reshape(-1)[first]} at {place} (counted from 0)"
    )
