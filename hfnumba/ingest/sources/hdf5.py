"""HDF5 files with a data set of features, one of labels, and, if named, one of weights.

HDF5 files can refer to other files (external and soft links, external storage, virtual data sets) and load filters as
plug-ins. All of that is refused: no link is followed, and no other file is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.formats.extras import require
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.arrays import BLOCK_NBYTES, labelled, width
from hfnumba.ingest.sources.classes import is_regression
from hfnumba.ingest.sources.raw import DEFLATE_RATIO, RawData
from hfnumba.ingest.sources.table import Block, gather, located, options_of
from hfnumba.progress import Reporter

MAX_CHUNK_NBYTES = 2**28
FILTERS = {1, 2, 3, 32000}
"""deflate, shuffle, Fletcher's checksum, LZF: those that come with h5py and expand no more than deflate."""


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
    """Read the splits that ``[table]`` names; without a test split, the seed holds training rows out."""
    options, root = options_of(recipe), paths["source"]
    names = (options.features, options.labels[0] if options.labels else "y")
    regression = is_regression(recipe, _targets(located(recipe, root), names[1]))
    n_features, dtype = _kind(located(recipe, root)["train"][0], names[0])

    def blocks(split: str, path: Path) -> Iterator[tuple[Block, float]]:
        with _opened(path) as file:
            X, y = (_dataset(path, file, name) for name in names)
            if len(X) != len(y) or width(X.shape) != n_features:
                turned = X.ndim == 2 and y.shape[-1] == X.shape[1] != len(X)
                hint = "; MATLAB's files hold arrays transposed: save X' and y' in it" if turned else ""
                raise DataError(
                    f"{path}: {names[0]} has shape {X.shape} and {names[1]} {y.shape}; expected the same number "
                    f"of rows, and {n_features} features as in the first file{hint}"
                )
            if (X.dtype == np.uint8) != (dtype is np.uint8):
                raise DataError(f"{path}: {names[0]} has dtype {X.dtype}, which differs from that of the first file")
            own = None if options.weight is None else _weights(path, file, options.weight, len(X))
            n = max(1, BLOCK_NBYTES // max(1, n_features * X.dtype.itemsize))
            for first in range(0, len(X), n):
                labels = np.asarray(y[first : first + n])
                rows = np.asarray(X[first : first + n])
                weights = None if own is None else own[first : first + n]
                share = (first + len(labels)) / len(X)
                yield labelled(f"{path}: {names[1]}", rows, labels, weights, regression=regression), share

    return gather(recipe, root, seed, reporter, blocks, n_features=n_features, dtype=dtype)


def _targets(files: Mapping[str, list[Path]], name: str) -> Iterator[NDArray[Any]]:
    for paths in files.values():
        for path in paths:
            with _opened(path) as file:
                yield np.asarray(_dataset(path, file, name)[...])


def _weights(path: Path, file: Any, name: str, n_rows: int) -> NDArray[Any]:
    found = _dataset(path, file, name)
    if found.shape not in ((n_rows,), (n_rows, 1)):
        raise DataError(f"{path}: {name} has shape {found.shape}, expected one weight for each of the {n_rows} rows")
    return np.asarray(found[...]).reshape(-1)


def _kind(path: Path, name: str) -> tuple[int, Any]:
    with _opened(path) as file:
        X = _dataset(path, file, name)
        return width(X.shape), np.uint8 if X.dtype == np.uint8 else np.float32


def _dataset(path: Path, file: Any, name: str) -> Any:
    """Find a data set by hard links only, and check the claims of its header against the size of the file."""
    h5py = require("h5py", "tables")
    found = file
    for part in name.strip("/").split("/"):
        if not isinstance(found, h5py.Group):
            raise DataError(f"{path} has no data set {name}")
        link = found.get(part, getlink=True)
        if link is None:
            raise DataError(f"{path} has no data set {name}; it has {', '.join(list(file)[:20]) or 'nothing'}")
        if not isinstance(link, h5py.HardLink):
            raise DataError(f"{path}: {name} is a {type(link).__name__}, which is never followed; copy the data")
        found = found[part]
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "buif" or not found.shape:
        raise DataError(f"{path}: {name} is no data set of numbers with rows")
    _refuse_elsewhere(path, name, found)
    return found


def _refuse_elsewhere(path: Path, name: str, found: Any) -> None:
    created = found.id.get_create_plist()
    if found.is_virtual or created.get_external_count():
        raise DataError(f"{path}: {name} stores its values in other files, which are never opened; copy the data")
    filters = {created.get_filter(i)[0] for i in range(created.get_nfilters())}
    if filters - FILTERS:
        raise DataError(f"{path}: {name} needs the filters {sorted(filters - FILTERS)}; write it with gzip or none")
    chunk = int(np.prod(found.chunks or (1,), dtype=object)) * found.dtype.itemsize
    nbytes = int(np.prod(found.shape, dtype=object)) * found.dtype.itemsize
    if chunk > MAX_CHUNK_NBYTES or nbytes > found.id.get_storage_size() * (DEFLATE_RATIO if filters else 1):
        raise DataError(
            f"{path}: {name} claims shape {found.shape}, {nbytes} bytes in chunks of {chunk}; more than the "
            f"{found.id.get_storage_size()} bytes stored can hold"
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    h5py = require("h5py", "tables")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, UnicodeError, MemoryError) as error:
        raise DataError(f"{path} cannot be read as HDF5: {error}") from error
