"""Pairs of NumPy's ``.npy`` files, memory-mapped and read block by block; never unpickled."""

from __future__ import annotations

import math
import tokenize
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.arrays import BLOCK_NBYTES, read_pairs, refuse_dtype, refuse_shape, width
from hfnumba.ingest.sources.paths import file_record, hashing, inside
from hfnumba.ingest.sources.raw import RawData, opened
from hfnumba.progress import Reporter
from hfnumba.store.manifest import SourceFile

_HEADER_ERRORS = (
    ValueError,
    TypeError,
    SyntaxError,
    EOFError,
    OverflowError,
    RecursionError,
    MemoryError,
    SystemError,
    tokenize.TokenError,
)
"""Errors that NumPy raises for invalid headers."""


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
    """Read the splits that ``[arrays]`` names; without a test split, the seed holds training rows out."""
    return read_pairs(recipe, seed, reporter, partial(_open, paths["source"]))


@dataclass(frozen=True)
class NpyReader:
    """Reader of the array of a file."""

    path: Path
    values: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, from the checked header."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the array, from the header."""
        return self.values.dtype

    @property
    def step(self) -> int:
        """Number of rows in about 4 MB."""
        return max(1, BLOCK_NBYTES // max(1, width(self.shape) * self.dtype.itemsize))

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Copy the rows from ``first`` up to ``stop``."""
        return np.array(self.values[first:stop])

    def record(self, name: str, reporter: Reporter) -> SourceFile:
        """Record size and digest of the file."""
        return file_record(name, self.path, hashing(reporter, [self.path]))


def _open(root: Path, name: str) -> NpyReader:
    path = inside(root, name)
    return NpyReader(path, map_npy(path))


def read_npy_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, whether the order is Fortran's, and dtype; ``file`` is then at the first element.

    Raises
    ------
    DataError
        If the header is invalid or of a newer version; ``where`` names the file in the message.
    """
    try:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"NPY version {version}, expected 1.0 or 2.0")
        with warnings.catch_warnings():
            # A header is a Python literal, and Python's parser warns about damaged ones before it raises.
            warnings.simplefilter("ignore", SyntaxWarning)
            header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read_header(file)
    except _HEADER_ERRORS as error:
        raise DataError(f"{where} has a header that cannot be read: {error}") from error
    return header


def map_npy(path: Path) -> NDArray[Any]:
    """Memory-map the array of an ``.npy`` file, read-only.

    Raises
    ------
    DataError
        If the file is damaged, holds Python objects, or does not have the size its header gives.
    """
    with opened(path) as file:
        shape, fortran, dtype = read_npy_header(file, str(path))
        start = file.tell()
    refuse_dtype(path, dtype)
    refuse_shape(path, shape, dtype.itemsize)
    nbytes, found = math.prod(shape) * dtype.itemsize, path.stat().st_size - start
    if nbytes != found:
        raise DataError(f"{path} has shape {shape} and dtype {dtype} in its header, {nbytes} bytes, but holds {found}")
    if not nbytes:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
