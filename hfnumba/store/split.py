"""Reading a store: cheap to open, safe to load from any worker, and never a row that was not verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import StoreError, UsageError
from hfnumba.store import files, reading
from hfnumba.store.frames import splice
from hfnumba.store.layout import SplitLayout
from hfnumba.store.manifest import Manifest, Task
from hfnumba.store.standardise import Standardisation


@dataclass(frozen=True)
class Split:
    """One split of a store: small, picklable, without state, so that any worker can load any partition.

    Attributes
    ----------
    path : str
        Absolute path of the store; a worker on another machine must see the store there.
    digest : str
        SHA-256 of the manifest the split was opened with. Loading refuses a store that has changed since.
    name : str
        ``"train"``, ``"validation"`` or ``"test"``.
    layout : SplitLayout
        Shape, dtypes and chunks.
    task : {"classification", "regression"}
    n_classes : int or None
        Number of classes; None for regression.
    scale, offset : float
        The network sees ``x * scale + offset`` in float32.
    standardisation : Standardisation or None
        Applied by :meth:`load`.
    """

    path: str
    digest: str
    name: str
    layout: SplitLayout
    task: Task
    n_classes: int | None
    scale: float
    offset: float
    standardisation: Standardisation | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.layout.n_rows

    @property
    def n_features(self) -> int:
        """Number of features of a row as loaded: with its context, for frames."""
        return self.layout.width

    @property
    def n_outputs(self) -> int:
        """Width of a network's last layer for this task: classes, or columns of the regression target."""
        return self.n_classes if self.n_classes is not None else self.layout.n_outputs or 1

    @property
    def n_partitions(self) -> int:
        """Number of partitions, none of them empty; fewer than asked for where rows are few."""
        return self.layout.n_partitions

    @property
    def weighted(self) -> bool:
        """Whether the rows have weights."""
        return self.layout.weighted is True

    def partition_rows(self, j: int) -> tuple[int, int]:
        """First row of partition ``j`` and the row after its last."""
        return self.layout.bounds(j)

    @property
    def x_dtype(self) -> np.dtype[Any]:
        """Dtype of the features that loading returns."""
        return np.dtype(self.layout.x_dtype)

    def load(self, j: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Load the rows of partition ``j``. Each file is read once and decoded only if its digest is right.

        Returns
        -------
        X : ndarray of uint8 or float32, shape (rows, n_features)
            Standardised, and spliced with their context, where the store says so; not yet scaled.
        y : ndarray, int32 of shape (rows,) or float32 of shape (rows, n_outputs)
            Labels, or regression targets.

        Raises
        ------
        StoreError
            If a file is missing, damaged or exchanged, or the store has changed since it was opened.

        Notes
        -----
        Thread-safe. Takes the decoded bytes of one partition in memory, one compressed chunk, and the spliced rows.
        """
        return self.expand(self.load_compact(j))

    def load_compact(self, j: int) -> dict[str, NDArray[Any]]:
        """Load partition ``j`` in the form in which it takes least memory: its context is not spliced yet.

        With ``X`` and ``y`` it holds ``start`` for frames, and ``weights``, float32 of shape (rows,), if rows have any.
        """
        stored = self._decoded(j)
        if self.standardisation is not None:
            self.standardisation.apply_in_place(stored["X"])
        stored["y"] = self._targets(stored)
        return stored

    def expand(self, compact: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rows as :meth:`load` returns them, from what :meth:`load_compact` returned; without context no copy."""
        X = compact["X"]
        if self.layout.is_frames:
            X = splice(X, compact["start"], self.layout.context)
        return X, compact["y"]

    def compact_nbytes(self, j: int) -> int:
        """Bytes of what :meth:`load_compact` returns."""
        first, stop = self.partition_rows(j)
        layout = self.layout
        row = layout.n_features * self.x_dtype.itemsize + 4 * (layout.n_outputs or 1) + layout.is_frames
        row += 4 * self.weighted
        return (stop - first) * row

    def load_stored(self, j: int, chunks: Mapping[str, files.Data] | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Load partition ``j`` as :meth:`load` does, but features as stored: neither standardised nor spliced.

        ``chunks`` are its files by their keys, if the caller has read and verified them already.
        """
        stored = self._decoded(j, chunks)
        return stored["X"], self._targets(stored)

    def load_labels(
        self, j: int, chunks: Mapping[str, files.Data] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Load the targets of partition ``j`` as :meth:`load` does, and the weights of its rows; no features.

        ``chunks`` as for :meth:`load_stored`. The weights are None where rows have none.
        """
        stored = self._decoded(j, chunks, ("y", "weights"))
        return self._targets(stored), stored.get("weights")

    def load_utterances(self, j: int) -> list[tuple[NDArray[np.float32], NDArray[Any]]]:
        """Load the utterances of partition ``j`` of a store of frames: features and labels of each, as stored.

        Raises
        ------
        UsageError
            If the rows of the store are not frames.
        StoreError
            As :meth:`load`.
        """
        if not self.layout.is_frames:
            raise UsageError(f"{self.path} holds rows, not utterances")
        stored = self._decoded(j)
        cuts = np.flatnonzero(stored["start"])[1:]
        y = self._targets(stored)
        return list(zip(np.split(stored["X"], cuts), np.split(y, cuts), strict=True))

    def _targets(self, stored: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        return stored["y"].astype(np.int32 if self.task == "classification" else np.float32, copy=False)

    def _decoded(
        self, j: int, chunks: Mapping[str, files.Data] | None = None, names: tuple[str, ...] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return the arrays of partition ``j`` as they are stored: all, or those of some names."""
        place = reading.Place(self.path, self.digest, self.name)
        return reading.read_partition(place, self.layout, j, chunks, names)


@dataclass(frozen=True)
class Store:
    """An opened store.

    Attributes
    ----------
    path : Path
        Absolute path.
    manifest : Manifest
        What it says of itself.
    digest : str
        SHA-256 of the manifest's bytes: names the rows, their order and their partitions.
    """

    path: Path
    manifest: Manifest
    digest: str

    @property
    def splits(self) -> Mapping[str, Split]:
        """The splits by their names."""
        header = self.manifest.header
        return MappingProxyType(
            {
                name: Split(
                    path=str(self.path),
                    digest=self.digest,
                    name=name,
                    layout=layout,
                    task=header.task,
                    n_classes=header.n_classes,
                    scale=header.scale,
                    offset=header.offset,
                    standardisation=header.standardisation,
                )
                for name, layout in header.splits.items()
            }
        )

    def __getitem__(self, name: str) -> Split:
        splits = self.splits
        if name not in splits:
            raise StoreError(f"{self.path} has no split {name!r}; it has {', '.join(splits)}")
        return splits[name]


def open_store(path: str | PathLike[str]) -> Store:
    """Open a finished store.

    Reads the manifest, and looks at the size of every file it lists; contents are verified on loading.

    Parameters
    ----------
    path : path
        The folder of the store.

    Raises
    ------
    StoreError
        If there is no store, it is unfinished or of another version, or a file is missing or has a wrong
        size.
    """
    store = read_manifest(path)
    faults = [
        f"{key} {seen}"
        for key, record in store.manifest.files.items()
        if (seen := files.size_fault(store.path / key, record)) is not None
    ]
    if faults:
        more = f" (files at fault: {len(faults)})" if len(faults) > 1 else ""
        raise StoreError(f"{store.path}: {faults[0]}{more}; {reading.REMEDY} (`hfnumba data verify` names every fault)")
    return store


def read_manifest(path: str | PathLike[str]) -> Store:
    """Read a store from its manifest alone, whatever the state of its other files."""
    root = Path(path).expanduser().absolute()
    return Store(root, *reading.read_manifest(root))
