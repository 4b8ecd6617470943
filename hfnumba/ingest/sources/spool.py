"""Temporary storage on disk for rows that arrive in blocks, and numbering of their labels."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from hfnumba.atomic import FULL
from hfnumba.errors import DataError
from hfnumba.formats.numbers import real, whole
from hfnumba.ingest.sources.raw import opened

GUNZIP_BLOCK = 2**20
MAX_NAMES = 100_000
"""Largest number of distinct labels."""


class Spool:
    """Rows of one dtype in an unnamed temporary file, which disappears when the process ends in any way.

    It takes as much disk space as the rows, in the folder for temporary files (``TMPDIR``).
    """

    def __init__(self, n_columns: int, dtype: Any = np.float32) -> None:
        self.n_columns, self.dtype, self.n_rows = n_columns, np.dtype(dtype), 0
        self._file = tempfile.TemporaryFile(prefix="hfnumba-")  # noqa: SIM115 - lives as long as the rows

    def append(self, block: NDArray[Any]) -> None:
        """Append rows."""
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(block, self.dtype)
        with _disk_errors():
            self._file.write(values.data)
        self.n_rows += len(values)

    def array(self) -> NDArray[Any]:
        """Return all rows as a memory map of the file."""
        with _disk_errors():
            self._file.flush()
        if not self.n_rows:
            return np.empty((0, self.n_columns), self.dtype)
        return np.memmap(self._file, self.dtype, "r", shape=(self.n_rows, self.n_columns))


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Raise errors of the disk as DataError."""
    try:
        yield
    except OSError as error:
        full = " (the disk is full; name a folder with more space in TMPDIR)" if error.errno in FULL else ""
        raise DataError(f"rows could not be written to {tempfile.gettempdir()}: {error.strerror}{full}") from error


def gunzipped(path: Path) -> BinaryIO:
    """Decompress a file into an unnamed temporary file, which disappears when it is closed, or the process ends."""
    file = tempfile.TemporaryFile(prefix="hfnumba-")  # noqa: SIM115 - lives as long as its reader
    with opened(path) as packed:
        while block := packed.read(GUNZIP_BLOCK):
            with _disk_errors():
                file.write(block)
    with _disk_errors():
        file.seek(0)  # writes what is buffered
    return cast(BinaryIO, file)


class Labels:
    """Collects the labels of all splits and numbers the classes at the end.

    Labels that are integers from 0 to below ``MAX_NAMES`` are class numbers. All others are names, sorted as integers
    or as words, and the class number is the position.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._blocks: dict[str, list[NDArray[np.int32]]] = {}

    def add(self, split: str, words: Iterable[str]) -> None:
        """Add the labels of some rows."""
        numbers = self._numbers
        block = np.array([numbers.setdefault(word, len(numbers)) for word in words], np.int32)
        if len(numbers) > MAX_NAMES:
            raise DataError(f'{split}: more than {MAX_NAMES} different labels; for regression set task = "regression"')
        self._blocks.setdefault(split, []).append(block)

    def finish(self) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
        """Return the class numbers of each split, and the names of the classes (empty for class numbers)."""
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
    """Return a label as an integer, or None for a word."""
    with suppress(ValueError):
        return whole(word)
    try:
        value = real(word)
    except ValueError:
        return None
    # From 2**53 on, a float may stand for several integers.
    if not value.is_integer() or abs(value) >= 2**53:
        raise DataError(f'a label is {word}, expected whole numbers or names; for regression set task = "regression"')
    return int(value)
