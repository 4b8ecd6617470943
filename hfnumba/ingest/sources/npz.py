"""NumPy's ``.npz`` archives of ``X_train, y_train, X_test, y_test``, or ``X, y``; never unpickled.

Weights of rows are ``weights_train`` and so on, or ``weights``.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.shuffle import hold_out
from hfnumba.ingest.sources.arrays import refuse_dtype, refuse_shape
from hfnumba.ingest.sources.npy import read_npy_header
from hfnumba.ingest.sources.raw import DEFLATE_RATIO, RawData, opened, source_file
from hfnumba.progress import Reporter

SPLIT_KEYS = {split: (f"X_{split}", f"y_{split}") for split in ("train", "validation", "test")}


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
    """Read the splits of an archive; if it has only ``X`` and ``y``, the seed holds a fifth of the rows out."""
    (file,) = recipe.files
    path = paths[file.name]
    with opened(path) as handle:
        record = source_file(file, path, handle.read())
    arrays = read_npz(path)
    if {"X", "y"} <= arrays.keys():
        X, y = arrays["X"], arrays["y"]
        if X.ndim < 2 or y.ndim < 1:
            raise DataError(f"{path}: expected X with rows and features, got shapes {X.shape} and {y.shape}")
        _refuse_weights(path, arrays.keys(), {"weights"})
        splits_of = hold_out(X, y, seed)
        if "weights" not in arrays:
            return RawData(splits_of, (record,))
        if arrays["weights"].shape not in ((len(X),), (len(X), 1)):
            raise DataError(f"{path}: expected a weight for each of {len(X)} rows, got shape {arrays['weights'].shape}")
        # The same seed draws the same rows.
        weights = {name: own for name, (_, own) in hold_out(y, arrays["weights"], seed).items()}
        return RawData(splits_of, (record,), weights=weights)
    splits = {name: pair for name, pair in SPLIT_KEYS.items() if set(pair) <= arrays.keys()}
    if "train" not in splits:
        raise DataError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing of use'}; expected X_train, y_train, "
            f"X_test, y_test, or X and y"
        )
    _refuse_weights(path, arrays.keys(), {f"weights_{name}" for name in splits})
    own = {name: arrays[key] for name in splits if (key := f"weights_{name}") in arrays}
    return RawData({name: (arrays[X], arrays[y]) for name, (X, y) in splits.items()}, (record,), weights=own)


def _refuse_weights(path: Path, found: Collection[str], usable: Collection[str]) -> None:
    """Raise if there are weights without rows, which would otherwise be ignored silently."""
    stray = sorted(key for key in found if key.startswith("weights") and key not in usable)
    if stray:
        raise DataError(
            f"{path} has {', '.join(stray)} without such rows; expected {', '.join(sorted(usable))} for its features: "
            f"rename or remove the others"
        )


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an archive by their expected names; other members are not read.

    Raises
    ------
    DataError
        If the file is not an archive, or a member is damaged, holds Python objects, or differs in size from its header.
    """
    wanted = {"X", "y", "weights", *(key for keys in SPLIT_KEYS.values() for key in keys)}
    wanted |= {f"weights_{split}" for split in SPLIT_KEYS}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [i for i in archive.infolist() if i.filename.removesuffix(".npy") in wanted]
            for member in members:
                checked_member(path, archive, member)
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files if key in wanted}
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not an .npz archive that can be read: {error}") from error


def checked_member(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Check the header of an array before memory is allocated for it; return what it says, as of an ``.npy`` file."""
    where = f"{path}: {member.filename}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{where} has a compression that NumPy does not use; write it with np.savez_compressed")
    with archive.open(member) as file:
        shape, fortran, dtype = read_npy_header(file, where)
        n_header = file.tell()
    refuse_dtype(where, dtype)
    refuse_shape(where, shape, dtype.itemsize)
    nbytes = math.prod(shape) * dtype.itemsize
    if n_header + nbytes != member.file_size or nbytes > (member.compress_size + 1) * DEFLATE_RATIO:
        raise DataError(
            f"{where} has shape {shape} and dtype {dtype} in its header, {nbytes} bytes, "
            f"but the archive holds {member.file_size - n_header}"
        )
    return shape, fortran, dtype
