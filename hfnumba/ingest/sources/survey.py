"""Survey of a table's columns: means, ranges, categories, missing values, and remarks for the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.prepare import ADVICE, TARGETS_ADVICE
from hfnumba.ingest.sources.numbering import MIN_RUNNING, Numbering
from hfnumba.store.columns import Column, canonical
from hfnumba.store.rounding import LARGEST_WHOLE, MIN_STEPS, Ranges

MAX_CATEGORIES = 10_000
MAX_SHOWN_CATEGORIES = 5
MAX_SHOWN_COLUMNS = 30

Batch = Mapping[str, NDArray[Any]]
"""Columns of a block of rows: float64 with NaN for missing values, or objects (str or None)."""


@dataclass
class Columns:
    """Roles of the columns, and what was found in them: means, origins (see ``Ranges.origin``) and categories."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    labels: tuple[str, ...]
    regression: bool
    weight: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    at_the_end: tuple[str, ...] = ()
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

    def record(self, fills: bool) -> tuple[Column, ...]:
        """Columns in the order of the features; ``fills`` says whether means replace missing values."""
        numbers = [Column(name, fill=self.means[name] if fills else None) for name in self.numeric]
        of_categories = [
            Column(name, tuple(value for value in found if value is not None), None in found)
            for name, found in self.categories.items()
        ]
        return (*numbers, *of_categories)


