"""NumPy's ``.npz`` archives of ``X_train, y_train, X_test, y_test``, or ``X, y``; never unpickled.

The names may be those of Keras (``x_train``) or MedMNIST (``train_images``, ``train_labels``). Weights of rows are
``weights_train`` and so on, or ``weights``.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.remarks import listed, remarks_on_order
from hfnumba.ingest.shuffle import hold_out
from hfnumba.ingest.sources.arrays import refuse_dtype, refuse_shape
from hfnumba.ingest.sources.classes import numbered
from hfnumba.ingest.sources.npy import read_npy_header
from hfnumba.ingest.sources.raw import DEFLATE_RATIO, RawData, opened, source_file
from hfnumba.progress import Reporter

SPELLINGS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
CONVENTIONS = (("X_{}", "y_{}"), ("x_{}", "y_{}"), ("{}_images", "{}_labels"))
"""Names of features and labels: usual ones, those of Keras, and those of MedMNIST."""

WHOLE = (("X", "y"), ("x", "y"))


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
    """Read the splits of an archive; if it has only ``X`` and ``y``, the seed holds a fifth of the rows out."""
    (file,) = recipe.files
    path = paths[file.name]
    with opened(path) as handle:
        record = source_file(file, path, handle.read())
    names = names_of(path)
    keys = _chosen(path, names)
    own = {split: key for split in keys for key in _weight_keys(split) if key in names}
    _refuse_weights(path, names, {key for split in keys for key in _weight_keys(split)})
    used = {*(key for pair in keys.values() for key in pair), *own.values()}
    if unused := sorted(names - used):
        reporter.note(f"Arrays of {path.name} that are not used: {listed(unused)}")
    arrays = read_npz(path, used)
    weights = {split: arrays[key] for split, key in own.items()}
    splits = {split: (arrays[X], arrays[y]) for split, (X, y) in keys.items()}
    notes: tuple[str, ...] = ()
    if "all" in splits:
        notes = tuple(remarks_on_order(splits["all"][0]))
        splits, weights = _held_out(path, *splits["all"], weights.get("all"), seed)
    splits, classes = numbered(recipe, splits)
    return RawData(splits, (record,), classes=classes, weights=weights, notes=notes)


def _chosen(path: Path, names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Names of features and labels of each split, or of ``all`` rows where there are no splits."""
    found: dict[str, tuple[str, str]] = {}
    candidates = {"all": list(WHOLE)} | {
        split: [(X.format(word), y.format(word)) for word in words for X, y in CONVENTIONS]
        for split, words in SPELLINGS.items()
    }
    for split, pairs in candidates.items():
        present = [pair for pair in pairs if {*pair} <= {*names}]
        if len(present) > 1:
            two = " and ".join(", ".join(pair) for pair in present[:2])
            raise DataError(f"{path} holds {two}, which are both for {split}; rename or remove one of them")
        if present:
            found[split] = present[0]
    if "all" in found:
        if len(found) > 1:
            whole, split = (", ".join(pair) for pair in list(found.values())[:2])
            raise DataError(f"{path} holds {whole} for all rows and {split} for a split; rename or remove one of them")
        return found
    if "train" not in found:
        raise DataError(
            f"{path} holds {listed(sorted(names)) or 'no arrays'}; expected X_train, y_train, X_test, y_test (x_train "
            f"as Keras has it, or train_images and train_labels as MedMNIST has them), or X and y"
        )
    return found


def _weight_keys(split: str) -> tuple[str, ...]:
    return ("weights",) if split == "all" else tuple(f"weights_{word}" for word in SPELLINGS[split])


def _held_out(
    path: Path, X: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None, seed: int
) -> tuple[dict[str, tuple[NDArray[Any], NDArray[Any]]], dict[str, NDArray[Any]]]:
    if X.ndim < 2 or y.ndim < 1:
        raise DataError(f"{path}: expected X with rows and features, got shapes {X.shape} and {y.shape}")
    splits = hold_out(X, y, seed)
    if weights is None:
        return splits, {}
    if weights.shape not in ((len(X),), (len(X), 1)):
        raise DataError(f"{path}: expected a weight for each of {len(X)} rows, got shape {weights.shape}")
    # The same seed draws the same rows.
    return splits, {name: own for name, (_, own) in hold_out(y, weights, seed).items()}


def _refuse_weights(path: Path, found: Collection[str], usable: Collection[str]) -> None:
    """Raise if there are weights without rows, which would otherwise be ignored silently."""
    stray = sorted(key for key in found if key.startswith("weights") and key not in usable)
    if stray:
        raise DataError(
            f"{path} has {', '.join(stray)} without such rows; expected {', '.join(sorted(usable))} for its features: "
            f"rename or remove the others"
        )


def names_of(path: Path) -> set[str]:
    """Names of the arrays of an archive."""
    with _errors(path), zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def read_npz(path: Path, wanted: Collection[str]) -> dict[str, NDArray[Any]]:
    """Read arrays of an archive by their names; other members are not read.

    Raises
    ------
    DataError
        If the file is not an archive, or a member is damaged, holds Python objects, or differs in size from its header.
    """
    with _errors(path):
        with zipfile.ZipFile(path) as archive:
            members = [i for i in archive.infolist() if i.filename.removesuffix(".npy") in wanted]
            for member in members:
                checked_member(path, archive, member)
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files if key in wanted}


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Raise errors of reading an archive as DataError."""
    try:
        yield
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
