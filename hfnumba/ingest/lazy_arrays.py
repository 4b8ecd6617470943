"""Lazy arrays, which compute or read rows on access (Dask, Zarr, h5py, memory maps), copied to disk block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.ingest.prepare import features_origin, fits_bytes
from hfnumba.ingest.sources.arrays import BLOCK_NBYTES, refuse_dtype, width
from hfnumba.ingest.sources.spool import Spool
from hfnumba.store.checks import unmasked
from hfnumba.store.manifest import SourceFile
from hfnumba.store.rounding import Ranges
from hfnumba.store.standardise import subtract

Pair = tuple[NDArray[Any], NDArray[Any]]


def gather_arrays(
    splits: Mapping[str, tuple[Any, Any]], *, standardise: bool = False
) -> tuple[dict[str, Pair], tuple[SourceFile, ...], NDArray[np.float64] | None]:
    """Convert the arrays of each split to NumPy arrays: lazy features by way of a file, all others as they are.

    Parameters
    ----------
    splits : mapping of str to (X, y)
        An array is lazy if it has ``shape``, ``dtype`` and slices but is not in memory. Labels are loaded into memory.
    standardise : bool
        Whether an origin may be subtracted from features that rounding to float32 would make the same.

    Returns
    -------
    arrays : dict of str to (X, y)
    records : tuple of SourceFile
        Size and digest of the bytes of each array; equal values have equal records in any kind of array.
    origin : ndarray of float64 or None
        What was subtracted from the features of all splits.

    Notes
    -----
    One block of lazy features is in memory at a time: whole chunks, at least about 4 MB. The copy takes as much disk
    space as the rows, in the folder for temporary files (``TMPDIR``). Where an origin is subtracted, lazy features are
    read twice.
    """
    spools: dict[str, Spool] = {}
    arrays: dict[str, list[NDArray[Any]]] = {}
    records, ranges = [], Ranges()
    for key, (features, targets) in splits.items():
        y = unmasked(f"{key}, targets", computed(targets))
        if _is_lazy(features):
            spools[key], record = _spooled(key, features, ranges if key == "train" else Ranges())
            X = spools[key].array()
        else:
            X = unmasked(f"{key}, features", features)
            record = array_record(f"{key}.X", X)
        arrays[key] = [X, y]
        records += [record, array_record(f"{key}.y", y)]
    if spools and "train" in arrays and "train" not in spools:
        ranges.update_all(arrays["train"][0])
    bytes_fit = all(fits_bytes(X) for X, _ in arrays.values())
    origin = None if bytes_fit else features_origin(ranges, standardise=standardise)
    for key, (X, _) in arrays.items():
        if origin is not None:
            arrays[key][0] = _shifted(splits[key][0] if key in spools else X, origin)
        elif key in spools:
            arrays[key][0] = _converted(X, np.uint8 if bytes_fit else np.float32)
    return {key: (X, y) for key, (X, y) in arrays.items()}, tuple(records), origin


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


def computed(array: Any) -> Any:
    """Compute an array of Dask, which NumPy would convert without its mask."""
    return array.compute() if hasattr(array, "compute") else array


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


def _spooled(key: str, array: Any, ranges: Ranges) -> tuple[Spool, SourceFile]:
    refuse_dtype(f"{key}.X", array.dtype)
    dtype = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype
    spool, digest, nbytes = Spool(width(array.shape), dtype), hashlib.sha256(), 0
    for first, stop in _bounds(array):
        block = np.ascontiguousarray(unmasked(f"{key}, features from row {first} on", computed(array[first:stop])))
        digest.update(block.data.cast("B"))
        nbytes += block.nbytes
        rows = block.reshape(len(block), -1)
        ranges.update(rows)
        spool.append(rows)
    return spool, SourceFile(f"{key}.X", nbytes, digest.hexdigest())


def _shifted(array: Any, origin: NDArray[np.float64]) -> NDArray[Any]:
    """Subtract the origin and round to float32, by way of a file."""
    spool = Spool(len(origin), np.float32)
    for first, stop in _bounds(array):
        rows = np.asarray(array[first:stop])
        spool.append(subtract(rows.reshape(len(rows), -1), origin))
    return spool.array()


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
