"""Parquet files, read by Arrow block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hfnumba.errors import DataError
from hfnumba.formats.extras import require
from hfnumba.ingest.recipe_tables import TableOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.arrow import to_batch
from hfnumba.ingest.sources.columns import Titles, read_columns
from hfnumba.ingest.sources.raw import RawData
from hfnumba.ingest.sources.survey import Batch, Columns
from hfnumba.progress import Reporter

BATCH_ROWS = 8192
MAX_GROUP_NBYTES = 2**31
"""Largest uncompressed size of a row group, in bytes."""


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
    """Read the splits that ``[table]`` names; without a test split, the seed holds training rows out."""
    return read_columns(recipe, paths["source"], seed, reporter, titles=titles_of, batches=_batches)


def batches_of(path: Path, options: TableOptions, columns: Columns) -> Iterator[tuple[Batch, float]]:
    """Yield the batches of a file, each with the share of the file that is read by then."""
    return _batches(path, columns)


def plain_batches(path: Path, options: TableOptions, names: Sequence[str]) -> Iterator[Any]:
    """Yield the rows as batches of Arrow.

    Raises
    ------
    DataError
        If a column has neither numbers nor text.
    """
    types = require("pyarrow", "tables").types
    numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_dictionary)
    with _opened(path) as file:
        for name in names:
            kind = file.schema_arrow.field(name).type
            if not any(is_kind(kind) for is_kind in (*numbers, *texts)):
                raise DataError(
                    f"{path}: column {name} has type {kind}, expected numbers or text; leave it out with --drop "
                    f"{name!r}"
                )
        yield from file.iter_batches(BATCH_ROWS, columns=list(names), use_threads=False)


def titles_of(path: Path, options: TableOptions | None = None) -> Titles:
    """Return the names of the columns of a file."""
    with _opened(path) as file:
        schema = file.schema_arrow
        try:
            described = schema.pandas_metadata or {"index_columns": [], "columns": []}
            index = [name for name in described["index_columns"] if isinstance(name, str)]
            columns = {column["name"]: column["pandas_type"] for column in described["columns"]}
        except (ValueError, KeyError, TypeError, UnicodeDecodeError):
            return Titles(schema.names)
        categories = (name for name in schema.names if columns.get(name) == "categorical")
        return Titles(schema.names, frozenset(index), frozenset(categories))


def _batches(path: Path, columns: Columns) -> Iterator[tuple[Batch, float]]:
    with _opened(path) as file:
        n_rows, claimed = 0, file.metadata.num_rows
        for batch in file.iter_batches(BATCH_ROWS, columns=list(columns.named), use_threads=False):
            n_rows += batch.num_rows
            if n_rows > claimed:
                raise DataError(f"{path} claims {claimed} rows and holds more; write it again")
            yield to_batch(path, batch, columns), n_rows / max(1, claimed)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    arrow, parquet = require("pyarrow", "tables"), require("pyarrow.parquet", "tables")
    try:
        with (
            arrow.OSFile(os.fsencode(path)) as source,
            parquet.ParquetFile(source, page_checksum_verification=True) as file,
        ):
            for i in range(file.metadata.num_row_groups):
                # Column sizes would be more precise, but asking for those of a damaged file aborts the process.
                nbytes = file.metadata.row_group(i).total_byte_size
                if not 0 <= nbytes <= MAX_GROUP_NBYTES:
                    raise DataError(
                        f"{path}: row group {i} claims {nbytes} bytes, more than {MAX_GROUP_NBYTES}; "
                        f"write smaller row groups"
                    )
            yield file
    except (arrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
