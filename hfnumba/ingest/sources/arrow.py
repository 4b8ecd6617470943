"""Conversion of Arrow's batches of columns to NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hfnumba.errors import DataError
from hfnumba.formats.extras import require
from hfnumba.ingest.sources.survey import Batch, Columns
from hfnumba.store.columns import canonical


def to_batch(path: Path, batch: Any, columns: Columns) -> Batch:
    """Convert the columns of a batch: numbers to float64, text and labels to objects, missing values to NaN or None.

    Raises
    ------
    DataError
        If a numeric column holds anything but numbers.
    """
    arrow, compute = require("pyarrow", "tables"), require("pyarrow.compute", "tables")
    found = {}
    words = set(columns.words)
    for name in columns.named:
        column = batch.column(batch.schema.get_field_index(name))
        kind = column.type
        try:
            if name in words:
                if arrow.types.is_nested(kind) or arrow.types.is_binary(kind):
                    raise DataError(f"{path}: column {name} has type {kind}, expected text or numbers")
                if arrow.types.is_floating(kind):
                    column = compute.if_else(compute.is_nan(column), None, column)
                found[name] = np.array(column.cast(arrow.string()).to_pylist(), object)
            else:
                if not any(is_kind(kind) for is_kind in _numbers(arrow.types)):
                    raise DataError(
                        f"{path}: column {name} has type {kind}, expected numbers; say --categorical {name!r} or "
                        f"--drop {name!r}, or name it in categorical, or the columns to take in numeric, of a recipe"
                    )
                found[name] = np.asarray(column.cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False))
        except arrow.ArrowException as error:
            raise DataError(f"{path}: column {name} cannot be converted: {error}") from error
    return found


def without_marked(batch: Batch, marks: Sequence[str], decimal: str = ".") -> Batch:
    """Replace values that stand for missing ones, in any spelling, by NaN or None."""
    if not marks:
        return batch
    absent = {None, *map(canonical, marks)}
    # pandas writes -999 as -999.0 where a column has fractions or holes.
    numbers = [number for mark in marks if (number := _number(mark, decimal)) is not None]
    found = {}
    for name, values in batch.items():
        if values.dtype == object:
            found[name] = np.array([None if canonical(word) in absent else word for word in values.tolist()], object)
        else:
            found[name] = np.where(np.isin(values, numbers), np.nan, values) if numbers else values
    return found


def _number(mark: str, decimal: str) -> float | None:
    try:
        return float(mark.strip().replace(decimal, "."))
    except ValueError:
        return None


def _numbers(types: Any) -> tuple[Callable[[Any], bool], ...]:
    """Kinds of columns that are numbers; null is that of a column whose values are all missing."""
    return types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null
