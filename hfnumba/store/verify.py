"""The whole truth about a store on disk: every fault by the name of its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path

import numpy as np

from hfnumba.errors import StoreError
from hfnumba.store import files
from hfnumba.store import manifest as manifests
from hfnumba.store.codec import metadata_keys
from hfnumba.store.split import Split, Store, read_manifest

Progress = Callable[[int, int], None]


def verify(store: Store | str | PathLike[str], progress: Progress | None = None) -> list[str]:
    """Read every file of a store and every row, and list what is wrong.

    Parameters
    ----------
    store : Store or path
        A path is verified even where :func:`open_store` would refuse it for a missing or cut file.
    progress : callable, optional
        ``progress(done, total)`` after each file and each partition.

    Returns
    -------
    list of str
        One sentence for each fault, with the file's path relative to the store; empty for a sound store.

    Raises
    ------
    StoreError
        If there is no readable manifest: then there is nothing to compare with.

    Notes
    -----
    Reads every file once, for its digest and to look at its rows. One partition is in memory at a time.
    """
    if not isinstance(store, Store):
        store = read_manifest(store)
    splits, records = store.splits, store.manifest.files
    steps = _Steps(len(records) + sum(split.n_partitions for split in splits.values()), progress)
    faults: dict[str, str] = {}
    problems: list[str] = []

    def read(key: str) -> files.Data:
        try:
            return files.read_verified(store.path / key, records[key])
        except StoreError as error:
            faults[key] = f"{key} {error}"
            return b""
        finally:
            steps.step()

    for key in metadata_keys(store.manifest.header.splits):
        read(key)
    for split in splits.values():
        documents = {f"{split.name}/{key}" for key in split.layout.documents()}
        for j in range(split.n_partitions):
            chunks = {key: read(f"{split.name}/{key}") for key in split.layout.keys(j)}
            if not faults.keys() & (documents | {f"{split.name}/{key}" for key in chunks}):
                problems += _row_faults(split, j, chunks)
            steps.step()
    return [*faults.values(), *_unlisted(store), *problems]


class _Steps:
    """Counts, and tells."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _row_faults(split: Split, j: int, chunks: Mapping[str, files.Data]) -> Iterator[str]:
    """Faults of rows whose files are what the manifest says: the store was wrong when it was written."""
    try:
        X, y = split.load_stored(j, chunks)
    except StoreError as error:
        yield str(error)
        return
    keys = split.layout
    weights = split.load_labels(j, chunks)[1] if split.weighted else None
    if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all()):
        yield f"{split.name}/weights/c/{j} partition {j} holds weights that are negative or not finite"
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        yield f"{split.name}/{keys.x_keys(j)[0]} partition {j} holds features that are not finite"
    if not np.isfinite(y).all():
        yield f"{split.name}/{keys.y_key(j)} partition {j} holds targets that are not finite"
    if split.n_classes is not None and (y.min() < 0 or y.max() >= split.n_classes):
        yield (
            f"{split.name}/{keys.y_key(j)} partition {j} holds labels from {y.min()} to {y.max()}, "
            f"expected 0 to {split.n_classes - 1}"
        )


def _unlisted(store: Store) -> list[str]:
    """Files in the store that the manifest does not list."""
    found = (path.relative_to(store.path) for path in store.path.rglob("*") if not path.is_dir())
    ours = (path for path in found if path.parts[0] != manifests.SCRATCH and path != Path(manifests.NAME))
    return [
        f"{path.as_posix()} is not listed in the manifest"
        for path in sorted(ours)
        if path.as_posix() not in store.manifest.files
    ]
