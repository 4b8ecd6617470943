"""Recipe of a single table, made from its file and the name of its label."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from hfnumba.errors import DataError, UsageError
from hfnumba.formats.extras import require
from hfnumba.ingest.number_text import are_answers, may_have_thousands, odd_number
from hfnumba.ingest.recipe_tables import TableOptions
from hfnumba.ingest.recipes import Format, Recipe
from hfnumba.ingest.sources.columns import at_the_end, header_hint, left_out, refuse_twice
from hfnumba.ingest.sources.paths import inside
from hfnumba.ingest.sources.raw import opened
from hfnumba.ingest.sources.survey import MAX_CATEGORIES, shown
from hfnumba.ingest.sources.table import matches
from hfnumba.path_text import path_text
from hfnumba.progress import SILENT, Reporter
from hfnumba.store.columns import listed
from hfnumba.store.manifest import Task

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
MAX_CLASSES = 20
"""Largest number of different whole numbers that are taken for classes by default."""


def table_format(path: Path) -> Format | None:
    """Return the format of a file that is one table, by its suffix; None for any other."""
    return next((name for suffix, name in SUFFIXES.items() if path.name.lower().endswith(suffix)), None)


def table_files(path: Path) -> tuple[Format, list[Path]]:
    """Format and files of a table: the file itself, or those of a folder in the order of their names.

    Raises
    ------
    DataError
        If there are none, or they are not plain files.
    """
    format_name = table_format(path)
    if format_name is None:
        raise DataError(f"{path} is not a table; expected a file whose name ends in {', '.join(SUFFIXES)}")
    if not path.exists():
        raise DataError(f"there is no file {path}")
    path = path.resolve()
    return format_name, [inside(path.parent, name) for name in matches(path.parent, path.name, format_name)]


@dataclass
class _Found:
    """What was found in the columns of a table, by their names.

    Attributes
    ----------
    names : tuple of str
    texts, fractional, numbers : set of str
        Columns of text; labels with fractions; columns with a block of nothing but numbers.
    values : dict of str to set of str
        Different values of text and of labels.
    fractions, pointed, pointless : set of str
        Columns of CSV with numbers that are surely fractions; those whose numbers have points that may separate
        thousands; those with numbers without a point.
    n_rows : int
    """

    names: tuple[str, ...]
    texts: set[str] = field(default_factory=set)
    fractional: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    values: dict[str, set[str]] = field(default_factory=dict)
    fractions: set[str] = field(default_factory=set)
    pointed: set[str] = field(default_factory=set)
    pointless: set[str] = field(default_factory=set)
    n_rows: int = 0

    def add(self, name: str, column: Any, *, counted: bool) -> None:
        """Add a block of a column as an Arrow array; ``counted`` says whether the values of numbers count, too."""
        arrow, compute = require("pyarrow", "tables"), require("pyarrow.compute", "tables")
        if name not in self.texts:
            try:
                numbers = column.cast(arrow.float64(), safe=False)
                if numbers.null_count < len(numbers):
                    self.numbers.add(name)
                if counted and compute.any(compute.not_equal(numbers, compute.floor(numbers))).as_py():
                    self.fractional.add(name)
            except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError):
                self.texts.add(name)
        if arrow.types.is_string(column.type) and name not in self.texts | self.fractions:
            self._note_points(name, column)
        known = self.values.setdefault(name, set())
        if (counted or name in self.texts) and len(known) <= MAX_CATEGORIES:
            known.update(map(str, compute.unique(column.drop_null()).to_pylist()))

    def _note_points(self, name: str, column: Any) -> None:
        """Note whether a block has numbers with points that may separate thousands, others without, or none of both."""
        compute = require("pyarrow.compute", "tables")
        if not may_have_thousands(column):
            self.fractions.add(name)
        elif name not in self.fractions:
            column = column.filter(compute.not_equal(column, "0"))
            for pointed in compute.unique(compute.match_substring(column, ".")).to_pylist():
                (self.pointed if pointed else self.pointless).add(name)

    def odd_number(self, name: str) -> str | None:
        """Value for which a column is one of text although it has numbers before or most of its values are numbers."""
        return odd_number(self.values[name], began=name in self.numbers) if name in self.texts else None


def table_recipe(
    path: Path,
    labels: Sequence[str],
    *,
    task: Task | None = None,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    reporter: Reporter = SILENT,
) -> Recipe:
    """Make the recipe of a CSV or Parquet file with a header; the file is read once for the types of its columns.

    Numbers are features as they are, text becomes categories, missing values become the mean of the training rows or a
    category of their own; features, and targets of regression, are standardised.

    Parameters
    ----------
    path : Path
        The file, or a folder of files of one table with the same ending, as Spark writes it.
    labels : sequence of str
        Column of the class, or one or several columns of the target of a regression.
    task : {"classification", "regression"}, optional
        By default regression for fractions and several labels, classification for text and at most 20 different whole
        numbers.
    categorical : sequence of str
        Columns of numbers that are categories.
    drop : sequence of str
        Columns that are no features.
    reporter : Reporter
        Receiver of a note on each column of numbers and words that is taken for categories or classes.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a named column, or has a column that cannot be a feature.
    UsageError
        If the labels are whole numbers that may be classes or not.
    """
    (format_name, files), path = table_files(path), path.resolve()
    delimiter = delimiter_of(files[0]) if format_name == "csv" else ","
    options = TableOptions(train=(path_text(path.name),), delimiter=delimiter)
    found = _read(files, format_name, options, (*labels, *categorical), drop)
    left = [name for name in found.names if name not in {*labels, *drop}]
    words = [name for name in left if name in found.texts or name in categorical]
    unsaid = [name for name in words if name not in categorical]
    _decide_odd_numbers(found, unsaid, labels if task is None else (), reporter)
    _refuse_names_of_rows(found, unsaid)
    _warn_of_points(found, reporter)
    return Recipe(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.split(".")[0]).lstrip("._-") or "table",
        title=path_text(path.name),
        format=format_name,
        task=task or _task(found, labels),
        standardise=True,
        table=msgspec.structs.replace(
            options,
            label=labels[0] if len(labels) == 1 else tuple(labels),
            numeric=tuple(name for name in left if name not in words),
            categorical=tuple(words),
            missing="mean",
        ),
    )


def _read(
    files: Sequence[Path], format_name: Format, options: TableOptions, named: Sequence[str], drop: Sequence[str]
) -> _Found:
    source = import_module(f"hfnumba.ingest.sources.{format_name}")
    titles = source.titles_of(files[0], options)
    for path in files:
        there = source.titles_of(path, options).names
        # The first file decides which columns there are.
        for name in (*named, *drop, *titles.names):
            if name not in there:
                close = difflib.get_close_matches(name, there, 1)
                hint = f"; do you mean {close[0]}?" if close else header_hint(there)
                raise DataError(f"{path} has no column {name!r}; it has {listed(there)}{hint}")
    # pandas' numbers of rows and columns without a name are no features.
    without = {*left_out(titles), *at_the_end(titles), *drop}
    names = [name for name in titles.names if name in named or name not in without]
    refuse_twice(files[0], titles.names, names)
    # Numbers that pandas calls categories are text.
    found = _Found(tuple(names), set(titles.categories))
    for path in files:
        batches: Iterator[Any] = source.plain_batches(path, options, names)
        for batch in batches:
            found.n_rows += batch.num_rows
            for name in names:
                found.add(name, batch.column(batch.schema.get_field_index(name)), counted=name in named)
    if not found.n_rows:
        raise DataError(f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''} has no rows")
    return found


def delimiter_of(path: Path, comment: str = "", usual: str = "") -> str:
    """Character that the first line of a file has most often, of those that delimit columns; ``usual`` if it has it.

    Names within quotes do not count.
    """
    with opened(path) as file:
        first = file.readline(2**20).decode("utf-8-sig", "replace")
        while comment and first.startswith(comment):
            first = file.readline(2**20).decode("utf-8", "replace")
    between = re.sub(r'"[^"]*"', "", first)
    return usual if usual and usual in between else max(",;\t|", key=between.count)


def _task(found: _Found, labels: Sequence[str]) -> Task:
    if len(labels) > 1 or labels[0] in found.fractional - found.texts:
        return "regression"
    values = found.values[labels[0]]
    if labels[0] not in found.texts and len(values) > MAX_CLASSES:
        n = f"more than {MAX_CATEGORIES}" if len(values) > MAX_CATEGORIES else str(len(values))
        raise UsageError(
            f"column {labels[0]} has {n} different whole numbers, which may be classes or amounts; say --task "
            "regression or --task classification"
        )
    return "classification"


def _decide_odd_numbers(found: _Found, words: Sequence[str], labels: Sequence[str], reporter: Reporter) -> None:
    """Refuse text where other values are numbers, which as categories or classes would lose their order.

    Codes as in surveys are taken for categories or classes, with a note.
    """
    correct = "correct such values, or write a recipe with decimal or missing_values in [table]"
    for name in (*words, *labels):
        if (odd := found.odd_number(name)) is None:
            continue
        if are_answers(found.values[name]):
            what = "names of classes" if name in labels else "categories"
            reporter.note(
                f"Column {shown(name)} has whole numbers and {odd[:40]!r}; its values are treated as {what}, which "
                f"have no order. If they should be numbers, {correct}"
            )
        elif name in labels:
            raise DataError(
                f"the label {name} is text because of values such as {odd[:40]!r}, but others are numbers; {correct}, "
                "or say --task classification if they are names of classes"
            )
        else:
            raise DataError(
                f"column {name} is text because of values such as {odd[:40]!r}, but others are numbers; {correct}, say "
                f"--categorical {name!r} if they are categories, or leave the column out with --drop {name!r}"
            )


def _warn_of_points(found: _Found, reporter: Reporter) -> None:
    """Warn of columns such as 950, 1.200, 2.450, which are read as fractions."""
    for name in found.names:
        if name in (found.pointed & found.pointless) - found.fractions - found.texts:
            reporter.note(
                f"Warning: the numbers of column {shown(name)} have three digits after a point, or are below 1000 "
                "without one, as if points separated thousands. They are read as fractions; if they are whole numbers, "
                "remove the points"
            )


def _refuse_names_of_rows(found: _Found, words: Sequence[str]) -> None:
    """Refuse text that differs from row to row, which says nothing about other rows."""
    for name in words:
        n = len(found.values[name])
        if n > MAX_CATEGORIES or n > max(MAX_CLASSES, found.n_rows / 2):
            n_text = f"more than {MAX_CATEGORIES}" if n > MAX_CATEGORIES else str(n)
            raise DataError(
                f"column {name} has {n_text} different texts in {found.n_rows} rows, too many for categories; leave it "
                f"out with --drop {name!r}, or correct it if it should be numbers (a decimal comma needs a recipe)"
            )
