"""Rows that come in blocks, kept on disk so that they can be shuffled without fitting into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.atomic import FULL
from hfnumba.errors import DataError
from hfnumba.ingest.sources.numbers import real, whole

MAX_NAMES = 100_000
"""Distinct labels."""


class Spool:
    """Rows of one dtype in a file without a name: it is gone when the process ends, however that happens.

    Takes as much disk as the rows, in the folder for temporary files (``TMPDIR``).
    """

    def __init__(self, n_columns: int, dtype: Any = np.float32) -> None:
        self.n_columns, self.dtype, self.n_rows = n_columns, np.dtype(dtype), 0
        self._file = tempfile.TemporaryFile(prefix="hfnumba-")  # noqa: SIM115 - lives as long as the rows

    def append(self, block: NDArray[Any]) -> None:
        """Add rows."""
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(block, self.dtype)
        with _kept():
            self._file.write(values.data)
        self.n_rows += len(values)

    def array(self) -> NDArray[Any]:
        """All rows, as a map of the file."""
        with _kept():
            self._file.flush()
        if not self.n_rows:
            return np.empty((0, self.n_columns), self.dtype)
        return np.memmap(self._file, self.dtype, "r", shape=(self.n_rows, self.n_columns))


@contextmanager
def _kept() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = " (the disk is full; name a folder with more space in TMPDIR)" if error.errno in FULL else ""
        raise DataError(f"rows could not be kept in {tempfile.gettempdir()}: {error.strerror}{full}") from error


class Labels:
    """Labels of several splits as they come, numbered when all are known.

    Labels that are whole numbers from 0 to below ``MAX_NAMES`` are class numbers. Any others are names, whole numbers
    in their order or words in theirs, and the class is the place in it.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._blocks: dict[str, list[NDArray[np.int32]]] = {}

    def add(self, split: str, words: Iterable[str]) -> None:
        """Take the labels of some rows."""
        numbers = self._numbers
        block = np.array([numbers.setdefault(word, len(numbers)) for word in words], np.int32)
        if len(numbers) > MAX_NAMES:
            raise DataError(f'{split}: more than {MAX_NAMES} different labels; for regression set task = "regression"')
        self._blocks.setdefault(split, []).append(block)

    def finish(self) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
        """Class numbers of each split, and the names of the classes (none if they are class numbers)."""
        values = {word: number for word in self._numbers if (number := _number(word)) is not None}
        names: tuple[str, ...] = ()
        if len(values) == len(self._numbers):
            order = sorted(set(values.values()))
            if order and (order[0] < 0 or order[-1] >= MAX_NAMES):
                names = tuple(map(str, order))
            place = {value: i for i, value in enumerate(order)}
            table = {word: place[value] if names else value for word, value in values.items()}
        else:
            names = tuple(sorted(self._numbers))
            table = {word: i for i, word in enumerate(names)}
        if len(names) == 1:
            raise DataError(f"all labels are {names[0]}, expected at least 2 classes")
        final = np.array([table[word] for word in self._numbers], np.int64)
        return {split: final[np.concatenate(blocks)] for split, blocks in self._blocks.items()}, names


def _number(word: str) -> int | None:
    """Return the whole number that a label is, or None for a word."""
    with suppress(ValueError):
        return whole(word)
    try:
        value = real(word)
    except ValueError:
        return None
    # From 2**53 on a number with a point may stand for several.
    if not value.is_integer() or abs(value) >= 2**53:
        raise DataError(f'a label is {word}, expected whole numbers or names; for regression set task = "regression"')
    return int(value)