class Survey:
    """Running statistics of the columns, batch by batch."""

    def __init__(self, columns: Columns, missing_word: str = "") -> None:
        self.columns, self._missing_word = columns, missing_word
        self.spellings: dict[str, dict[str | None, set[str]]] = {name: {} for name in columns.words}
        numbers = (*columns.numeric, *(columns.labels if columns.regression else ()))
        self.learnt: dict[str, Counter[str | None]] = {name: Counter() for name in columns.categorical}
        self.others: dict[str, dict[str, dict[str | None, int]]] = {}
        self.counts, self.sums = dict.fromkeys(numbers, 0), dict.fromkeys(numbers, 0.0)
        self.lowest, self.highest = dict.fromkeys(numbers, np.inf), dict.fromkeys(numbers, -np.inf)
        self.fractional: set[str] = set()
        self.inexact: set[str] = set()
        self.missing: dict[str, int] = {}
        self.first, self.n_training = "", 0
        self.numberings: dict[str, list[Numbering]] = {name: [] for name in columns.numeric}

    @property
    def n_missing(self) -> int:
        """Number of missing values."""
        return sum(self.missing.values())

    def read(self, split: str, path: Path, batches: Iterable[Batch], trains: NDArray[np.bool_] | None) -> None:
        """Add a file of a split; ``trains`` marks the rows of all training files that train, by default all."""
        row = 0
        for found in self.numberings.values() if split == "train" else ():
            found.append(Numbering())
        for batch in batches:
            n = len(next(iter(batch.values())))
            training = np.full(n, split == "train")
            if split == "train":
                if trains is not None:
                    training = trains[self.n_training : self.n_training + n]
                self.n_training += n
                for name, numberings in self.numberings.items():
                    numberings[-1].update(batch[name])
            for name, values in batch.items():
                missing = self._spell(split, name, values) if name in self.spellings else np.isnan(values)
                if missing.any():
                    self._miss(name, missing, path, row)
                if name in self.counts:
                    self._measure(name, values[training & ~missing])
            row += n

    def _spell(self, split: str, name: str, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Collect categories in all their spellings; return which are missing."""
        found, words = self.spellings[name], values.tolist()
        own = self.others.setdefault(split, {}).setdefault(name, {}) if name in self.learnt else {}
        for word, n in Counter(words).items():
            category = canonical(word)
            if name in self.learnt and split == "train":
                self.learnt[name][category] += n
            elif name in self.learnt:
                own[category] = own.get(category, 0) + n
            if category in found or len(found) <= MAX_CATEGORIES:
                found.setdefault(category, set()).add(word)
        if len(found) > MAX_CATEGORIES and name in self.columns.categorical:
            raise DataError(
                f"column {shown(name)} has more than {MAX_CATEGORIES} categories; leave it out of categorical if it "
                f"names the rows"
            )
        return np.array([word is None for word in words], bool)

    def _miss(self, name: str, missing: NDArray[np.bool_], path: Path, row: int) -> None:
        place = f"column {shown(name)}, row {row + int(np.argmax(missing))} (counted from 0) of {path}"
        if name in self.columns.labels or name in self.columns.weight:
            kind = "label" if name in self.columns.labels else "weight"
            hint = f": it is {self._missing_word.format('class')}" if self._missing_word and kind == "label" else ""
            raise DataError(f"a {kind} is missing in {place}{hint}")
        hint = f": it is {self._missing_word.format('category')}" if self._missing_word and name in self.learnt else ""
        self.first = self.first or f"{place}{hint}"
        self.missing[name] = self.missing.get(name, 0) + int(missing.sum())

    def _measure(self, name: str, known: NDArray[np.float64]) -> None:
        if not len(known):
            return
        self.counts[name] += len(known)
        with np.errstate(over="ignore"):
            self.sums[name] += float(known.sum())
            if name not in self.inexact and (known.astype(np.float32) != known).any():
                self.inexact.add(name)
        self.lowest[name] = min(self.lowest[name], float(known.min()))
        self.highest[name] = max(self.highest[name], float(known.max()))
        if name not in self.fractional and (known != np.floor(known)).any():
            self.fractional.add(name)

    def finish(self, *, standardise: bool) -> None:
        """Record means, origins and categories; refuse columns whose values float32 cannot distinguish."""
        for name, n in self.counts.items():
            if not n:
                raise DataError(
                    f"column {shown(name)} has no value in the training rows; leave it out with --drop {name!r}, or "
                    "name the columns to take in numeric of a recipe"
                )
            self.columns.means[name] = self.sums[name] / n
        advice = None if standardise else f"{ADVICE}, or name the columns to take in numeric"
        self.columns.origin = self._origins(self.columns.numeric, advice)
        if self.columns.regression:
            self._origins(self.columns.labels, TARGETS_ADVICE)
        for name in self.columns.categorical:
            found = self.spellings[name]
            self.columns.categories[name] = sorted(found, key=lambda value: (value is None, value or ""))

    def _origins(self, names: Sequence[str], advice: str | None) -> dict[str, float]:
        if not names:
            return {}
        low, high = (np.array([ends[name] for name in names]) for ends in (self.lowest, self.highest))
        inexact = np.array([name in self.inexact for name in names])
        found = Ranges(low, high, inexact, parsed=True).origin(lambda j: f"column {shown(names[j])}", advice)
        return {} if found is None else dict(zip(names, found.tolist(), strict=True))

    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: which columns became features, with type and range, and what is odd about them."""
        names = (*self.columns.numeric, *self.columns.categorical)
        notes = [f"Feature {shown(name)}: {self._describe(name)}" for name in names[:MAX_SHOWN_COLUMNS]]
        if len(names) > MAX_SHOWN_COLUMNS:
            notes.append(f"Features are also {len(names) - MAX_SHOWN_COLUMNS} more columns, see hfnumba data info")
        if self.columns.left_out:
            notes.append(_of_index(self.columns.left_out))
        if n := len(self.columns.at_the_end):
            what = f"{n} columns without a name" if n > 1 else "a column without a name"
            notes.append(f"Left out: {what} at the end of the lines; to have it, give it a name")
        for name, found in self.spellings.items():
            several = sorted(sorted(words - {None}) for words in found.values() if len(words - {None}) > 1)
            if several:
                example = " and ".join(map(shown, several[0][:3]))
                notes.append(f"Column {shown(name)} spells values in several ways: {example} are taken for the same")
            alike: dict[str, list[str]] = {}
            for word in sorted(value for value in found if value is not None):
                alike.setdefault(word.casefold(), []).append(word)
            if differing := [words for words in alike.values() if len(words) > 1]:
                two = " and ".join(map(shown, differing[0][:2]))
                notes.append(f"Warning: column {shown(name)} has {two}, two values that differ in capitals alone")
            if self._missing_word and name in self.missing:
                notes.append(f"A missing value of column {shown(name)} is {self._missing_word.format('category')}")
        return (*notes, *self._unseen(), *self._ordered())

    def _ordered(self) -> Iterator[str]:
        """Warnings of columns that number or name the rows."""
        for name, numberings in self.numberings.items():
            if sum(found.n for found in numberings) < MIN_RUNNING:
                continue
            running = all(found.consecutive for found in numberings)
            if running or all(found.ordered for found in numberings):
                what = "is a running number" if running else "has a larger (or smaller) value from row to row"
                yield (
                    f"Warning: column {shown(name)} {what}, which may give away labels by the order of the rows; to "
                    f"leave it out, say --drop {name!r}, or name the columns to take in numeric of a recipe"
                )
        for name, counts in self.learnt.items():
            known = {value: n for value, n in counts.items() if value is not None}
            if len(known) >= MIN_RUNNING and max(known.values()) == 1:
                yield (
                    f"Warning: column {shown(name)} has another category in each row, so it names the rows, and "
                    f"nothing can be learnt from it; to leave it out, do not name it in categorical"
                )

    def _unseen(self) -> Iterator[str]:
        """Warnings of categories in files of other splits that no row of the training files has."""
        for split, columns in self.others.items():
            for name, counts in columns.items():
                unseen = {value: n for value, n in counts.items() if value not in self.learnt[name]}
                if unseen:
                    words = ["a missing value" if value is None else repr(value[:40]) for value in unseen]
                    more = ", …" if len(words) > MAX_SHOWN_CATEGORIES else ""
                    yield (
                        f"Warning: {sum(unseen.values())} of {sum(counts.values())} rows of {split} have a category of "
                        f"column {shown(name)} that no row of train has: {', '.join(words[:MAX_SHOWN_CATEGORIES])}"
                        f"{more}; is it spelled in another way in train?"
                    )

    def _describe(self, name: str) -> str:
        missing = f", {self.missing[name]} missing" if name in self.missing else ""
        if name in self.spellings:
            found = [shown(value) for value in self.columns.categories[name] if value is not None]
            more = ", …" if len(found) > MAX_SHOWN_CATEGORIES else ""
            return f"{len(found)} categories ({', '.join(found[:MAX_SHOWN_CATEGORIES])}{more}){missing}"
        kind = "number" if name in self.fractional else "whole number"
        missing = f"{missing} (now the mean {self.columns.means[name]:g})" if missing else ""
        origin = self.columns.origin.get(name)
        before = f", of which {origin:.15g} is subtracted before rounding" if origin else ""
        low, high = self.lowest[name], self.highest[name]
        largest = max(abs(low), abs(high))
        if low < high and largest < LARGEST_WHOLE and high - low < MIN_STEPS * np.spacing(largest):
            before = ", which differ in the last digits of float64 alone, so they are taken for a constant"
        return f"{kind} from {low:.15g} to {high:.15g}{before}{missing}"


def _of_index(names: Sequence[str]) -> str:
    """Sentence about the columns of pandas' index of rows, which are no features."""
    words = ", ".join(map(shown, dict.fromkeys(names)))
    if (unnamed := names.count("")) > 1:
        return (
            f"No feature is {words} ({unnamed} columns without a name), an index of rows of several levels as pandas "
            f"writes it; to have it, give each column a name"
        )
    return f"No feature is {words}, an index of rows as pandas writes it; to have it, name it in numeric of a recipe"


def shown(name: str) -> str:
    """A name or a word for a message: quoted where it has spaces or unprintable characters, at most 40 characters."""
    return name[:40] if name and name.isprintable() and " " not in name else repr(name[:40])
