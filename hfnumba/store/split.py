"""Splits of a store: cheap to open, loaded by any worker, with every row verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hfnumba.store import files, reading
from hfnumba.store.columns import Arrangement, Column
from hfnumba.store.frames import splice
from hfnumba.store.layout import SplitLayout
from hfnumba.store.manifest import Task
from hfnumba.store.standardise import Standardisation

SPLIT_COLUMNS = ("split", "rows", "features", "outputs", "partitions", "stored as", "weights")
"""Names of the columns of a table of splits."""


@dataclass(frozen=True)
class Split:
    """Split of a store: small, picklable and stateless, so that any worker can load any partition.

    Attributes
    ----------
    path : str
        Absolute path of the store; a worker on another machine must see the store there.
    digest : str
        SHA-256 of the manifest when the split was opened. Loading refuses a store that has changed since.
    name : str
        ``"train"``, ``"validation"`` or ``"test"``.
    layout : SplitLayout
        Shape, dtypes and chunks.
    task : {"classification", "regression", "autoencode"}
        Task of the store, or of :meth:`autoencoder`.
    n_classes : int or None
        Number of classes; None without classes.
    scale, offset : float
        Affine map of the features in training, ``x * scale + offset`` in float32.
    standardisation : Standardisation or None
        Mean and deviation of each feature, applied by :meth:`load`.
    columns : tuple of Column or None
        Columns of the table in the order of the features; empty if features have no names, None if names were not
        recorded.
    classes, targets : tuple of str
        Names of the classes, and of the columns of a regression target; empty if they have none.
    target_standardisation : Standardisation or None
        Mean and deviation of each regression target, applied by :meth:`load`.
    arrangement : Arrangement or None
        Order of features and targets and numbers of classes, applied by :meth:`load`; None for those of the store.
    """

    path: str
    digest: str
    name: str
    layout: SplitLayout
    task: Task | Literal["autoencode"]
    n_classes: int | None
    scale: float
    offset: float
    standardisation: Standardisation | None = None
    columns: tuple[Column, ...] | None = ()
    classes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    target_standardisation: Standardisation | None = None
    arrangement: Arrangement | None = None

    def autoencoder(self) -> Split:
        """Return this split with its features as targets.

        Returns
        -------
        Split
            Its labels or targets are not read, and nothing is copied.
        """
        return replace(self, task="autoencode", n_classes=None, classes=(), targets=(), target_standardisation=None)

    @property
    def autoencodes(self) -> bool:
        """Whether the targets are the features."""
        return self.task == "autoencode"

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {self.n_rows} rows, {self.n_features} features, {self.task}, {self.path!r})"

    def _repr_html_(self) -> str:
        from hfnumba.html import grid  # noqa: PLC0415 - for notebooks only

        return grid(f"Split of {self.path}", SPLIT_COLUMNS, [self.cells()])

    def cells(self) -> list[str]:
        """Return the texts of a row of a table, for :data:`SPLIT_COLUMNS`."""
        counts = [self.n_rows, self.n_features, self.n_outputs, self.n_partitions]
        return [self.name, *[f"{n:,}" for n in counts], str(self.layout.x_dtype), "yes" if self.weighted else "no"]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.layout.n_rows

    @property
    def n_features(self) -> int:
        """Number of features of a row as loaded: with its context, for frames."""
        return self._width * (2 * self.layout.context + 1)

    @property
    def _width(self) -> int:
        """Number of features of a row without its context."""
        order = self.arrangement.features if self.arrangement is not None else None
        return self.layout.n_features if order is None else len(order)

    @property
    def n_outputs(self) -> int:
        """Width of the last layer of a network for this task: classes, columns of the target, or features."""
        if self.autoencodes:
            return self.n_features
        return self.n_classes if self.n_classes is not None else self.layout.n_outputs or 1

    @property
    def n_partitions(self) -> int:
        """Number of partitions, none of them empty; fewer than requested if there are few rows."""
        return self.layout.n_partitions

    @property
    def weighted(self) -> bool:
        """Whether the rows have weights."""
        return self.layout.weighted is True

    def partition_rows(self, j: int) -> tuple[int, int]:
        """Return the first row of a partition and the row after its last.

        Parameters
        ----------
        j : int
            Number of the partition, from 0.

        Returns
        -------
        tuple of int
            The two numbers of rows, from 0.
        """
        return self.layout.bounds(j)

    def partition_name(self, j: int) -> str:
        """Return the text that names partition ``j`` in messages."""
        return f"{self.path}: partition {j} of {self.name}"

    @property
    def x_dtype(self) -> np.dtype[Any]:
        """Dtype of the features that loading returns."""
        return np.dtype(self.layout.x_dtype if self.standardisation is None else np.float32)

    def load(self, j: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Load the rows of a partition. Each file is read once and decoded only if its digest is right.

        Parameters
        ----------
        j : int
            Number of the partition, from 0.

        Returns
        -------
        X : ndarray of uint8 or float32, shape (rows, n_features)
            Features, standardised and spliced with their context if the store is so; not yet scaled.
        y : ndarray, int32 of shape (rows,) or float32 of shape (rows, n_outputs)
            Labels, or regression targets, standardised if the store is so; for an autoencoder X itself.

        Raises
        ------
        StoreError
            If a file is missing, damaged or replaced, or the store has changed since it was opened.

        Notes
        -----
        Thread-safe. Memory: the decoded bytes of one partition, one compressed chunk, and the spliced rows.
        """
        X, y = self.expand(self.load_compact(j))
        return X, X if y is None else y

    def load_compact(self, j: int) -> dict[str, NDArray[Any]]:
        """Load partition ``j`` in its smallest form, before splicing of context.

        The arrays are ``X``, ``y`` except for an autoencoder, ``start`` for frames, and ``weights`` for rows with
        weights, float32 of shape (rows,).
        """
        stored = self._decoded(j, names=("X", "start", "weights") if self.autoencodes else None)
        if self.arrangement is not None:
            stored["X"] = self.arrangement.features_of(stored["X"])
        if self.standardisation is not None:
            # Bytes of another store than that of the training rows become float32 here.
            stored["X"] = stored["X"].astype(np.float32, copy=False)
            self.standardisation.apply_in_place(stored["X"])
        if not self.autoencodes:
            stored["y"] = self._targets(stored)
            if self.target_standardisation is not None:
                stored["y"] = self.target_standardisation.apply(stored["y"])
        return stored

    def expand(self, compact: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Convert the result of :meth:`load_compact` to that of :meth:`load`; without context nothing is copied.

        y is None for an autoencoder.
        """
        X = compact["X"]
        if self.layout.is_frames:
            X = splice(X, compact["start"], self.layout.context)
        return X, compact.get("y")

    def compact_nbytes(self, j: int) -> int:
        """Number of bytes of the result of :meth:`load_compact`."""
        first, stop = self.partition_rows(j)
        layout = self.layout
        row = self._width * self.x_dtype.itemsize + layout.is_frames + 4 * self.weighted
        row += 0 if self.autoencodes else 4 * (layout.n_outputs or 1)
        return (stop - first) * row

    def load_stored(self, j: int, chunks: Mapping[str, files.Data] | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Load partition ``j`` like :meth:`load`, but features not arranged or spliced, and nothing standardised.

        ``chunks`` has its files by their keys, if the caller has already read and verified them.
        """
        stored = self._decoded(j, chunks)
        return stored["X"], self._targets(stored)

    def load_labels(
        self, j: int, chunks: Mapping[str, files.Data] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Load the targets of partition ``j``, arranged but not standardised, and the weights of its rows.

        ``chunks`` as for :meth:`load_stored`. The weights are None if rows have no weights.
        """
        stored = self._decoded(j, chunks, ("y", "weights"))
        return self._targets(stored), stored.get("weights")

    def _targets(self, stored: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        y = stored["y"].astype(np.int32 if self.task == "classification" else np.float32, copy=False)
        return y if self.arrangement is None else self.arrangement.targets_of(y)

    def _decoded(
        self, j: int, chunks: Mapping[str, files.Data] | None = None, names: tuple[str, ...] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return the arrays of partition ``j`` as stored: all, or only those named."""
        place = reading.Place(self.path, self.digest, self.name)
        return reading.read_partition(place, self.layout, j, chunks, names)
