"""Recipe of a single table, made from its file and the name of its label."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from hfnumba.errors import DataError, UsageError
from hfnumba.formats.extras import require
from hfnumba.ingest.recipe_tables import TableOptions
from hfnumba.ingest.recipes import Format, Recipe
from hfnumba.ingest.sources.columns import left_out
from hfnumba.ingest.sources.raw import opened
from hfnumba.ingest.sources.survey import MAX_CATEGORIES
from hfnumba.path_text import path_text
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
_DECORATION = str.maketrans("", "", "+\u2212$€£¥%()',_ \u00a0\u202f")
"""What people put between and around digits: currency, percent, signs, separators of thousands, a decimal comma."""


def table_format(path: Path) -> Format | None:
    """Return the format of a file that is one table, by its suffix; None for any other."""
    return next((name for suffix, name in SUFFIXES.items() if path.name.lower().endswith(suffix)), None)


@dataclass
class _Found:
    """Columns of a table, those of text, those that have a block of numbers alone, and the different values that count.

    Values of text and of labels count.
    """

    names: tuple[str, ...]
    texts: set[str] = field(default_factory=set)
    fractional: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    values: dict[str, set[str]] = field(default_factory=dict)
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
        known = self.values.setdefault(name, set())
        if (counted or name in self.texts) and len(known) <= MAX_CATEGORIES:
            known.update(map(str, compute.unique(column.drop_null()).to_pylist()))

    def odd_number(self, name: str) -> str | None:
        """Value for which a column is one of text although it has numbers before or most of its values are numbers."""
        if name not in self.texts:
            return None
        values = sorted(self.values[name])
        n_numbers = sum(_is_number(value.translate(_DECORATION)) for value in values)
        if name not in self.numbers and 2 * n_numbers <= len(values):
            return None
        return next((value for value in values if not _is_number(value)), None)


def table_recipe(
    path: Path,
    labels: Sequence[str],
    *,
    task: Task | None = None,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> Recipe:
    """Make the recipe of a CSV or Parquet file with a header; the file is read once for the types of its columns.

    Numbers are features as they are, text becomes categories, missing values become the mean of the training rows or a
    category of their own; features, and targets of regression, are standardised.

    Parameters
    ----------
    path : Path
    labels : sequence of str
        Column of the class, or one or several columns of the target of a regression.
    task : {"classification", "regression"}, optional
        By default regression for fractions and several labels, classification for text and at most 20 different whole
        numbers.
    categorical : sequence of str
        Columns of numbers that are categories.
    drop : sequence of str
        Columns that are no features.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a named column, or has a column that cannot be a feature.
    UsageError
        If the labels are whole numbers that may be classes or not.
    """
    format_name = table_format(path)
    if format_name is None or not path.is_file():
        ends = ", ".join(SUFFIXES)
        raise DataError(f"{path} is not a table; expected a file whose name ends in {ends}")
    path = path.resolve()
    options = TableOptions(train=(path_text(path.name),), delimiter=delimiter_of(path) if format_name == "csv" else ",")
    found = _read(path, format_name, options, (*labels, *categorical), drop)
    left = [name for name in found.names if name not in {*labels, *drop}]
    words = [name for name in left if name in found.texts or name in categorical]
    unsaid = [name for name in words if name not in categorical]
    _refuse_odd_numbers(found, unsaid, labels if task is None else ())
    _refuse_names_of_rows(found, unsaid)
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


def _read(path: Path, format_name: Format, options: TableOptions, named: Sequence[str], drop: Sequence[str]) -> _Found:
    source = import_module(f"hfnumba.ingest.sources.{format_name}")
    titles = source.titles_of(path, options)
    for name in (*named, *drop):
        if name not in titles.names:
            close = difflib.get_close_matches(name, titles.names, 1)
            hint = f"; do you mean {close[0]}?" if close else ""
            raise DataError(f"{path} has no column {name!r}; it has {listed(titles.names)}{hint}")
    # pandas' numbers of rows are no features.
    names = [name for name in titles.names if name in named or name not in {*left_out(titles), *drop}]
    found = _Found(tuple(names))
    batches: Iterator[Any] = source.plain_batches(path, options, names)
    for batch in batches:
        found.n_rows += batch.num_rows
        for name in names:
            found.add(name, batch.column(batch.schema.get_field_index(name)), counted=name in named)
    if not found.n_rows:
        raise DataError(f"{path} has no rows")
    return found


def delimiter_of(path: Path, comment: str = "", usual: str = "") -> str:
    """Character that the first line of a file has most often, of those that delimit columns; ``usual`` if it has it."""
    with opened(path) as file:
        first = file.readline(2**20).decode("utf-8", "replace")
        while comment and first.startswith(comment):
            first = file.readline(2**20).decode("utf-8", "replace")
    return usual if usual and usual in first else max(",;\t|", key=first.count)


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


def _is_number(text: str) -> bool:
    """Whether Arrow reads a text as a number, which it does with columns of CSV."""
    arrow = require("pyarrow", "tables")
    try:
        return math.isfinite(arrow.scalar(text).cast(arrow.float64()).as_py())
    except arrow.ArrowInvalid:
        return False


def _refuse_odd_numbers(found: _Found, words: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse text where other values are numbers, which as categories or classes would lose their order."""
    correct = "correct such values, or write a recipe with decimal or missing_values in [table]"
    for name in words:
        if (odd := found.odd_number(name)) is not None:
            raise DataError(
                f"column {name} is text because of values such as {odd[:40]!r}, but others are numbers; {correct}, say "
                f"--categorical {name!r} if they are categories, or leave the column out with --drop {name!r}"
            )
    for name in labels:
        if (odd := found.odd_number(name)) is not None:
            raise DataError(
                f"the label {name} is text because of values such as {odd[:40]!r}, but others are numbers; {correct}, "
                "or say --task classification if they are names of classes"
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
