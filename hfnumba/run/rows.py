"""Rows of features in a file, read block by block: a small file that expands to much takes little memory."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError, HfnumbaError, UsageError

_BLOCK_NBYTES = 2**22
_READ = "rows are read from tables (.csv, .tsv, .parquet), .npy, .npz, IDX, .ark and .scp files, and stores"


@dataclass(frozen=True)
class RowFile:
    """Rows of a file, whose header is read and checked.

    Attributes
    ----------
    n_rows, n_features : int
        All axes after the first are flattened; a vector is one row.
    blocks : callable
        Function that reads the rows from the first on, in arrays of shape (rows, n_features) of about 4 MB.
    """

    n_rows: int
    n_features: int
    blocks: Callable[[], Iterator[NDArray[Any]]]


def open_rows(path: Path) -> RowFile:
    """Open rows of features in ``.npy``, ``.npz`` (its array ``X``, or its only one) or IDX, plain or ``.gz``.

    Nothing is unpickled. Only an array in Fortran's order within an archive is copied, to a temporary file.

    Raises
    ------
    DataError
        If the file is not what its suffix says; also while its blocks are read.
    UsageError
        If an archive has several arrays and none is called ``X``.
    """
    if not path.is_file():
        if path.exists():
            raise DataError(
                f"{path} is a folder, pipe or device, and rows are read from a file, in parts and more than once; "
                f"write them to a file (.npy, .npz, or IDX) first"
            )
        raise DataError(f"there is no file {path}; give a file of rows (.npy, .npz, or IDX)")
    with _reading(path):
        if path.suffix == ".npy":
            from hfnumba.ingest.sources.npy import map_npy  # noqa: PLC0415 - only for this format

            return _of_array(path, map_npy(path))
        return _of_archive(path) if path.suffix == ".npz" else _of_idx(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise what reading of damaged files raises as DataError."""
    try:
        yield
    except HfnumbaError:
        raise
    except (ValueError, EOFError, OSError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as rows of numbers: {error}") from error


def _of_array(path: Path, array: NDArray[Any]) -> RowFile:
    n_rows, n_features = _sizes(path, array.shape)
    step = _step(n_features, array.dtype)

    def blocks() -> Iterator[NDArray[Any]]:
        rows = array[None] if array.ndim == 1 else array
        for first in range(0, n_rows, step):
            block = rows[first : first + step]
            yield block.reshape(len(block), n_features)

    return RowFile(n_rows, n_features, blocks)


def _of_archive(path: Path) -> RowFile:
    from hfnumba.ingest.sources.npy import read_npy_header  # noqa: PLC0415 - only for this format
    from hfnumba.ingest.sources.npz import checked_member  # noqa: PLC0415

    with zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if "X" not in members and len(members) != 1:
            raise UsageError(
                f"{path} holds the arrays {', '.join(members) or '(none)'}, expected one of them to be called X"
            )
        member = members["X" if "X" in members else next(iter(members))]
        shape, fortran, dtype = checked_member(path, archive, member)

    def opened() -> Iterator[NDArray[Any]]:
        with _reading(path), zipfile.ZipFile(path) as archive, archive.open(member) as file:
            read_npy_header(file, f"{path}: {member.filename}")
            yield from _streamed(path, file, shape, dtype)

    if fortran and len(shape) > 1:
        return _of_array(path, _spooled(opened, shape, dtype))
    return RowFile(*_sizes(path, shape), opened)


def _of_idx(path: Path) -> RowFile:
    from hfnumba.ingest.sources.idx import read_idx_header  # noqa: PLC0415 - only for this format
    from hfnumba.ingest.sources.raw import opened as opened_file  # noqa: PLC0415

    try:
        with opened_file(path) as file:
            _, shape, dtype = read_idx_header(path, file)
    except DataError as error:
        raise DataError(f"{error}; {_READ}") from error

    def blocks() -> Iterator[NDArray[Any]]:
        with opened_file(path) as file:
            read_idx_header(path, file)
            yield from _streamed(path, file, shape, dtype)

    return RowFile(*_sizes(path, shape), blocks)


def _sizes(path: Path, shape: tuple[int, ...]) -> tuple[int, int]:
    """Number of rows, and of features of a row."""
    if not shape:
        raise DataError(f"{path} holds a single number, expected rows of features")
    return (1, shape[0]) if len(shape) == 1 else (shape[0], math.prod(shape[1:]))


def _step(n_features: int, dtype: np.dtype[Any]) -> int:
    return max(1, _BLOCK_NBYTES // max(1, n_features * dtype.itemsize))


def _streamed(path: Path, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Read the rows of an array in C order from where a file is; all of it, so that its checksum is compared."""
    n_rows, n_features = _sizes(path, shape)
    step = _step(n_features, dtype)
    for first in range(0, n_rows, step):
        n = min(step, n_rows - first)
        nbytes = n * n_features * dtype.itemsize
        data = file.read(nbytes)
        if len(data) != nbytes:
            raise DataError(f"{path} ends before its last row: its header has the shape {shape}")
        yield np.frombuffer(data, dtype).reshape(n, n_features)
    if file.read(1):
        raise DataError(f"{path} holds more than the shape {shape} in its header")


def _spooled(
    blocks: Callable[[], Iterator[NDArray[Any]]], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Array in Fortran's order, whose elements come in the order of the file, by way of a temporary file."""
    from hfnumba.ingest.sources.spool import Spool  # noqa: PLC0415 - only for these

    spool = Spool(1, dtype)
    for block in blocks():
        spool.append(block.reshape(-1, 1))
    return spool.array().reshape(shape, order="F")
