"""Information about a store: from its manifest, and from its rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.progress import SILENT, Counter, Reporter
from hfnumba.store.checks import count_classes
from hfnumba.store.columns import Column
from hfnumba.store.split import Split
from hfnumba.store.standardise import Moments
from hfnumba.store.store import Store


def info(store: Store) -> dict[str, Any]:
    """Return the contents of the manifest as plain values, for a table or JSON.

    Parameters
    ----------
    store : Store
        An open store.

    Returns
    -------
    dict
        What ``hfnumba data info --json`` prints. No rows are read.
    """
    header = store.manifest.header
    return {
        "path": str(store.path),
        "digest": store.digest,
        "name": header.name,
        "title": header.title,
        "licence": header.licence,
        "homepage": header.homepage,
        "task": header.task,
        "n_classes": header.n_classes,
        "scale": header.scale,
        "offset": header.offset,
        "note": header.note,
        "seed": header.seed,
        "versions": store.manifest.versions,
        "recipe": json.loads(header.recipe or "null"),
        "standardised": header.standardisation is not None,
        "codec": "blosc-lz4, crc32c",
        "nbytes": sum(record.nbytes for record in store.manifest.files.values()),
        "n_files": len(store.manifest.files),
        "columns": [_column(column) for column in header.known_columns or ()],
        "targets": _targets(store),
        "sources": [{"name": s.name, "nbytes": s.nbytes, "sha256": s.sha256} for s in header.sources],
        "splits": {
            name: {
                "n_rows": split.n_rows,
                "n_features": split.n_features,
                "n_outputs": split.n_outputs,
                "x_dtype": split.layout.x_dtype,
                "y_dtype": split.layout.y_dtype,
                "n_partitions": split.n_partitions,
                "partition_rows": split.layout.partition_rows,
                "chunk_rows": split.layout.chunk_rows,
                "context": split.layout.context,
                "weighted": split.weighted,
            }
            for name, split in store.splits.items()
        },
    }


def _targets(store: Store) -> list[dict[str, Any]]:
    """Targets of a regression, with the mean and the deviation by which they are standardised; None if they are not."""
    split = store["train"]
    if split.n_classes is not None:
        return []
    scaled, n = split.target_standardisation, split.n_outputs
    names = split.targets or tuple(map(str, range(n)))
    means, deviations = (scaled.mean, scaled.deviation) if scaled else ((None,) * n, (None,) * n)
    found = zip(names, means, deviations, strict=True)
    return [{"name": name, "mean": mean, "deviation": deviation} for name, mean, deviation in found]


def _column(column: Column) -> dict[str, Any]:
    categories = None if column.categories is None else list(column.categories)
    return {"name": column.name, "categories": categories, "missing": column.missing, "fill": column.fill}


def survey(store: Store, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Read every row of a store, and compute class counts and ranges.

    Parameters
    ----------
    store : Store
        Store whose rows are read.
    reporter : Reporter
        Receiver of the progress.

    Returns
    -------
    dict
        For each split: ``class_counts`` (rows of each class, in the order of their numbers; absent for regression),
        ``minimum``, ``maximum``, ``mean`` and ``deviation`` of each feature, neither standardised nor spliced; and
        ``weights``, if rows have weights: their ``minimum``, ``maximum``, ``sum`` and number of ``zeros``.
        Also ``classes``: their names, or their numbers as text.

    Raises
    ------
    StoreError
        If a file is missing or damaged, or a label is none of the classes.

    Notes
    -----
    One partition at a time is in memory.
    """
    splits = store.splits
    total = sum(split.n_partitions for split in splits.values())
    counter = Counter(reporter.progress("Reading rows", "partitions"), total)
    found: dict[str, Any] = {}
    for name, split in splits.items():
        statistics = _Statistics(split)
        for j in range(split.n_partitions):
            statistics.update(split.partition_name(j), *split.load_stored(j))
            weights = split.load_labels(j)[1] if split.weighted else None
            if weights is not None:
                statistics.update_weights(weights)
            counter.advance()
        found[name] = statistics.summary()
    header = store.manifest.header
    names = header.classes or tuple(map(str, range(header.n_classes or 0)))
    return {"classes": list(names), "splits": found}


class _Statistics:
    """Running statistics of one split."""

    def __init__(self, split: Split) -> None:
        self.counts = None if split.n_classes is None else np.zeros(split.n_classes, np.int64)
        self.low: NDArray[Any] | None = None
        self.high: NDArray[Any] | None = None
        self.moments = Moments(split.layout.n_features)
        self.origin = split.standardisation.origin if split.standardisation else ()
        self.weights: dict[str, float] = {}

    def update_weights(self, weights: NDArray[Any]) -> None:
        before = self.weights or {"minimum": np.inf, "maximum": 0.0, "sum": 0.0, "zeros": 0}
        self.weights = {
            "minimum": min(before["minimum"], float(weights.min())),
            "maximum": max(before["maximum"], float(weights.max())),
            "sum": before["sum"] + float(weights.sum(dtype=np.float64)),
            "zeros": before["zeros"] + int(np.count_nonzero(weights == 0)),
        }

    def update(self, where: str, X: NDArray[Any], y: NDArray[Any]) -> None:
        low, high = X.min(axis=0), X.max(axis=0)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)
        for first in range(0, len(X), 8192):
            self.moments.update(X[first : first + 8192])
        if self.counts is not None:
            self.counts += count_classes(where, y, len(self.counts)).astype(np.int64)

    def summary(self) -> dict[str, Any]:
        measured: dict[str, Any] = {} if self.counts is None else {"class_counts": self.counts.tolist()}
        arrays = {"minimum": self.low, "maximum": self.high, "mean": self.moments.mean}
        if self.origin:
            arrays = {key: None if values is None else values + np.array(self.origin) for key, values in arrays.items()}
        arrays["deviation"] = np.sqrt(self.moments.squares / max(self.moments.n, 1))
        measured |= {"weights": self.weights} if self.weights else {}
        return measured | {key: values.tolist() for key, values in arrays.items() if values is not None}
