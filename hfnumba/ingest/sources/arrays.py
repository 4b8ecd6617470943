"""Formats with one array per file: pairs of features and labels, read as blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.classes import is_regression, without_booleans
from hfnumba.ingest.sources.raw import RawData
from hfnumba.ingest.sources.table import Block, Kind, gather_blocks
from hfnumba.progress import Counter, Reporter
from hfnumba.store.checks import several_labels
from hfnumba.store.manifest import SourceFile

BLOCK_NBYTES = 2**22
MAX_NDIM = 64
"""Largest number of axes of a NumPy array."""


class ArrayReader(Protocol):
    """Reader of an array on disk.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    step : int
        Number of rows that are best read together.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def step(self) -> int: ...  # noqa: D102

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Read the rows from ``first`` up to ``stop``."""
        ...

    def record(self, name: str, reporter: Reporter) -> SourceFile:
        """Record size and digest of the array's files."""
        ...


def read_pairs(recipe: Recipe, seed: int, reporter: Reporter, opened: Callable[[str], ArrayReader]) -> RawData:
    """Read the arrays that ``[arrays]`` names, pair by pair and block by block.

    Parameters
    ----------
    recipe, seed, reporter
        See :class:`hfnumba.ingest.sources.Source`.
    opened : callable
        Function that opens and checks an array by its path.
    """
    if recipe.arrays is None:
        raise DataError(f"format {recipe.format} needs a table [arrays]")
    splits = recipe.arrays.splits
    arrays = {
        name: opened(name)
        for split in splits.values()
        for name in (*split.features, *split.labels, *(split.weights or ()))
    }
    first = arrays[splits["train"].features[0]]
    kind = Kind(
        width(first.shape), np.uint8 if first.dtype == np.uint8 else np.float32, recipe.arrays.max_features, "arrays"
    )
    for split in splits.values():
        for X_name, y_name in zip(split.features, split.labels, strict=True):
            _refuse_pair(X_name, arrays[X_name], y_name, arrays[y_name], kind)
        for X_name, w_name in zip(split.features, split.weights or (), strict=False):
            _refuse_weights(w_name, arrays[w_name], arrays[X_name].shape[0])
    # Labels and weights of all rows stay in memory anyway, so their arrays are read at once, in their own blocks.
    targets = {name: _whole(arrays[name]) for split in splits.values() for name in split.labels}
    regression = is_regression(recipe, targets.values())
    total = sum(arrays[name].shape[0] for split in splits.values() for name in split.features)

    def begin() -> Mapping[str, Iterator[Block]]:
        counter = Counter(reporter.progress("Reading rows", "rows"), total)
        return {
            name: (
                block
                for X, y, w in zip(split.features, split.labels, split.weights or repeat(None), strict=False)
                for block in _blocks(
                    y, arrays[X], targets[y], None if w is None else arrays[w], regression=regression, counter=counter
                )
            )
            for name, split in splits.items()
        }

    return gather_blocks(
        recipe, seed, begin, kind, lambda: tuple(array.record(name, reporter) for name, array in arrays.items())
    )


def width(shape: tuple[int, ...]) -> int:
    """Number of features of a row: all axes but the first, flattened."""
    return int(np.prod(shape[1:], dtype=object))


def refuse_dtype(where: str | Path, dtype: np.dtype[Any]) -> None:
    """Raise if a dtype is not one of real numbers."""
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects (dtype {dtype}), which are never read; save plain numbers")
    if dtype.kind not in "buif":
        raise DataError(f"{where} has dtype {dtype}, expected real numbers")


def refuse_shape(where: str | Path, shape: tuple[int, ...], itemsize: int) -> None:
    """Raise if NumPy cannot have an array of this shape; sizes of 0 do not lift the limit."""
    if len(shape) > MAX_NDIM or min(shape, default=0) < 0 or math.prod(n or 1 for n in shape) * itemsize >= 2**63:
        raise DataError(f"{where} claims the shape {str(shape)[:80]}, which no array can have")


def labelled(
    where: str | Path, X: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None, *, regression: bool
) -> Block:
    """Make a block of rows, their labels or targets, and their weights."""
    rows = X.reshape(len(X), -1)
    if regression:
        return Block(rows, None, y.reshape(len(y), -1), weights)
    if y.size != len(y):
        raise DataError(f"{where}: {several_labels(y)}")
    return Block(rows, [str(value) for value in without_booleans(y.reshape(-1)).tolist()], None, weights)


def _blocks(
    where: str, X: ArrayReader, labels: NDArray[Any], w: ArrayReader | None, *, regression: bool, counter: Counter
) -> Iterator[Block]:
    weights = None if w is None else _whole(w).reshape(-1)
    for start in range(0, X.shape[0], X.step):
        rows = slice(start, min(start + X.step, X.shape[0]))
        own = None if weights is None else weights[rows]
        yield labelled(where, X.read(rows.start, rows.stop), labels[rows], own, regression=regression)
        counter.advance(rows.stop - rows.start)


def _whole(array: ArrayReader) -> NDArray[Any]:
    n, step = array.shape[0], array.step
    return np.concatenate([array.read(i, min(i + step, n)) for i in range(0, n, step)])


def _refuse_weights(name: str, weights: ArrayReader, n_rows: int) -> None:
    if weights.shape not in ((n_rows,), (n_rows, 1)):
        raise DataError(f"{name} has shape {weights.shape}, expected one weight for each of the {n_rows} rows")


def _refuse_pair(X_name: str, X: ArrayReader, y_name: str, y: ArrayReader, kind: Kind) -> None:
    if len(X.shape) < 2:
        raise DataError(f"{X_name} has shape {X.shape}, expected rows of features, with 2 axes or more")
    if width(X.shape) != kind.n_features:
        raise DataError(
            f"{X_name} has shape {X.shape}, expected rows of {kind.n_features} features like the first array"
        )
    if not X.shape[0] or not y.shape or X.shape[0] != y.shape[0]:
        raise DataError(
            f"{X_name} has shape {X.shape} and {y_name} {y.shape}; expected the same number of rows, at least one"
        )
    if (X.dtype == np.uint8) != (kind.dtype is np.uint8):
        raise DataError(f"{X_name} has dtype {X.dtype}, which differs from that of the first array")
