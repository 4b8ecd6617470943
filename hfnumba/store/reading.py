"""Reading of manifests and partitions; everything is verified."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from hfnumba.atomic import read_regular
from hfnumba.errors import StoreError
from hfnumba.store import codec, files
from hfnumba.store import manifest as manifests
from hfnumba.store.layout import SplitLayout
from hfnumba.store.manifest import Manifest

REMEDY = "restore the file from a copy, or delete the store and build it again"


class Place(NamedTuple):
    """Identity of a split: path of the store, digest of its manifest, name of the split."""

    path: str
    digest: str
    split: str


def read_manifest(root: Path) -> tuple[Manifest, str]:
    """Read the manifest of a store, and its digest."""
    try:
        data = read_regular(root / manifests.NAME, manifests.MAX_NBYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(_absence(root)) from None
    except OSError as error:
        raise StoreError(f"{root / manifests.NAME} cannot be read: {error.strerror}") from error
    return manifests.parse(data, root), hashlib.sha256(data).hexdigest()


def _absence(root: Path) -> str:
    """Explain why there is no manifest."""
    if not root.exists():
        return f"there is no store at {root}; build one with `hfnumba data build RECIPE --out {root}`"
    if not root.is_dir():
        return f"{root} is a file, expected the folder of a store"
    if (root / "zarr.json").exists() or (root / manifests.SCRATCH).exists():
        return (
            f"{root} is unfinished: it has no {manifests.NAME}; run the `hfnumba data build` that began it "
            f"again (it continues), or write the missing partitions and run `hfnumba data finalise {root}`"
        )
    return f"{root} is not a store: it has no {manifests.NAME}; build one with `hfnumba data build RECIPE`"


def read_partition(
    place: Place,
    layout: SplitLayout,
    j: int,
    chunks: Mapping[str, files.Data] | None = None,
    names: tuple[str, ...] | None = None,
) -> dict[str, NDArray[Any]]:
    """Read the arrays of partition ``j`` as stored: all, or only those named.

    ``chunks`` has its files by their keys, if the caller has already read and verified them.
    """
    path, digest, split = place
    manifest = _pinned_manifest(path, digest)

    def read(key: str) -> files.Data:
        if chunks is not None:
            return chunks[key]
        return _verified(path, manifest, f"{split}/{key}", f"chunk of partition {j},")

    try:
        _check_metadata(place)
        stored = codec.decode(layout, read, j, names)
        if "start" in stored and not stored["start"][0]:
            raise codec.UndecodableError("starts within an utterance")
    except codec.UndecodableError as error:
        raise StoreError(f"{path}: partition {j} of {split} {error}; {REMEDY}") from error
    except MemoryError as error:
        first, stop = layout.bounds(j)
        raise StoreError(
            f"{path}: there is not enough memory for partition {j} of {split}, {stop - first} rows of "
            f"{layout.n_features} features; give the process more, or build the store with more partitions"
        ) from error
    return stored


@lru_cache(maxsize=8)
def _pinned_manifest(path: str, digest: str) -> Manifest:
    """Read the manifest with which a split was opened; cached, because every load needs it."""
    manifest, found = read_manifest(Path(path))
    if found != digest:
        raise StoreError(
            f"{path} has changed since it was opened (manifest {found[:12]}, expected {digest[:12]}); "
            f"open it again and start a new run"
        )
    return manifest


@lru_cache(maxsize=16)
def _check_metadata(place: Place) -> None:
    """Raise if the Zarr metadata of a split do not fit its layout; cached, because one check is enough."""
    path, digest, split = place
    manifest = _pinned_manifest(path, digest)
    layout = manifest.header.splits[split]
    found = {key: bytes(_verified(path, manifest, f"{split}/{key}", "metadata file")) for key in layout.documents()}
    codec.check_documents(layout, found)


def _verified(path: str, manifest: Manifest, key: str, what: str) -> files.Data:
    try:
        return files.read_verified(Path(path) / key, manifest.files[key])
    except StoreError as error:
        raise StoreError(f"{path}: {what} {key} {error}; {REMEDY}") from error
