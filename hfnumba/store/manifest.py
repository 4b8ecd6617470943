"""What a store says of itself: where its rows come from, how they lie, and the digest of every file."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import math
from pathlib import Path
from typing import Literal

import msgspec

from hfnumba.errors import StoreError
from hfnumba.store.codec import metadata_keys
from hfnumba.store.files import FileRecord
from hfnumba.store.layout import SPLITS, SplitLayout
from hfnumba.store.standardise import Standardisation

NAME = "manifest.json"
SCRATCH = ".building"
"""Folder in an unfinished store for its plan, its finished parts and temporary files."""
SCHEMA = "hfnumba-store"
VERSION = 4
"""Version 2 added frames (uneven partitions, context), standardisation and the names of classes; version 3 packs chunks
with Blosc and LZ4, and may hold weights of rows; version 4 records BLAKE3 of files, SHA-256 still of sources."""

Task = Literal["classification", "regression"]


class SourceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where rows came from: a name, and size and SHA-256 of the uncompressed bytes."""

    name: str
    nbytes: int
    sha256: str


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything about a store that is known before its first chunk is written, and fixes all its bytes.

    Attributes
    ----------
    name, title, licence, homepage : str
        Of the data set, from its recipe.
    sources : tuple of SourceFile
        Where the rows came from.
    task : {"classification", "regression"}
    n_classes : int or None
        Labels are 0 to ``n_classes - 1``; None for regression.
    scale, offset : float
        A worker trains on ``x * scale + offset`` in float32.
    seed : int
        Key of the shuffle of the rows of each split.
    rows : int or None
        How many training rows were asked for; None for all.
    n_partitions : int
        How many partitions were asked for.
    splits : dict of str to SplitLayout
    standardisation : Standardisation or None
        Mean and deviation of each stored feature over the training split, applied on loading.
    classes : tuple of str
        Names of the classes in the order of their numbers, where the source has names; or empty.
    note : str
        What a reader must know of the rows, for instance that they are synthetic.
    recipe : str
        The recipe as JSON; empty for arrays in memory.
    """

    name: str
    title: str
    licence: str
    homepage: str
    sources: tuple[SourceFile, ...]
    task: Task
    n_classes: int | None
    scale: float
    offset: float
    seed: int
    rows: int | None
    n_partitions: int
    splits: dict[str, SplitLayout]
    standardisation: Standardisation | None = None
    classes: tuple[str, ...] = ()
    note: str = ""
    recipe: str = ""

    def __post_init__(self) -> None:
        if not self.splits or not set(self.splits) <= set(SPLITS):
            raise ValueError(f"expected splits among {', '.join(SPLITS)}, got {sorted(self.splits)}")
        if (self.n_classes is None) != (self.task == "regression"):
            raise ValueError("expected n_classes for classification and none for regression")
        if not (math.isfinite(self.scale) and math.isfinite(self.offset)):
            raise ValueError("expected a finite scale and offset")
        if any((layout.n_outputs is None) != (self.task == "classification") for layout in self.splits.values()):
            raise ValueError("expected n_outputs for regression and none for classification")
        if len({(layout.n_features, layout.context) for layout in self.splits.values()}) > 1:
            raise ValueError("expected the same features in every split")
        if self.classes and len(self.classes) != self.n_classes:
            raise ValueError("expected a name for every class, or none")
        self._check_standardisation()

    def _check_standardisation(self) -> None:
        if self.standardisation is None:
            return
        for layout in self.splits.values():
            if layout.x_dtype != "float32" or len(self.standardisation.mean) != layout.n_features:
                raise ValueError("expected a mean and a deviation for each float32 feature")

    def differences(self, other: Header) -> str:
        """Name the settings in which two headers differ, in words; empty if they are equal."""
        words = []
        for field in self.__struct_fields__:
            here, there = getattr(self, field), getattr(other, field)
            if here == there:
                continue
            plain = field != "recipe" and all(isinstance(value, str | int | float | None) for value in (here, there))
            words.append(f"{field} is {_word(here)}, asked for {_word(there)}" if plain else f"{field} differ")
        return "; ".join(words)


def _word(value: str | float | None) -> str:
    return "not given" if value is None else repr(value)


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The header, the record of every file, the versions that wrote them, and a checksum over all."""

    schema: str
    schema_version: int
    header: Header
    files: dict[str, FileRecord]
    versions: dict[str, str] = {}
    checksum: str = ""


class _Version(msgspec.Struct):
    schema: str
    schema_version: int


def sealed(header: Header, files: dict[str, FileRecord]) -> bytes:
    """Return the bytes of a manifest: the same for the same content."""
    ordered = {key: files[key] for key in expected_keys(header)}
    manifest = Manifest(schema=SCHEMA, schema_version=VERSION, header=header, files=ordered, versions=_versions())
    return _pretty(msgspec.structs.replace(manifest, checksum=_checksum(manifest)))


def parse(data: bytes, path: Path) -> Manifest:
    """Read a manifest from its bytes.

    Raises
    ------
    StoreError
        If it is not one, is of another version, was changed, or does not list exactly the files its header
        needs.
    """
    where = f"the manifest {path / NAME}"
    try:
        version = msgspec.json.decode(data, type=_Version)
        if version.schema != SCHEMA:
            raise StoreError(f"{where} says schema {version.schema!r}, expected {SCHEMA!r}: not a store of hfnumba")
        if version.schema_version != VERSION:
            raise StoreError(
                f"{where} has schema version {version.schema_version}, this hfnumba reads version {VERSION}; "
                f"build the store again from its source, or use the hfnumba that wrote it"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreError(f"{where} is damaged ({error}); restore it from a copy or build the store again") from error
    if manifest.checksum != _checksum(manifest):
        raise StoreError(f"{where} was changed after it was written; restore it or build the store again")
    header, listed = manifest.header, manifest.files
    # Counted before they are named: a hostile header may claim more chunks than memory holds names.
    n_files = len(metadata_keys(header.splits)) + sum(layout.n_chunks for layout in header.splits.values())
    if len(listed) != n_files or set(listed) != set(expected_keys(header)):
        raise StoreError(f"{where} does not list the files that its header needs; build the store again")
    return manifest


def expected_keys(header: Header) -> list[str]:
    """Relative paths of all files of a store but the manifest: metadata first, then chunks."""
    chunks = [f"{name}/{key}" for name, layout in header.splits.items() for key in layout.all_keys()]
    return metadata_keys(header.splits) + chunks


@functools.cache
def _versions() -> dict[str, str]:
    """Versions of what writes the bytes of a store; looking them up takes as long as to pack a chunk."""
    found = {}
    for name in ("hfnumba", "numcodecs", "numpy", "zarr"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _checksum(manifest: Manifest) -> str:
    plain = msgspec.structs.replace(manifest, checksum="")
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


def _pretty(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
