"""Rows of the problems: of a store, of an autoencoder, and of the borehole function."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.progress import Reporter

if TYPE_CHECKING:
    from hfnumba.store import Split

Array = NDArray[np.float32]

QUICK_ROWS = 2000
"""Number of training rows at most, and of held-out rows, of a quick version."""


@dataclass(frozen=True)
class Data:
    """Training rows and held-out rows in memory, as every method gets them.

    Attributes
    ----------
    X, X_test : ndarray of float32, shape (rows, n_features)
    y, y_test : ndarray, int32 of shape (rows,) or float32 of shape (rows, n_outputs)
        Labels, or targets.
    n_outputs : int
    """

    X: Array
    y: NDArray[Any]
    X_test: Array
    y_test: NDArray[Any]
    n_outputs: int


@dataclass(frozen=True)
class Request:
    """Place of the store, size, and receiver of messages of a load.

    Attributes
    ----------
    store : Path or None
        Store of the rows, built if it does not exist; by default ``NAME.zarr`` in the current folder.
    quick : bool
        Whether to take few rows.
    reporter : Reporter
    """

    store: Path | None
    quick: bool
    reporter: Reporter


def of_recipe(name: str, request: Request) -> Data:
    """Load the splits ``train`` and ``test`` of a store; build it by the recipe of that name if it does not exist.

    The files of a recipe are those of the folder of its name in the folder named by ``HFNUMBA_DATA``, if there is one.
    """
    from hfnumba.ingest import build  # noqa: PLC0415 - slow to import
    from hfnumba.store import open_store  # noqa: PLC0415

    path = Path(f"{name}.zarr") if request.store is None else request.store
    if path.exists():
        store = open_store(path)
    else:
        folder = Path(os.environ.get("HFNUMBA_DATA", "")) / name
        store = build(
            name, folder if folder.is_absolute() and folder.is_dir() else None, path, reporter=request.reporter
        )
    if "test" not in store.splits:
        raise DataError(f"expected a store with a split test, {path} has {', '.join(store.splits)}; name another store")
    limit = QUICK_ROWS if request.quick else None
    X, y = _loaded(store["train"], limit, request.reporter)
    X_test, y_test = _loaded(store["test"], limit, request.reporter)
    return Data(X, y, X_test, y_test, store["train"].n_outputs)


def _loaded(split: Split, limit: int | None, reporter: Reporter) -> tuple[Array, NDArray[Any]]:
    """Load rows of a split in float32, standardised, spliced and scaled."""
    n_rows = split.n_rows if limit is None else min(limit, split.n_rows)
    X = np.empty((n_rows, split.n_features), np.float32)
    targets: list[NDArray[Any]] = []
    progress = reporter.progress(f"Reading {split.name}", "rows")
    for j in range(split.n_partitions):
        first, stop = split.partition_rows(j)
        if first >= n_rows:
            break
        rows, y = split.load(j)
        X[first:stop] = rows[: n_rows - first]
        X[first:stop] *= np.float32(split.scale)
        X[first:stop] += np.float32(split.offset)
        targets.append(y[: n_rows - first])
        progress(min(stop, n_rows), n_rows)
    return X, np.concatenate(targets)


def autoencoder(name: str, request: Request) -> Data:
    """Load the features of a recipe as features and targets."""
    data = of_recipe(name, request)
    return replace(data, y=data.X, y_test=data.X_test, n_outputs=data.X.shape[1])


_BOREHOLE = {
    "radius of the borehole, m": (0.05, 0.15),
    "radius of influence, m": (100.0, 50_000.0),
    "transmissivity of the upper aquifer, m²/yr": (63_070.0, 115_600.0),
    "potentiometric head of the upper aquifer, m": (990.0, 1110.0),
    "transmissivity of the lower aquifer, m²/yr": (63.1, 116.0),
    "potentiometric head of the lower aquifer, m": (700.0, 820.0),
    "length of the borehole, m": (1120.0, 1680.0),
    "hydraulic conductivity of the borehole, m/yr": (9855.0, 12_045.0),
}
"""Inputs of the borehole function and their ranges."""


def flow_rate(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the flow of water through a borehole in m³/yr, of inputs (rows, 8) in the order of their table.

    Source: Harper and Gupta (1983); Morris, Mitchell and Ylvisaker (1993), a usual test of emulators.
    """
    rw, r, tu, hu, tl, hl, length, kw = inputs.T
    log_ratio = np.log(r / rw)
    resistance = 1 + 2 * length * tu / (log_ratio * rw**2 * kw) + tu / tl
    flow: NDArray[np.float64] = 2 * np.pi * tu * (hu - hl) / (log_ratio * resistance)
    return flow


def borehole(request: Request) -> Data:
    """Compute 10,000 training and 10,000 held-out rows, drawn uniformly; inputs and targets have variance 1."""
    n_rows = QUICK_ROWS if request.quick else 10_000
    rng = np.random.Generator(np.random.Philox(0))
    low, high = np.array(list(_BOREHOLE.values())).T
    unit = rng.uniform(size=(2 * n_rows, len(low)))
    flow = flow_rate(low + (high - low) * unit)
    # The mean and the deviation of the training rows: a mean squared error is then a share of their variance.
    y = ((flow - flow[:n_rows].mean()) / flow[:n_rows].std()).astype(np.float32)[:, np.newaxis]
    X = (np.sqrt(12) * (unit - 0.5)).astype(np.float32)
    return Data(X[:n_rows], y[:n_rows], X[n_rows:], y[n_rows:], 1)
