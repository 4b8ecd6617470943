"""Rows of the figures about training: the first ones of a store, which is already shuffled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import StoreError
from hfnumba.figures.experiment import Laboratory
from hfnumba.figures.options import FigureOptions
from hfnumba.progress import Reporter

if TYPE_CHECKING:
    from hfnumba.store import Split, Store

ROWS = 15_000
"""Largest number of training rows: enough for the effects of the paper, and a figure takes minutes, not hours."""
QUICK_ROWS = 5_000
DEFAULT = Path("mnist.zarr")


def laboratory(options: FigureOptions, reporter: Reporter) -> tuple[Laboratory, tuple[int, ...]]:
    """Return the laboratory of a figure, on its rows, and the seeds of its experiments.

    Raises
    ------
    StoreError
        See :func:`material`.
    """
    store = material(options, reporter, QUICK_ROWS if options.quick else ROWS)
    return Laboratory(store, options.out / "runs", options.cluster, reporter), (0,) if options.quick else (0, 1, 2)


def material(options: FigureOptions, reporter: Reporter, rows: int = ROWS) -> Store:
    """Return the store of a figure: the named one, or a store in ``out`` with its first ``rows`` training rows.

    Raises
    ------
    StoreError
        If there is no store; the message has the command that builds one.
    """
    from hfnumba.store import open_store  # noqa: PLC0415 - slow to import

    path = options.store if options.store is not None else DEFAULT
    if options.store is None and not path.exists():
        raise StoreError(
            f"there is no {DEFAULT} here; build it with `hfnumba data build mnist`, or name another store with --store"
        )
    store = open_store(path)
    if store["train"].n_rows <= rows:
        return store
    # The digest in the name separates the rows of different stores.
    selection = options.out / "data" / f"{path.resolve().stem}-{rows}-{store.digest[:8]}.zarr"
    if (selection / "manifest.json").exists():
        return open_store(selection)
    reporter.note(f"writing the first {rows} training rows of {path} to {selection}")
    return _first_rows(store, selection, rows)


def _first_rows(store: Store, out: Path, rows: int) -> Store:
    from hfnumba.ingest import write_store  # noqa: PLC0415 - slow to import

    header = store.manifest.header
    splits = {"train": _load(store["train"], rows)}
    if "test" in store.splits:
        splits["test"] = _load(store["test"], store["test"].n_rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    return write_store(
        out,
        splits,
        n_partitions=store["train"].n_partitions,
        scale=header.scale,
        offset=header.offset,
        task=header.task,
        n_classes=header.n_classes,
        name=out.stem,
        title=f"The first {rows} training rows of a store with the digest {store.digest[:12]}",
    )


def _load(split: Split, rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Load the first rows of a split, standardised and spliced but not scaled."""
    loaded: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for j in range(split.n_partitions):
        first, _ = split.partition_rows(j)
        if first >= rows:
            break
        X, y = split.load(j)
        loaded.append((X[: rows - first], y[: rows - first]))
    return np.concatenate([X for X, _ in loaded]), np.concatenate([y for _, y in loaded])
