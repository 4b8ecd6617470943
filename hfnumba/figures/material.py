"""The rows that the figures of learning are made from: the first of a store, which is shuffled already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import StoreError
from hfnumba.figures.experiment import Laboratory
from hfnumba.figures.options import FigureOptions, Say

if TYPE_CHECKING:
    from hfnumba.store import Split, Store

ROWS = 15_000
"""Training rows at most: enough for the paper's effects, and a figure takes minutes, not hours."""
QUICK_ROWS = 5_000
DEFAULT = Path("mnist.zarr")


def laboratory(options: FigureOptions, say: Say) -> tuple[Laboratory, tuple[int, ...]]:
    """Return where a figure's experiments are carried out, on its rows, and their seeds.

    Raises
    ------
    StoreError
        As of :func:`material`.
    """
    store = material(options, say, QUICK_ROWS if options.quick else ROWS)
    return Laboratory(store, options.out / "runs", options.cluster, say), (0,) if options.quick else (0, 1, 2)


def material(options: FigureOptions, say: Say, rows: int = ROWS) -> Store:
    """Return the store of a figure: the one that was named, or its first ``rows`` training rows in a store in ``out``.

    Raises
    ------
    StoreError
        If there is no store, with the command that builds one.
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
    # The digest in the name: another store in the same folder makes its own rows.
    part = options.out / "data" / f"{path.resolve().stem}-{rows}-{store.digest[:8]}.zarr"
    if (part / "manifest.json").exists():
        return open_store(part)
    say(f"taking the first {rows} training rows of {path} to {part}")
    return _first_rows(store, part, rows)


def _first_rows(store: Store, part: Path, rows: int) -> Store:
    from hfnumba.ingest import write_store  # noqa: PLC0415 - slow to import

    header = store.manifest.header
    splits = {"train": _load(store["train"], rows)}
    if "test" in store.splits:
        splits["test"] = _load(store["test"], store["test"].n_rows)
    part.parent.mkdir(parents=True, exist_ok=True)
    return write_store(
        part,
        splits,
        n_partitions=store["train"].n_partitions,
        scale=header.scale,
        offset=header.offset,
        task=header.task,
        n_classes=header.n_classes,
        name=part.stem,
        title=f"The first {rows} training rows of a store with the digest {store.digest[:12]}",
    )


def _load(split: Split, rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Load the first rows of a split, partition by partition, as training sees them but for the scale."""
    parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for j in range(split.n_partitions):
        first, _ = split.partition_rows(j)
        if first >= rows:
            break
        X, y = split.load(j)
        parts.append((X[: rows - first], y[: rows - first]))
    return np.concatenate([X for X, _ in parts]), np.concatenate([y for _, y in parts])
