"""Lazy arrays, which compute or read rows on access (Dask, Zarr, h5py, memory maps), copied to disk block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.ingest.prepare import fits_bytes
from hfnumba.ingest.sources.arrays import BLOCK_NBYTES, refuse_dtype, width
from hfnumba.ingest.sources.spool import Spool
from hfnumba.store.manifest import SourceFile

Pair = tuple[NDArray[Any], NDArray[Any]]


def gather_arrays(splits: Mapping[str, tuple[Any, Any]]) -> tuple[dict[str, Pair], tuple[SourceFile, ...]]:
    """Convert the arrays of each split to NumPy arrays: lazy features by way of a file, all others as they are.

    Parameters
    ----------
    splits : mapping of str to (X, y)
        An array is lazy if it has ``shape``, ``dtype`` and slices but is not in memory. Labels are loaded into memory.

    Returns
    -------
    arrays : dict of str to (X, y)
    records : tuple of SourceFile
        Size and digest of the bytes of each array; equal values have equal records in any kind of array.

    Notes
    -----
    One block of lazy features is in memory at a time: whole chunks, at least about 4 MB. The copy takes as much disk
    space as the rows, in the folder for temporary files (``TMPDIR``).
    """
    spools: dict[str, Spool] = {}
    arrays: dict[str, list[NDArray[Any]]] = {}
    records = []
    for key, (features, targets) in splits.items():
        y = np.asarray(targets)
        if _is_lazy(features):
            spools[key], record = _spooled(key, features)
            X = spools[key].array()
        else:
            X = np.asarray(features)
            record = array_record(f"{key}.X", X)
        arrays[key] = [X, y]
        records += [record, array_record(f"{key}.y", y)]
    bytes_fit = all(fits_bytes(X) for X, _ in arrays.values())
    for key in spools:
        arrays[key][0] = _converted(arrays[key][0], np.uint8 if bytes_fit else np.float32)
    return {key: (X, y) for key, (X, y) in arrays.items()}, tuple(records)


def _is_lazy(array: Any) -> bool:
    if isinstance(array, np.ndarray):
        return isinstance(array, np.memmap)
    # Sparse matrices of SciPy and data frames of pandas cannot be sliced into rows of numbers.
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
    return (
        isinstance(shape, tuple)
        and len(shape) >= 2
        and isinstance(dtype, np.dtype)
        and not hasattr(array, "toarray")
        and not np.isnan(np.array(shape, float)).any()
    )


def _bounds(array: Any) -> Iterator[tuple[int, int]]:
    """Bounds of the blocks of rows: whole chunks, at least about 4 MB."""
    n_rows = array.shape[0]
    least = max(1, BLOCK_NBYTES // max(1, width(array.shape) * array.dtype.itemsize))
    chunks = getattr(array, "chunks", None)
    along = chunks[0] if chunks else least
    ends = list(accumulate(along)) if isinstance(along, tuple) else [*range(along, n_rows, along), n_rows]
    start = 0
    for end in ends:
        if end - start >= least or end == n_rows:
            if end > start:
                yield start, end
            start = end


def _spooled(key: str, array: Any) -> tuple[Spool, SourceFile]:
    refuse_dtype(f"{key}.X", array.dtype)
    dtype = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype
    spool, digest, nbytes = Spool(width(array.shape), dtype), hashlib.sha256(), 0
    for first, stop in _bounds(array):
        block = np.ascontiguousarray(array[first:stop])
        digest.update(block.data.cast("B"))
        nbytes += block.nbytes
        spool.append(block.reshape(len(block), -1))
    return spool, SourceFile(f"{key}.X", nbytes, digest.hexdigest())


def array_record(name: str, array: NDArray[Any]) -> SourceFile:
    """Size and digest of an array's bytes."""
    return SourceFile(name, array.nbytes, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest())


def _converted(X: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Convert spooled rows to the dtype they will be stored in, again by way of a file."""
    if X.dtype == dtype:
        return X
    spool = Spool(X.shape[1], dtype)
    step = max(1, BLOCK_NBYTES // max(1, X.shape[1] * X.itemsize))
    for first in range(0, len(X), step):
        spool.append(X[first : first + step])
    return spool.array()
