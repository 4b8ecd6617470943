"""Rows of a data frame in the form that the training rows of a run had, by the names of the columns."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.sources.arrow import without_marked
from hfnumba.run.inputs import refuse_other_columns
from hfnumba.run.records import StoreRecord
from hfnumba.store.columns import encoded


def frame_features(frame: Any, data: StoreRecord) -> NDArray[Any]:
    """Features of the rows of a data frame (pandas, Polars), in the order of the run's columns.

    Parameters
    ----------
    frame : data frame
        Has ``columns``, their names, and gives a column by its name.
    data : StoreRecord
        Record of the training data: their columns, and what stands for missing values.

    Raises
    ------
    DataError
        If the names are not those of the run's columns, or a value is no number or none of the run's categories.
    """
    columns, names = data.columns or (), list(frame.columns)
    if len(set(names)) != len(names):
        raise DataError("the data frame has two columns of the same name; give each a name of its own")
    refuse_other_columns("the data frame", columns, names)
    batch: dict[str, NDArray[Any]] = {}
    for column in columns:
        values = np.asarray(frame[column.name])
        batch[column.name] = _numbers(column.name, values) if column.categories is None else _words(values)
    known = without_marked(batch, data.missing_values or (), data.decimal or ".")
    return encoded(columns, known, dtype=np.float64)


def _numbers(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    if values.dtype.kind in "buif":
        return values.astype(np.float64)
    found = [math.nan if _is_missing(value) else value for value in values.tolist()]
    if not all(isinstance(value, Real | Decimal) for value in found):
        raise DataError(f"column {name} of the data frame holds {values.dtype}, expected numbers")
    return np.array(found, np.float64)


def _words(values: NDArray[Any]) -> NDArray[Any]:
    return np.array([None if _is_missing(value) else _word(value) for value in values.tolist()], object)


def _word(value: Any) -> str:
    """Text of a value as a file of text has it; numbers with a hole beside them come as 1.0 for 1."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))
