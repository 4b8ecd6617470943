"""CSV files with a header line, plain or gzip, read by Arrow block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hfnumba.errors import DataError
from hfnumba.formats.extras import require
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.arrow import to_batch
from hfnumba.ingest.sources.columns import Batch, Columns, read_columns
from hfnumba.ingest.sources.raw import RawData
from hfnumba.ingest.sources.table import options_of
from hfnumba.progress import Reporter

BLOCK_NBYTES = 2**22
"""Number of bytes read at once; a longer line is refused."""

_NO_NUMBER = "conversion error to double"


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
    """Read the splits that ``[table]`` names; without a test split, the seed holds training rows out."""
    delimiter = options_of(recipe).delimiter

    def names(path: Path) -> list[str]:
        with _opened(path, delimiter, None) as (reader, _):
            found: list[str] = reader.schema.names
            return found

    def batches(path: Path, columns: Columns) -> Iterator[tuple[Batch, float]]:
        nbytes = path.stat().st_size
        with _opened(path, delimiter, columns) as (reader, file):
            for batch in reader:
                yield to_batch(path, batch, columns), file.tell() / nbytes

    return read_columns(recipe, paths["source"], seed, reporter, names=names, batches=batches)


@contextmanager
def _opened(path: Path, delimiter: str, columns: Columns | None) -> Iterator[tuple[Any, Any]]:
    """Open a file as Arrow's reader and as the raw file; without columns, only to read their names."""
    arrow, csv = require("pyarrow", "tables"), require("pyarrow.csv", "tables")
    convert = {}
    if columns is not None:
        kinds = dict.fromkeys((*columns.numeric, *columns.labels, *columns.weight), arrow.float64())
        kinds |= dict.fromkeys(columns.words, arrow.string())
        convert = {"column_types": kinds, "include_columns": list(kinds), "strings_can_be_null": True}
    try:
        # Files of Arrow, not of Python: Arrow reads ahead in a thread, which would abort the process if it were in
        # Python code at exit.
        file = arrow.OSFile(os.fsencode(path))
        plain = arrow.CompressedInputStream(file, "gzip") if path.suffix == ".gz" else file
        with csv.open_csv(
            plain,
            csv.ReadOptions(block_size=BLOCK_NBYTES, use_threads=False),
            csv.ParseOptions(delimiter=delimiter),
            csv.ConvertOptions(**convert),
        ) as reader:
            yield reader, file
    except (arrow.ArrowException, UnicodeDecodeError, OSError) as error:
        hint = "; name columns of text in categorical, or those to take in numeric" if _NO_NUMBER in str(error) else ""
        raise DataError(f"{path} cannot be read as CSV: {error}{hint}") from error
