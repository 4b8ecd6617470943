"""Verifies a store: lists every missing or damaged file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path

import numpy as np

from hfnumba.errors import StoreError
from hfnumba.progress import SILENT, Counter, Reporter
from hfnumba.store import files
from hfnumba.store import manifest as manifests
from hfnumba.store.codec import metadata_keys
from hfnumba.store.split import Split
from hfnumba.store.store import Store, read_manifest


def verify(store: Store | str | PathLike[str], reporter: Reporter = SILENT) -> list[str]:
    """Read every file and every row of a store, and list all faults.

    Parameters
    ----------
    store : Store or path
        Store to verify; by its path, also one that :func:`open_store` refuses for a missing or truncated file.
    reporter : Reporter
        Receiver of the progress.

    Returns
    -------
    list of str
        One sentence per fault, with the path of the file relative to the store; empty for a sound store.

    Raises
    ------
    StoreError
        If there is no readable manifest, so that nothing can be compared.

    Notes
    -----
    Reads every file once, for its digest and its rows. One partition is in memory at a time.
    """
    if not isinstance(store, Store):
        store = read_manifest(store)
    splits, records = store.splits, store.manifest.files
    total = len(records) + sum(split.n_partitions for split in splits.values())
    counter = Counter(reporter.progress("Verifying", "files and partitions"), total)
    faults: dict[str, str] = {}
    problems: list[str] = []

    def read(key: str) -> files.Data:
        try:
            return files.read_verified(store.path / key, records[key])
        except StoreError as error:
            faults[key] = f"{key} {error}"
            return b""
        finally:
            counter.advance()

    for key in metadata_keys(store.manifest.header.splits):
        read(key)
    for split in splits.values():
        documents = {f"{split.name}/{key}" for key in split.layout.documents()}
        for j in range(split.n_partitions):
            chunks = {key: read(f"{split.name}/{key}") for key in split.layout.keys(j)}
            if not faults.keys() & (documents | {f"{split.name}/{key}" for key in chunks}):
                problems += _row_faults(split, j, chunks)
            counter.advance()
    return [*faults.values(), *_unlisted(store), *problems]


def _row_faults(split: Split, j: int, chunks: Mapping[str, files.Data]) -> Iterator[str]:
    """Faults of rows whose files fit the manifest: the rows were invalid when the store was written."""
    try:
        X, y = split.load_stored(j, chunks)
    except StoreError as error:
        yield str(error)
        return
    keys = split.layout
    weights = split.load_labels(j, chunks)[1] if split.weighted else None
    if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all()):
        yield f"{split.name}/weights/c/{j} partition {j} has weights that are negative or not finite"
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        yield f"{split.name}/{keys.x_keys(j)[0]} partition {j} has features that are not finite"
    if not np.isfinite(y).all():
        yield f"{split.name}/{keys.y_key(j)} partition {j} has targets that are not finite"
    if split.n_classes is not None and (y.min() < 0 or y.max() >= split.n_classes):
        yield (
            f"{split.name}/{keys.y_key(j)} partition {j} has labels from {y.min()} to {y.max()}, "
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
