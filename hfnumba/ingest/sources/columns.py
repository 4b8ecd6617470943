"""Features from named columns: numbers as they are, one feature per category; missing values refused or replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipe_tables import TableOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.shuffle import hold_out_rows
from hfnumba.ingest.sources.raw import RawData
from hfnumba.ingest.sources.table import Block, gather, located, options_of
from hfnumba.progress import FileProgress, Reporter
from hfnumba.store.columns import Column, encoded

MAX_CATEGORIES = 10_000
MAX_LISTED = 10
MIN_STEPS = 256
"""A numeric column whose range is less than this many float32 spacings is refused."""

Batch = Mapping[str, NDArray[Any]]
"""Columns of a block of rows: float64 with NaN for missing values, or objects (str or None)."""

Batches = Callable[[Path, "Columns"], Iterator[tuple[Batch, float]]]
"""Function that reads the batches of a file, each with the share of the file that is read by then."""


@dataclass
class Columns:
    """Roles of the columns, and the means and categories found in them."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    labels: tuple[str, ...]
    regression: bool
    weight: tuple[str, ...] = ()
    means: dict[str, float] = field(default_factory=dict)
    categories: dict[str, list[str | None]] = field(default_factory=dict)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.numeric) + sum(map(len, self.categories.values()))

    @property
    def named(self) -> tuple[str, ...]:
        """Names of all columns that are read."""
        return tuple(dict.fromkeys((*self.numeric, *self.categorical, *self.labels, *self.weight)))

    @property
    def words(self) -> tuple[str, ...]:
        """Names of the columns that are read as text."""
        return self.categorical if self.regression else (*self.categorical, *self.labels)

    def record(self, fills: bool) -> tuple[Column, ...]:
        """Columns in the order of the features; ``fills`` says whether means replace missing values."""
        numbers = [Column(name, fill=self.means[name] if fills else None) for name in self.numeric]
        of_categories = [
            Column(name, tuple(value for value in found if value is not None), None in found)
            for name, found in self.categories.items()
        ]
        return (*numbers, *of_categories)


def read_columns(
    recipe: Recipe, root: Path, seed: int, reporter: Reporter, *, names: Callable[[Path], list[str]], batches: Batches
) -> RawData:
    """Read the files twice, for categories and means, then for rows; three times if means need a hold-out.

    Parameters
    ----------
    recipe, root, seed, reporter
        See :class:`hfnumba.ingest.sources.Source`; ``root`` is the folder of the files.
    names : callable
        Function that returns the names of the columns of a file.
    batches : callable
        Function that reads the needed columns of a file.
    """
    options = options_of(recipe)
    files = located(recipe, root)
    columns = _choose(options, recipe.task == "regression", names(files["train"][0]), files["train"][0])
    for paths in files.values():
        for path in paths:
            found = names(path)
            missing = set(columns.named) - set(found)
            if missing:
                raise DataError(f"{path} has no column {', '.join(sorted(missing))}; it has {_listed(found)}")
    survey = _survey(files, columns, batches, FileProgress(reporter.progress("Reading columns", "bytes"), files))
    if survey.n_missing and options.missing == "refuse":
        raise DataError(
            f'{survey.n_missing} values are missing; the first is in {survey.first}; set missing = "mean" in [table] '
            f"to replace them"
        )
    if survey.n_missing and "test" not in files:
        # Means must not use the rows that are held out; how many rows there are is known only now.
        training = np.zeros(survey.n_training, bool)
        training[hold_out_rows(survey.n_training, seed, recipe.hold_out)["train"]] = True
        survey = _survey(
            files, columns, batches, FileProgress(reporter.progress("Reading columns again", "bytes"), files), training
        )
    survey.finish()
    record = columns.record(fills=options.missing == "mean")

    def blocks(split: str, path: Path) -> Iterator[tuple[Block, float]]:
        for batch, share in batches(path, columns):
            yield _encode(columns, record, batch), share

    raw = gather(recipe, root, seed, reporter, blocks, n_features=columns.n_features)
    return replace(raw, columns=record, targets=columns.labels if columns.regression else ())


