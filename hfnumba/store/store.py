"""A store: its manifest and its splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType

from hfnumba.errors import StoreError
from hfnumba.store import files, reading
from hfnumba.store.manifest import Manifest
from hfnumba.store.split import SPLIT_COLUMNS, Split


@dataclass(frozen=True)
class Store:
    """An open store: its path, manifest and splits. Rows are read when a split is used.

    Attributes
    ----------
    path : Path
        Absolute path.
    manifest : Manifest
        Contents of the manifest file.
    digest : str
        SHA-256 of the manifest file, which identifies the rows, their order and their partitions.
    autoencodes : bool
        Whether the splits have their features as targets.
    """

    path: Path
    manifest: Manifest
    digest: str
    autoencodes: bool = False

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {split.n_rows}" for name, split in self.splits.items())
        return f"Store({str(self.path)!r}, {self.manifest.header.task}, rows: {sizes})"

    def _repr_html_(self) -> str:
        from hfnumba.html import grid  # noqa: PLC0415 - for notebooks only

        header = self.manifest.header
        title = f"{header.title or header.name or 'Store'}, {header.task}, at {self.path}"
        return grid(title, SPLIT_COLUMNS, [split.cells() for split in self.splits.values()])

    @property
    def splits(self) -> Mapping[str, Split]:
        """The splits by their names."""
        header = self.manifest.header
        splits = {
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
                columns=header.known_columns,
                classes=header.classes,
                targets=header.targets or (),
                target_standardisation=header.target_standardisation or None,
            )
            for name, layout in header.splits.items()
        }
        if self.autoencodes:
            splits = {name: split.autoencoder() for name, split in splits.items()}
        return MappingProxyType(splits)

    def __getitem__(self, name: str) -> Split:
        splits = self.splits
        if name not in splits:
            raise StoreError(f"{self.path} has no split {name!r}; it has {', '.join(splits)}")
        return splits[name]

    def for_task(self, task: str | None) -> Store:
        """Return this store with splits for a task.

        Parameters
        ----------
        task : {"autoencode"} or None
            Whether the features become the targets; None for the task of the store.

        Returns
        -------
        Store
            Nothing is read or copied.
        """
        return replace(self, autoencodes=task == "autoencode")


def open_store(path: str | PathLike[str]) -> Store:
    """Open a finished store.

    Reads the manifest and checks the size of every file it lists; contents are verified on loading.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    Store
        The store; ``store["train"]`` is its split of training rows.

    Raises
    ------
    StoreError
        If there is no store, it is unfinished or of another version, or a file is missing or has a wrong size.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from hfnumba import open_store, write_store
    >>> with TemporaryDirectory() as folder:
    ...     _ = write_store(f"{folder}/small.zarr", {"train": (np.zeros((6, 3), np.uint8), [0, 1, 0, 1, 0, 1])})
    ...     train = open_store(f"{folder}/small.zarr")["train"]
    >>> train.n_rows, train.n_features, train.n_classes
    (6, 3, 2)
    """
    store = read_manifest(path)
    faults = [
        f"{key} {fault}"
        for key, record in store.manifest.files.items()
        if (fault := files.size_fault(store.path / key, record)) is not None
    ]
    if faults:
        more = f" (files at fault: {len(faults)})" if len(faults) > 1 else ""
        raise StoreError(f"{store.path}: {faults[0]}{more}; {reading.REMEDY} (`hfnumba data verify` lists every fault)")
    return store


def read_manifest(path: str | PathLike[str]) -> Store:
    """Open a store by its manifest alone, without checking its other files."""
    root = Path(path).expanduser().absolute()
    return Store(root, *reading.read_manifest(root))
