"""Columns of a table that became features, and the rearrangement of stored rows into those of another store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError

_MAX_LISTED, _MAX_WIDTH = 10, 60
_NUMBER = re.compile(r"[-+]?(?=\.?[0-9])[0-9]*(?P<rest>\.[0-9]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)?")


class Feature(NamedTuple):
    """Name of a feature: its column, and its category if it is 0 or 1 for one (None stands for a missing value)."""

    column: str
    of_category: bool = False
    category: str | None = None

    def __str__(self) -> str:
        if not self.of_category:
            return self.column
        return f"{self.column} missing" if self.category is None else f"{self.column} = {self.category}"


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Column of a table, in the order of the features.

    Attributes
    ----------
    name : str
        Name of the column in the source.
    categories : tuple of str or None
        Values of a column of categories, each with a feature of 0 or 1; None for a column of numbers, one feature.
    missing : bool
        Whether a missing value is one more category, the last.
    fill : float or None
        Number in place of missing values, the mean of the training rows; None if such rows are refused.
    """

    name: str
    categories: tuple[str, ...] | None = None
    missing: bool = False
    fill: float | None = None

    @property
    def features(self) -> list[Feature]:
        """Features of the column in their order."""
        if self.categories is None:
            return [Feature(self.name)]
        values = [*self.categories, *([None] if self.missing else [])]
        return [Feature(self.name, True, value) for value in values]

    def places(self, values: Sequence[str | None], first_row: int = 0) -> NDArray[np.intp]:
        """Place of each value among the categories, in any spelling (see :func:`canonical`); messages count from a row.

        Raises
        ------
        DataError
            If a value is none of the categories.
        """
        place = {feature.category: i for i, feature in enumerate(self.features)}
        words = [canonical(value) for value in values]
        for row, value in enumerate(words):
            if value not in place:
                what = "no value" if value is None else repr(value[:_MAX_WIDTH])
                raise DataError(
                    f"column {self.name} has {what} in row {first_row + row} (counted from 0), which none of the "
                    f"training rows has ({listed(self.features)}); leave the row out, or train on such rows"
                )
        return np.array([place[word] for word in words], np.intp)


def encoded(
    columns: Sequence[Column],
    batch: Mapping[str, NDArray[Any]],
    origin: NDArray[np.float64] | None = None,
    dtype: type[np.float32 | np.float64] = np.float32,
    first_row: int = 0,
) -> NDArray[Any]:
    """Features of a block of rows, shape (rows, n_features), from its columns by name.

    Parameters
    ----------
    columns : sequence of Column
        Columns in the order of the features.
    batch : mapping of str to ndarray
        Columns of the block: float64 with NaN for missing values, or objects (str, None if missing) for categories.
    origin : ndarray of float64, optional
        Number that is subtracted from each feature before it is rounded to ``dtype``.
    dtype : {float32, float64}
        Dtype of the features.
    first_row : int
        Number of the first row in messages.

    Raises
    ------
    DataError
        If a value is missing where there is no fill, or is of no category.
    """
    X = np.zeros((len(batch[columns[0].name]), len(feature_names(columns))), dtype)
    at = 0
    for column in columns:
        values, width = batch[column.name], len(column.features)
        if column.categories is None:
            missing = np.isnan(values)
            if column.fill is not None:
                values = np.where(missing, column.fill, values)
            elif missing.any():
                row = first_row + int(np.argmax(missing))
                raise DataError(f"column {column.name} has no value in row {row} (counted from 0)")
            with np.errstate(over="ignore"):
                X[:, at] = values if origin is None else values - origin[at]
        else:
            X[np.arange(len(X)), at + column.places(values.tolist(), first_row)] = 1
        at += width
    return X


def feature_names(columns: Iterable[Column]) -> list[Feature]:
    """Names of all features in their order."""
    return [feature for column in columns for feature in column.features]


def listed(words: Iterable[Any]) -> str:
    """List the first words of what may be long and come from anywhere."""
    texts = [str(word)[:_MAX_WIDTH] for word in words]
    more = f" and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
    return ", ".join(text if text and text.isprintable() else repr(text) for text in texts[:_MAX_LISTED]) + more


@dataclass(frozen=True)
class Arrangement:
    """Order of features and targets, and numbers of classes, that loading gives to stored rows.

    Attributes
    ----------
    features : tuple of int or None
        Stored feature at each place, -1 for a feature that is 0 in all rows; None leaves features as stored.
    targets : tuple of int or None
        Stored column of a regression target at each place; None leaves targets as stored.
    classes : tuple of int or None
        New number of each stored class; None leaves classes as stored. Stored rows have none of a class at -1.
    n_classes : int or None
        Number of classes then; None for regression.
    """

    features: tuple[int, ...] | None
    targets: tuple[int, ...] | None
    classes: tuple[int, ...] | None
    n_classes: int | None

    @property
    def is_identity(self) -> bool:
        """Whether rows stay as stored."""
        return self.features is None and self.targets is None and self.classes is None

    def features_of(self, X: NDArray[Any]) -> NDArray[Any]:
        """Features of rows in their new order."""
        if self.features is None:
            return X
        order = np.array(self.features)
        rows: NDArray[Any] = X[:, order]
        rows[:, order < 0] = 0
        return rows

    def targets_of(self, y: NDArray[Any]) -> NDArray[Any]:
        """New numbers of classes, or targets in their new order."""
        if self.classes is not None:
            return np.take(np.array(self.classes, np.int32), y)
        return y if self.targets is None else np.take(y, np.array(self.targets), axis=1)


@lru_cache(2**17)
def canonical(word: str | None) -> str | None:
    """One spelling for all words that are the same category or label; None, which is missing, stays None.

    Spaces around a word do not count. Numbers are compared as numbers: ``1``, ``1.0``, ``01`` and ``1e0`` are the same.
    ``True``, ``TRUE`` and ``true`` are the same, as are ``False``, ``FALSE`` and ``false``. All else must be equal.
    """
    if word is None:
        return None
    text = word.strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    if len(text) < _MAX_WIDTH and (number := _NUMBER.fullmatch(text)):
        if number["rest"] is None:
            return str(int(text))
        value = float(text)
        # From 2**53 on, a float may stand for several integers.
        if abs(value) < 2**53:
            return str(int(value)) if value.is_integer() else repr(value)
    return text
