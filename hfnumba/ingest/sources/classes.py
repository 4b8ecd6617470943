"""Whether the targets of arrays are class labels, and numbering of those that are no class numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.spool import MAX_NAMES, Labels
from hfnumba.store.checks import is_one_hot, several_labels

Pair = tuple[NDArray[Any], NDArray[Any]]

MAX_FLOAT_CLASSES = 1000
"""Largest number of different values of floating-point labels; more are targets of regression."""

FEW_CLASSES, MIN_ROWS_OF_ONE = 20, 10
"""Number of values of floating-point labels beyond which the mean number of rows of a value must be at least 10."""


def is_regression(recipe: Recipe, targets: Iterable[NDArray[Any]]) -> bool:
    """Whether the targets of all splits are for regression: as the recipe says, otherwise by their values.

    Whole numbers are class labels, whether their dtype is one of integers or not (as in scikit-learn's
    ``type_of_target``), unless they are floating-point numbers with more than 1000 different values, with more than 20
    of which each has fewer than 10 rows on average, or several in a row.

    Raises
    ------
    DataError
        If the targets are one-hot.
    """
    if recipe.task is not None:
        return recipe.task == "regression"
    arrays = [y for y in targets if y.dtype.kind == "f"]
    for y in arrays:
        if y.ndim == 2 and y.shape[1] > 1 and is_one_hot(y):
            raise DataError(several_labels(y))
    if any(y.size != len(y) or not _whole(y) for y in arrays):
        return True
    values: set[float] = set()
    for y in arrays:
        values.update(np.unique(y).tolist())
    n_rows = sum(map(len, arrays))
    return len(values) > MAX_FLOAT_CLASSES or len(values) > max(FEW_CLASSES, n_rows / MIN_ROWS_OF_ONE)


def numbered(recipe: Recipe, splits: Mapping[str, Pair]) -> tuple[dict[str, Pair], tuple[str, ...]]:
    """Number the classes of arrays in memory, and return their names; unchanged where labels are class numbers.

    Labels that are not all from 0 to 99,999 are names, such as -1 and 1. Booleans are 0 and 1, as everywhere in NumPy.
    """
    same = dict(splits)
    if any(not y.ndim for _, y in splits.values()):
        return same, ()  # refused later, as all rows of a wrong shape
    labels = {name: without_booleans(y.reshape(-1)) for name, (_, y) in splits.items()}
    if is_regression(recipe, (y for _, y in splits.values())) or any(
        len(own) != len(splits[name][1]) or own.dtype.kind not in "buif" or not _whole(own)
        for name, own in labels.items()
    ):
        return same, ()
    if all(not own.size or (own.min() >= 0 and own.max() < MAX_NAMES) for own in labels.values()):
        return {name: (X, _integers(y)) for name, (X, y) in splits.items()}, ()
    collected = Labels()
    for name, own in labels.items():
        collected.add(name, map(str, own.tolist()))
    classes, names = collected.finish()
    return {name: (X, classes[name]) for name, (X, _) in splits.items()}, names


def without_booleans(y: NDArray[Any]) -> NDArray[Any]:
    """Labels with 0 in place of false and 1 of true."""
    return y.astype(np.uint8) if y.dtype.kind == "b" else y


def _integers(y: NDArray[Any]) -> NDArray[Any]:
    return y.astype(np.int64) if y.dtype.kind == "f" else y


def _whole(y: NDArray[Any]) -> bool:
    if y.dtype.kind != "f":
        return True
    with np.errstate(invalid="ignore"):
        return bool((np.isfinite(y) & (y == np.floor(y)) & (np.abs(y) < 2**53)).all())
