"""Rows of a CSV or Parquet file in the form that the training rows of a run had, by the names of the columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError, StoreError
from hfnumba.ingest.one_table import delimiter_of, table_files
from hfnumba.ingest.recipe_tables import TableOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.arrow import without_marked
from hfnumba.ingest.sources.columns import refuse_twice
from hfnumba.ingest.sources.survey import Batch, Columns
from hfnumba.path_text import path_text, text_path
from hfnumba.run.inputs import refuse_other_columns
from hfnumba.run.records import StoreRecord
from hfnumba.store.columns import Column, encoded, listed

if TYPE_CHECKING:
    from hfnumba.store import Store


CSV_FORM = ("delimiter", "header", "comment", "decimal", "missing_values")
"""Options that say how a CSV file is read."""


def table_rows(path: Path, data: StoreRecord, note: Callable[[str], None]) -> Iterator[NDArray[Any]]:
    """Read the features of a table in the order of a run's columns, in blocks of float64; the names are checked first.

    Decimal separator, marks of comments and of missing values are those of the recipe of the training data.

    Parameters
    ----------
    path : Path
        File whose name ends as that of a table, see :func:`hfnumba.ingest.one_table.table_format`, or a folder of such
        files.
    data : StoreRecord
        Record of the run.
    note : callable
        Receiver of a sentence about columns that are passed over.

    Raises
    ------
    DataError
        If the run has no names of columns, a column is missing, or a value is no number or of no known category; the
        message names column and row. That of values comes when their block is read.
    """
    format_name, files = table_files(path)
    if not data.columns:
        raise DataError(
            f"the run has no names of columns to compare those of {path} with; give rows of numbers in the order of "
            "the training rows (.npy), or build and train again from a table"
        )
    options, source = _options(path, data), import_module(f"hfnumba.ingest.sources.{format_name}")
    names = [column.name for column in data.columns]
    for file in files:
        found = source.titles_of(file, options).names
        refuse_twice(file, found, names)
        refuse_other_columns(str(file), data.columns, [name for name in found if name in set(names)])
        if extra := [name for name in found if name not in set(names)]:
            note(f"{listed(extra)} of {file}: ignored, no {'features' if len(extra) > 1 else 'feature'} of the run")
    marks, decimal = options.missing_values or (), options.decimal or "."
    batches = (batch for file in files for batch, _ in source.batches_of(file, options, _roles(data.columns)))
    return _blocks((without_marked(batch, marks, decimal) for batch in batches), data.columns)


def _blocks(batches: Iterator[Batch], columns: Sequence[Column]) -> Iterator[NDArray[Any]]:
    first_row = 0
    for batch in batches:
        block = encoded(columns, batch, dtype=np.float64, first_row=first_row)
        first_row += len(block)
        yield block


def _roles(columns: Sequence[Column]) -> Columns:
    numbers = tuple(column.name for column in columns if column.categories is None)
    return Columns(numbers, tuple(column.name for column in columns if column.name not in numbers), (), regression=True)


def _options(path: Path, data: StoreRecord) -> TableOptions:
    """Options of the training data's recipe for a file of new rows."""
    form = {name: value for name in CSV_FORM if (value := getattr(data, name)) is not msgspec.UNSET}
    form = form or form_of_csv(_options_of_earlier_runs(data))
    own = msgspec.structs.replace(TableOptions(train=(path_text(path.name),)), **form)
    format_name, files = table_files(path)
    if format_name != "csv":
        return own
    return msgspec.structs.replace(own, delimiter=delimiter_of(files[0], own.comment or "", own.delimiter))


def _options_of_earlier_runs(data: StoreRecord) -> TableOptions | None:
    """Options in the store of the training data, if it is still there; earlier versions did not record them."""
    from hfnumba.store.store import read_manifest  # noqa: PLC0415 - slow to import

    try:
        store = read_manifest(text_path(data.path))
    except StoreError:
        return None
    return options_of(store) if store.digest == data.digest else None


def options_of(store: Store) -> TableOptions | None:
    """Return the table of the recipe of a store, if it has one."""
    try:
        return msgspec.json.decode(store.manifest.header.recipe, type=Recipe).table
    except msgspec.MsgspecError:
        return None


def form_of_csv(options: TableOptions | None) -> dict[str, Any]:
    """Return the options of :data:`CSV_FORM` that are given."""
    usual = TableOptions(train=("",))
    return (
        {}
        if options is None
        else {name: value for name in CSV_FORM if (value := getattr(options, name)) != getattr(usual, name)}
    )
