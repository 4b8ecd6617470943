"""Pairs of NumPy's ``.npy`` files, mapped into memory and read a block at a time. Never unpickled."""

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
from hfnumba.progress import Watch
from hfnumba.store.manifest import SourceFile

_HEADER_ERRORS = (
    ValueError,
    TypeError,
    SyntaxError,
    EOFError,
    OverflowError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)
"""What NumPy raises for headers of the wrong kind."""


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, watch: Watch) -> RawData:
    """Read the splits that ``[arrays]`` names; of a training split alone, the seed holds rows out."""
    return read_pairs(recipe, seed, watch, partial(_open, paths["source"]))


@dataclass(frozen=True)
class NpyRows:
    """The array of a file."""

    path: Path
    values: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """As the header says, which was checked."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """As the header says."""
        return self.values.dtype

    @property
    def step(self) -> int:
        """Rows of about 4 MB."""
        return max(1, BLOCK_NBYTES // max(1, width(self.shape) * self.dtype.itemsize))

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Copy some rows."""
        return np.array(self.values[first:stop])

    def record(self, name: str, watch: Watch) -> SourceFile:
        """Record the file."""
        return file_record(name, self.path, hashing(watch, [self.path]))


def _open(root: Path, name: str) -> NpyRows:
    path = inside(root, name)
    return NpyRows(path, map_npy(path))


def read_npy_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the shape, whether it is in Fortran's order, and the dtype; ``file`` is then at the first element.

    Raises
    ------
    DataError
        If it is no header, or a newer one; ``where`` names the file.
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
            # A header is a Python literal, and Python's parser warns of damaged ones before it refuses them.
            warnings.simplefilter("ignore", SyntaxWarning)
            header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read_header(file)
    except _HEADER_ERRORS as error:
        raise DataError(f"{where} has a header that cannot be read: {error}") from error
    return header


def map_npy(path: Path) -> NDArray[Any]:
    """Map the array of an ``.npy`` file into memory, read-only.

    Raises
    ------
    DataError
        If it is damaged, holds Python objects, or is not as large as its header says.
    """
    with opened(path) as file:
        shape, fortran, dtype = read_npy_header(file, str(path))
        start = file.tell()
    refuse_dtype(path, dtype)
    refuse_shape(path, shape, dtype.itemsize)
    nbytes, held = math.prod(shape) * dtype.itemsize, path.stat().st_size - start
    if nbytes != held:
        raise DataError(f"{path} has shape {shape} and dtype {dtype} in its header, {nbytes} bytes, but holds {held}")
    if not nbytes:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
