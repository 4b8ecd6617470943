"""CSV files with a header line, plain or gzip, read by Arrow block by block."""

from __future__ import annotations

import codecs
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from hfnumba.errors import DataError, encoding_hint, is_utf16, printable
from hfnumba.formats.extras import require
from hfnumba.ingest.recipe_tables import TableOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.arrow import to_batch, without_marked
from hfnumba.ingest.sources.columns import Titles, read_columns
from hfnumba.ingest.sources.raw import RawData, opened
from hfnumba.ingest.sources.survey import Batch, Columns
from hfnumba.ingest.sources.table import options_of
from hfnumba.progress import Reporter

BLOCK_NBYTES = 2**22
"""Number of bytes read at once; a longer row is refused unless two such blocks happen to hold it."""

MAX_SPACES = 16
"""Largest number of spaces in a field of a column of numbers that has nothing else, and so no value."""

_MISSING_WORD = (
    "empty, or a text such as NA that stands for a missing value; if that is a {}, set missing_values = [] in [table], "
    "or list there what is missing"
)
_LISTED_WORD = "empty, or what missing_values in [table] names"
_HINTS = {
    "conversion error to double": "name columns of text in categorical, or those to take in numeric; texts that stand "
    'for missing values are named in missing_values, a decimal comma in decimal = ","',
    " columns, got ": "delimiter and comment in [table] say what is between columns and before lines to leave out",
}
"""What to do, by a part of Arrow's messages."""

_CLOSING = re.compile(rb'(?:[^"]++|"")*+"')
"""Rest of a quoted field with the quote that ends it."""


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
    """Read the splits that ``[table]`` names; without a test split, the seed holds training rows out."""
    options = options_of(recipe)

    def titles(path: Path) -> Titles:
        return titles_of(path, options)

    def batches(path: Path, columns: Columns) -> Iterator[tuple[Batch, float]]:
        return batches_of(path, options, columns)

    word = _MISSING_WORD if options.missing_values is msgspec.UNSET else _LISTED_WORD
    return read_columns(recipe, paths["source"], seed, reporter, titles=titles, batches=batches, missing_word=word)


def titles_of(path: Path, options: TableOptions) -> Titles:
    """Return the names of the columns of a file."""
    with _opened(path, options, None) as (reader, _):
        return Titles(reader.schema.names)


def batches_of(path: Path, options: TableOptions, columns: Columns) -> Iterator[tuple[Batch, float]]:
    """Yield the batches of a file, each with the share of the file that is read by then."""
    # Words of nothing but spaces are missing, as empty ones are.
    marks = ("", *(options.missing_values or ()))
    with _opened(path, options, columns) as (reader, file):
        nbytes = file.size()
        for batch in reader:
            yield without_marked(to_batch(path, batch, columns), marks, options.decimal or "."), file.tell() / nbytes


def plain_batches(path: Path, options: TableOptions, names: Sequence[str]) -> Iterator[Any]:
    """Yield the rows as batches of Arrow, all columns as text without surrounding spaces."""
    arrow, compute = require("pyarrow", "tables"), require("pyarrow.compute", "tables")
    with _opened(path, options, Columns((), tuple(names), (), regression=False)) as (reader, _):
        for batch in reader:
            columns = [compute.utf8_trim_whitespace(column) for column in batch.columns]
            columns = [compute.if_else(compute.equal(column, ""), None, column) for column in columns]
            yield arrow.RecordBatch.from_arrays(columns, batch.schema.names)


@contextmanager
def _opened(path: Path, options: TableOptions, columns: Columns | None) -> Iterator[tuple[Any, Any]]:
    """Open a file as Arrow's reader and as the raw file; without columns, only to read their names."""
    arrow, csv = require("pyarrow", "tables"), require("pyarrow.csv", "tables")
    convert: dict[str, Any] = {"decimal_point": options.decimal or "."}
    if columns is not None:
        kinds = dict.fromkeys((*columns.numeric, *columns.labels, *columns.weight), arrow.float64())
        kinds |= dict.fromkeys(columns.words, arrow.string())
        convert |= {"column_types": kinds, "include_columns": list(kinds), "strings_can_be_null": True}
    # Arrow strips spaces from numbers, but not from what stands for missing ones.
    marks = csv.ConvertOptions().null_values if options.missing_values is msgspec.UNSET else options.missing_values
    spaced = (form.format(mark) for mark in marks for form in ("{}", " {}", "{} ", " {} "))
    convert["null_values"] = [*(n * " " for n in range(MAX_SPACES + 1)), *spaced]
    with opened(path) as text:
        if is_utf16(beginning := text.read(2)):
            raise DataError(f"{path} cannot be read as CSV: {encoding_hint(beginning)}")
    try:
        # Files of Arrow, not of Python: Arrow reads ahead in a thread, which would abort the process if it were in
        # Python code at exit.
        with _without_comments(path, options.comment or "", options.delimiter) as name:
            file = arrow.OSFile(os.fsencode(name))
            plain = arrow.CompressedInputStream(file, "gzip") if name.endswith(".gz") else file
            with csv.open_csv(
                plain,
                csv.ReadOptions(
                    block_size=BLOCK_NBYTES, use_threads=False, autogenerate_column_names=options.header is False
                ),
                csv.ParseOptions(delimiter=options.delimiter, newlines_in_values=True),
                csv.ConvertOptions(**convert),
            ) as reader:
                yield reader, file
    except (arrow.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error):
            raise DataError(f"{path} cannot be read as CSV: {encoding_hint(b'')}") from error
        if "straddles two block" in str(error):
            raise DataError(
                f"{path} cannot be read as CSV: it has a row longer than {BLOCK_NBYTES >> 20} MiB, perhaps since a "
                f"quote in it is not closed; shorten such rows"
            ) from error
        hints = "".join(f"; {hint}" for part, hint in _HINTS.items() if part in str(error))
        raise DataError(f"{path} cannot be read as CSV: {_by_name(str(error), path, options)}{hints}") from error


def _by_name(message: str, path: Path, options: TableOptions) -> str:
    """Put the name of a column into a message of Arrow's in place of its number, which counts from 0."""
    number = re.search(r"In CSV column #(\d+)", message)
    if number is None:
        return message
    name = titles_of(path, options).names[int(number[1])]
    return f"{message[: number.start()]}column {printable(name)}{message[number.end() :]}"


@contextmanager
def _without_comments(path: Path, comment: str, delimiter: str) -> Iterator[str]:
    """Name of the file, or of a temporary copy without its comment lines; lines within quotes are none."""
    if not comment:
        yield str(path)
        return
    beginning = comment.encode()
    opening = re.compile(rb"(?:^|" + re.escape(delimiter.encode()) + rb')"')
    with tempfile.NamedTemporaryFile(prefix="hfnumba-") as copy, opened(path) as file:
        goes_on = quoted = False
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        while piece := file.readline(BLOCK_NBYTES):
            if goes_on:
                raise DataError(f"{path} has a line longer than {BLOCK_NBYTES} bytes")
            if quoted or not piece.startswith(beginning):
                copy.write(piece)
                quoted = _ends_quoted(piece, opening, quoted=quoted)
            goes_on = not piece.endswith(b"\n")
        copy.flush()
        yield copy.name


def _ends_quoted(line: bytes, opening: re.Pattern[bytes], *, quoted: bool) -> bool:
    """Whether a quoted field continues after a line; ``quoted`` says whether one continues from before it."""
    place = 0
    while found := _CLOSING.match(line, place) if quoted else opening.search(line, place):
        quoted, place = not quoted, found.end()
    return quoted