def _choose(options: TableOptions, regression: bool, names: list[str], path: Path) -> Columns:
    if not options.labels:
        raise DataError("[table] needs label, the name of the column of the class")
    if len(options.labels) > 1 and not regression:
        raise DataError("[table] names several labels, which only regression has; set task = regression")
    if len(set(names)) != len(names):
        raise DataError(f"{path} has two columns of the same name")
    weight = () if options.weight is None else (options.weight,)
    other = {*options.labels, *options.categorical, *weight}
    numeric = tuple(name for name in names if name not in other) if options.numeric is None else options.numeric
    chosen = [*numeric, *options.categorical, *options.labels, *weight]
    if len(set(chosen)) != len(chosen):
        raise DataError("[table] names a column twice among numeric, categorical, label and weight")
    return Columns(numeric, options.categorical, options.labels, regression, weight)


def _survey(
    files: Mapping[str, list[Path]],
    columns: Columns,
    batches: Batches,
    progress: FileProgress,
    trains: NDArray[np.bool_] | None = None,
) -> _Survey:
    """Survey all columns; ``trains`` marks the rows of the training files that train, by default all."""
    survey = _Survey(columns)
    for split, paths in files.items():
        for path in paths:
            row = 0
            for batch in progress.follow(path, batches(path, columns)):
                n = len(next(iter(batch.values())))
                training = np.full(n, split == "train")
                if split == "train":
                    if trains is not None:
                        training = trains[survey.n_training : survey.n_training + n]
                    survey.n_training += n
                for name, values in batch.items():
                    survey.update(name, values, training, path, row)
                row += n
    return survey


class _Survey:
    """Running statistics of the columns, batch by batch."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.seen: dict[str, set[str | None]] = {name: set() for name in columns.categorical}
        self.counts, self.sums = dict.fromkeys(columns.numeric, 0), dict.fromkeys(columns.numeric, 0.0)
        self.lowest, self.highest = dict.fromkeys(columns.numeric, np.inf), dict.fromkeys(columns.numeric, -np.inf)
        self.n_missing, self.first, self.n_training = 0, "", 0

    def update(self, name: str, values: NDArray[Any], training: NDArray[np.bool_], path: Path, row: int) -> None:
        """Add a column of a batch that begins at ``row`` of a file; ``training`` marks the rows that train."""
        missing = _missing(values)
        if missing.any():
            place = f"column {name}, row {row + int(np.argmax(missing))} (counted from 0) of {path}"
            if name in self.columns.labels or name in self.columns.weight:
                raise DataError(f"a {'label' if name in self.columns.labels else 'weight'} is missing in {place}")
            self.first = self.first or place
            self.n_missing += int(missing.sum())
        if name in self.seen:
            self.seen[name].update(values.tolist())
            if len(self.seen[name]) > MAX_CATEGORIES:
                raise DataError(f"column {name} has more than {MAX_CATEGORIES} categories")
        elif name in self.counts and len(known := values[training & ~missing]):
            self.counts[name] += len(known)
            self.sums[name] += float(known.sum())
            self.lowest[name] = min(self.lowest[name], float(known.min()))
            self.highest[name] = max(self.highest[name], float(known.max()))

    def finish(self) -> None:
        """Record means and categories; refuse columns whose values float32 cannot tell apart."""
        for name, n in self.counts.items():
            if not n:
                raise DataError(f"column {name} has no value in the training rows")
            self.columns.means[name] = self.sums[name] / n
            _refuse_coarse(name, self.lowest[name], self.highest[name])
        for name, found in self.seen.items():
            self.columns.categories[name] = sorted(found, key=lambda value: (value is None, value or ""))


def _refuse_coarse(name: str, lowest: float, highest: float) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        step = float(np.spacing(np.float32(max(abs(lowest), abs(highest)))))
    if 0 < highest - lowest < MIN_STEPS * step:
        raise DataError(
            f"column {name} goes from {lowest:.15g} to {highest:.15g}, where float32 has steps of {step:g}: subtract "
            f"an offset first, or name the columns to take in numeric"
        )


def _encode(columns: Columns, record: tuple[Column, ...], batch: Batch) -> Block:
    X = encoded(record, batch)
    weights = batch[columns.weight[0]] if columns.weight else None
    if columns.regression:
        return Block(X, None, np.stack([batch[name] for name in columns.labels], axis=1), weights)
    return Block(X, batch[columns.labels[0]].tolist(), None, weights)


def _listed(names: list[str]) -> str:
    """List the first columns of a file, quoted to show spaces."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(repr(name[:40]) for name in names[:MAX_LISTED]) + more


def _missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.array([value is None for value in values.tolist()], bool)
