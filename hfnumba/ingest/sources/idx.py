"""IDX files (the format of MNIST), plain or gzip; the header is checked before the values are read.

A file is two zero bytes, a dtype code, the number of dimensions, the dimensions as big-endian uint32, and the
values, big-endian in C order (described with the MNIST files, http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipes import Recipe, RecipeFile
from hfnumba.ingest.sources.arrays import refuse_shape
from hfnumba.ingest.sources.classes import numbered
from hfnumba.ingest.sources.raw import DEFLATE_RATIO, RawData, opened, source_file
from hfnumba.linux import empty
from hfnumba.progress import Reporter
from hfnumba.store.manifest import SourceFile

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_NDIM = 8
BLOCK = 2**20


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
    """Read the splits of a recipe, one IDX file for each ``X`` and each ``y``; the seed is not used."""
    arrays: dict[tuple[str | None, str | None], NDArray[Any]] = {}
    sources = []
    for file in recipe.files:
        arrays[file.split, file.role], record = read_idx(paths[file.name], file)
        sources.append(record)
    names = {file.split: None for file in recipe.files if file.split is not None}
    splits, classes = numbered(recipe, {name: (arrays[name, "X"], arrays[name, "y"]) for name in names})
    return RawData(splits, tuple(sources), classes=classes)


def read_idx(path: Path, expected: RecipeFile | None = None) -> tuple[NDArray[Any], SourceFile]:
    """Read an array from an IDX file, and the record of its uncompressed bytes.

    Parameters
    ----------
    path : Path
        File to read; decompressed if its name ends in ``.gz``.
    expected : RecipeFile, optional
        Required size and SHA-256.

    Returns
    -------
    array : ndarray
        Values in the byte order of the machine.
    source : SourceFile

    Raises
    ------
    DataError
        If the header is not an IDX header, or the size of the file is not the one its header gives.

    Notes
    -----
    At most one byte more than the header gives is read, and the header may not claim more than the size of the file
    (times the largest ratio of deflate) allows: a small file cannot take much memory.
    """
    expected = expected or RecipeFile(name=path.name.removesuffix(".gz"))
    with opened(path) as file:
        header, shape, dtype = read_idx_header(path, file, expected)
        nbytes = math.prod(shape) * dtype.itemsize
        values = empty((nbytes,), np.uint8)
        n_read = _fill(values.data, file)
        more = n_read == nbytes and file.read(1)
    if n_read != nbytes or more:
        found = "more" if more else f"only {n_read}"
        raise DataError(f"{path} has shape {shape} in its header, so {nbytes} bytes of values, but holds {found}")
    array = values.view(dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False), source_file(expected, path, header, values.data)


def read_idx_header(
    path: Path, file: BinaryIO, expected: RecipeFile | None = None
) -> tuple[bytes, tuple[int, ...], np.dtype[Any]]:
    """Read the bytes of a header, and the shape and dtype in it; ``file`` is then at the first value.

    Raises
    ------
    DataError
        If it is not an IDX header, or does not fit the size of the file or that of ``expected``.
    """
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in DTYPES or not 1 <= head[3] <= MAX_NDIM:
        raise DataError(f"{path} is not an IDX file: it starts with {head.hex() or 'nothing'}")
    dims = file.read(4 * head[3])
    if len(dims) < 4 * head[3]:
        raise DataError(f"{path} ends within its IDX header")
    shape: tuple[int, ...] = struct.unpack(f">{head[3]}I", dims)
    dtype = np.dtype(DTYPES[head[2]])
    refuse_shape(path, shape, dtype.itemsize)
    _refuse_size(path, len(head + dims), math.prod(shape) * dtype.itemsize, shape, expected)
    return head + dims, shape, dtype


def _fill(room: memoryview, file: BinaryIO) -> int:
    """Read until the room is full or the file ends, in blocks, which bounds the buffers of a gzip file."""
    n_read = 0
    while n_read < len(room) and (n := file.readinto(room[n_read : n_read + BLOCK])):  # type: ignore[attr-defined]
        n_read += n
    return n_read


def _refuse_size(path: Path, n_header: int, nbytes: int, shape: tuple[int, ...], expected: RecipeFile | None) -> None:
    """Raise if the header does not fit the recipe or the size of the file, before the values are read."""
    if expected is not None and expected.nbytes is not None and n_header + nbytes != expected.nbytes:
        raise DataError(
            f"{path} has shape {shape} in its header, {n_header + nbytes} bytes, the recipe expects {expected.nbytes}"
        )
    size = path.stat().st_size
    if path.suffix == ".gz":
        if nbytes > size * DEFLATE_RATIO:
            raise DataError(f"{path} has shape {shape} in its header, more than its {size} bytes can hold")
    elif n_header + nbytes != size:
        raise DataError(
            f"{path} has shape {shape} in its header, so {n_header + nbytes} bytes in all, but holds {size}"
        )
