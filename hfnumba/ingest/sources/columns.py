"""Features from named columns: numbers as they are, one feature per category; missing values refused or replaced."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipe_tables import TableOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.shuffle import hold_out_rows
from hfnumba.ingest.sources.raw import RawData
from hfnumba.ingest.sources.survey import Batch, Columns, Survey, shown
from hfnumba.ingest.sources.table import Block, gather, located, options_of
from hfnumba.progress import FileProgress, Reporter
from hfnumba.store.columns import Column, canonical, encoded

MAX_LISTED = 10
_VALUE = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_NO_HEADER = (
    "if there is no header line, set header = false in [table] of a recipe, and the columns are called f0, f1 and so on"
)

Batches = Callable[[Path, "Columns"], Iterator[tuple[Batch, float]]]
"""Function that reads the batches of a file, each with the share of the file that is read by then."""


class Titles(NamedTuple):
    """Names of the columns of a file, and those of them that its metadata call an index of rows, or categories."""

    names: list[str]
    numbering: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()


def read_columns(
    recipe: Recipe,
    root: Path,
    seed: int,
    reporter: Reporter,
    *,
    titles: Callable[[Path], Titles],
    batches: Batches,
    missing_word: str = "",
) -> RawData:
    """Read the files twice, for categories and means, then for rows; three times if means need a hold-out.

    Parameters
    ----------
    recipe, root, seed, reporter
        See :class:`hfnumba.ingest.sources.Source`; ``root`` is the folder of the files.
    titles : callable
        Function that returns the names of the columns of a file.
    batches : callable
        Function that reads the needed columns of a file.
    missing_word : str
        What a missing label or category may be in the file, with a place for the word "class" or "category"; by
        default nothing is said.
    """
    options = options_of(recipe)
    files = located(recipe, root)
    first = titles(files["train"][0])
    columns = _choose(options, recipe.task == "regression", first, files["train"][0])
    for paths in files.values():
        for path in paths:
            found = titles(path).names
            missing = set(columns.named) - set(found)
            if missing:
                absent = ", ".join(map(shown, sorted(missing)))
                raise DataError(f"{path} has no column {absent}; it has {_listed(found)}{header_hint(found)}")
            refuse_twice(path, found, columns.named)
    progress = FileProgress(reporter.progress("Reading columns", "bytes"), files)
    survey = _read_files(Survey(columns, missing_word), files, batches, progress)
    if survey.n_missing and options.missing == "refuse":
        raise DataError(
            f"{survey.n_missing} values are missing; the first is in {survey.first}; "
            f'set missing = "mean" in [table] to replace them'
        )
    if survey.n_missing and "test" not in files:
        # Means must not use the rows that are held out; how many rows there are is known only now.
        training = np.zeros(survey.n_training, bool)
        training[hold_out_rows(survey.n_training, seed, recipe.hold_out)["train"]] = True
        progress = FileProgress(reporter.progress("Reading columns again", "bytes"), files)
        survey = _read_files(Survey(columns, missing_word), files, batches, progress, training)
    survey.finish(standardise=recipe.standardise)
    record, origin = columns.record(fills=options.missing == "mean"), _origin(columns)

    def blocks(split: str, path: Path) -> Iterator[tuple[Block, float]]:
        for batch, share in batches(path, columns):
            yield _encode(columns, record, origin, batch), share

    raw = gather(recipe, root, seed, reporter, blocks, n_features=columns.n_features, origin=origin)
    targets = columns.labels if columns.regression else ()
    seem = recipe.format == "csv" and _seem_values(first.names)
    notes = (f"Warning: columns are called {_listed(first.names)}; {_NO_HEADER}",) if seem else ()
    return replace(raw, columns=record, targets=targets, notes=(*notes, *survey.notes()))


def _choose(options: TableOptions, regression: bool, titles: Titles, path: Path) -> Columns:
    if not options.labels:
        raise DataError("[table] needs label, the name of the column of the class")
    if len(options.labels) > 1 and not regression:
        raise DataError("[table] names several labels, which only regression has; set task = regression")
    weight = () if options.weight is None else (options.weight,)
    other = {*options.labels, *options.categorical, *weight}
    used = {*other, *(options.numeric or ())}
    index = tuple(name for name in left_out(titles) if name not in used)
    empty = tuple(name for name in at_the_end(titles) if name not in used)
    # An index of pandas with several levels has as many columns without a name.
    refuse_twice(path, titles.names, {*titles.names} - {*index, *empty})
    numeric = tuple(name for name in titles.names if name not in {*other, *index, *empty})
    numeric = numeric if options.numeric is None else options.numeric
    if not (*numeric, *options.categorical):
        rows = f" besides the index of rows {_listed(list(index))}" if index else ""
        raise DataError(
            f"{path} has no column for a feature{rows}; it has {_listed(titles.names)}; name those to take in numeric "
            "or categorical of [table]"
        )
    chosen = [*numeric, *options.categorical, *options.labels, *weight]
    if len(set(chosen)) != len(chosen):
        raise DataError("[table] names a column twice among numeric, categorical, label and weight")
    return Columns(numeric, options.categorical, options.labels, regression, weight, index, empty)


def refuse_twice(path: Path, found: Sequence[str], names: Collection[str]) -> None:
    """Raise if a file has several columns of one of the names.

    Raises
    ------
    DataError
    """
    if twice := [name for name, n in Counter(found).items() if n > 1 and name in names]:
        raise DataError(
            f"{path} has {found.count(twice[0])} columns of the name {shown(twice[0])}; give each a name of its own"
            f"{header_hint(found)}"
        )


def left_out(titles: Titles) -> tuple[str, ...]:
    """Columns that number or name the rows as pandas writes them: its index, and unnamed columns at the start."""
    first = _unnamed(titles.names)
    index = [name for name in titles.names if name in titles.numbering or re.fullmatch(r"__index_level_\d+__", name)]
    return (*first, *(name for name in index if name not in first))


def at_the_end(titles: Titles) -> tuple[str, ...]:
    """Columns without a name at the end of the lines, where spreadsheets write empty ones; not those at the start."""
    return _unnamed(titles.names[len(_unnamed(titles.names)) :][::-1])


def _unnamed(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(takewhile(lambda name: re.fullmatch(r"(Unnamed: [\d.]+)?", name), names))


def _read_files(
    survey: Survey,
    files: Mapping[str, list[Path]],
    batches: Batches,
    progress: FileProgress,
    trains: NDArray[np.bool_] | None = None,
) -> Survey:
    """Read all files; ``trains`` marks the rows of the training files that train, by default all."""
    for split, paths in files.items():
        for path in paths:
            survey.read(split, path, progress.follow(path, batches(path, survey.columns)), trains)
    return survey


def _origin(columns: Columns) -> NDArray[np.float64] | None:
    """What is subtracted from the features; categories have the origin 0."""
    if not columns.origin:
        return None
    origin = np.zeros(columns.n_features)
    origin[: len(columns.numeric)] = [columns.origin[name] for name in columns.numeric]
    return origin


def _encode(columns: Columns, record: tuple[Column, ...], origin: NDArray[np.float64] | None, batch: Batch) -> Block:
    X = encoded(record, batch, origin)
    weights = batch[columns.weight[0]] if columns.weight else None
    if columns.regression:
        return Block(X, None, np.stack([batch[name] for name in columns.labels], axis=1), weights)
    return Block(X, [str(canonical(label)) for label in batch[columns.labels[0]].tolist()], None, weights)


def header_hint(names: Sequence[str]) -> str:
    """What to do if the first line is likely no header, or has other delimiters."""
    if names and names[0].startswith("sep="):
        return '; the first line is one that spreadsheets read: take it out, or set comment = "sep=" in a recipe'
    if len(names) == 1 and (marks := [mark for mark in ";\t|, " if mark in names[0]]):
        return f"; if columns are separated by {marks[0]!r}, say so in delimiter of [table] in a recipe"
    if _seem_values(names):
        return f"; {_NO_HEADER}"
    return ""


def _seem_values(names: Sequence[str]) -> bool:
    """Whether most names of columns are numbers, but not in equal steps, as numbers of columns or wavelengths are."""
    numbers = [float(name) for name in names if _VALUE.fullmatch(name)]
    steps = {after - before for before, after in pairwise(numbers)}
    counts = steps == {1.0} or (len(numbers) > 2 and len(steps) == 1 and 0.0 not in steps)
    return 2 * len(numbers) > len(names) and not counts


def _listed(names: list[str]) -> str:
    """List the first columns of a file, quoted to show spaces."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(repr(name[:40]) for name in names[:MAX_LISTED]) + more
