"""Features from named columns: numbers as they are, one feature per category; missing values refused or replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.prepare import ADVICE, TARGETS_ADVICE
from hfnumba.ingest.recipe_tables import TableOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.shuffle import hold_out_rows
from hfnumba.ingest.sources.raw import RawData
from hfnumba.ingest.sources.table import Block, gather, located, options_of
from hfnumba.progress import FileProgress, Reporter
from hfnumba.store.rounding import Ranges

MAX_CATEGORIES = 10_000
MAX_LISTED = 10

Batch = Mapping[str, NDArray[Any]]
"""Columns of a block of rows: float64 with NaN for missing values, or objects (str or None)."""

Batches = Callable[[Path, "Columns"], Iterator[tuple[Batch, float]]]
"""Function that reads the batches of a file, each with the share of the file that is read by then."""


@dataclass
class Columns:
    """Roles of the columns, and what was found in them: means, origins (see ``Ranges.origin``) and categories."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    labels: tuple[str, ...]
    regression: bool
    weight: tuple[str, ...] = ()
    means: dict[str, float] = field(default_factory=dict)
    origin: dict[str, float] = field(default_factory=dict)
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
    survey.finish(standardise=recipe.standardise)

    def blocks(split: str, path: Path) -> Iterator[tuple[Block, float]]:
        for batch, share in batches(path, columns):
            yield _encode(columns, batch), share

    return gather(recipe, root, seed, reporter, blocks, n_features=columns.n_features, origin=_origin(columns))


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
        numbers = (*columns.numeric, *(columns.labels if columns.regression else ()))
        self.counts, self.sums = dict.fromkeys(numbers, 0), dict.fromkeys(numbers, 0.0)
        self.lowest, self.highest = dict.fromkeys(numbers, np.inf), dict.fromkeys(numbers, -np.inf)
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

    def finish(self, *, standardise: bool) -> None:
        """Record means, origins and categories; refuse columns whose values float32 cannot tell apart."""
        for name, n in self.counts.items():
            if not n:
                raise DataError(f"column {name} has no value in the training rows")
            self.columns.means[name] = self.sums[name] / n
        advice = None if standardise else f"{ADVICE}, or name the columns to take in numeric"
        self.columns.origin = self._origins(self.columns.numeric, advice)
        if self.columns.regression:
            self._origins(self.columns.labels, TARGETS_ADVICE)
        for name, found in self.seen.items():
            self.columns.categories[name] = sorted(found, key=lambda value: (value is None, value or ""))

    def _origins(self, names: Sequence[str], advice: str | None) -> dict[str, float]:
        if not names:
            return {}
        low, high = (np.array([ends[name] for name in names]) for ends in (self.lowest, self.highest))
        found = Ranges(low, high, parsed=True).origin(lambda j: f"column {names[j]}", advice)
        return {} if found is None else dict(zip(names, found.tolist(), strict=True))


def _origin(columns: Columns) -> NDArray[np.float64] | None:
    """What is subtracted from the features; categories have the origin 0."""
    if not columns.origin:
        return None
    origin = np.zeros(columns.n_features)
    origin[: len(columns.numeric)] = [columns.origin[name] for name in columns.numeric]
    return origin


def _encode(columns: Columns, batch: Batch) -> Block:
    n = len(next(iter(batch.values())))
    X = np.zeros((n, columns.n_features), np.float32)
    with np.errstate(over="ignore"):
        for j, name in enumerate(columns.numeric):
            values = batch[name]
            X[:, j] = np.where(np.isnan(values), columns.means[name], values) - columns.origin.get(name, 0.0)
    at = len(columns.numeric)
    for name in columns.categorical:
        place = {value: i for i, value in enumerate(columns.categories[name])}
        X[np.arange(n), [at + place[value] for value in batch[name].tolist()]] = 1
        at += len(place)
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
