"""IDX files (the format of MNIST), plain or gzip. The header is checked before anything else is read.

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
from hfnumba.ingest.sources.raw import DEFLATE_RATIO, RawData, opened, source_file
from hfnumba.linux import empty
from hfnumba.progress import Watch
from hfnumba.store.manifest import SourceFile

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_NDIM = 8
BLOCK = 2**20


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, watch: Watch) -> RawData:
    """Read the splits of a recipe with one IDX file for each ``X`` and each ``y``; the seed is not used."""
    arrays: dict[tuple[str | None, str | None], NDArray[Any]] = {}
    sources = []
    for file in recipe.files:
        arrays[file.split, file.role], record = read_idx(paths[file.name], file)
        sources.append(record)
    names = {file.split: None for file in recipe.files if file.split is not None}
    return RawData({name: (arrays[name, "X"], arrays[name, "y"]) for name in names}, tuple(sources))


def read_idx(path: Path, expected: RecipeFile | None = None) -> tuple[NDArray[Any], SourceFile]:
    """Read an array from an IDX file, and the record of its uncompressed bytes.

    Parameters
    ----------
    path : Path
        The file; decompressed if its name ends in ``.gz``.
    expected : RecipeFile, optional
        Size and SHA-256 it must have.

    Returns
    -------
    array : ndarray
        In the byte order of the machine.
    source : SourceFile

    Raises
    ------
    DataError
        If the header is not one of IDX, or the file is not exactly as long as its header says.

    Notes
    -----
    At most one byte more than the header promises is read, and a header is believed only as far as the size
    of the file (times the largest ratio of deflate) allows it: a small file cannot take much memory.
    """
    expected = expected or RecipeFile(name=path.name.removesuffix(".gz"))
    with opened(path) as file:
        head = file.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in DTYPES or not 1 <= head[3] <= MAX_NDIM:
            raise DataError(f"{path} is not an IDX file: it starts with {head.hex() or 'nothing'}")
        dims = file.read(4 * head[3])
        if len(dims) < 4 * head[3]:
            raise DataError(f"{path} ends within its IDX header")
        shape = struct.unpack(f">{head[3]}I", dims)
        dtype = np.dtype(DTYPES[head[2]])
        header = head + dims
        refuse_shape(path, shape, dtype.itemsize)
        nbytes = math.prod(shape) * dtype.itemsize
        _refuse_size(path, len(header), nbytes, shape, expected)
        values = empty((nbytes,), np.uint8)
        held = _fill(values.data, file)
        more = held == nbytes and file.read(1)
    if held != nbytes or more:
        found = "more" if more else f"only {held}"
        raise DataError(f"{path} has shape {shape} in its header, so {nbytes} bytes of values, but holds {found}")
    array = values.view(dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False), source_file(expected, path, header, values.data)


def _fill(room: memoryview, file: BinaryIO) -> int:
    """Read until there is no room or nothing more, in blocks, which is all that a gzip file takes beside them."""
    held = 0
    while held < len(room) and (n := file.readinto(room[held : held + BLOCK])):  # type: ignore[attr-defined]
        held += n
    return held


def _refuse_size(path: Path, n_header: int, nbytes: int, shape: tuple[int, ...], expected: RecipeFile) -> None:
    """Refuse a header that does not fit the recipe or cannot fit the file, before the values are read."""
    if expected.nbytes is not None and n_header + nbytes != expected.nbytes:
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
