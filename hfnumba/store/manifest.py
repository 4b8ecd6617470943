"""Manifest of a store: sources, layout, and the digest of every file."""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from typing import Literal

import msgspec

from hfnumba.errors import StoreError
from hfnumba.store.codec import metadata_keys
from hfnumba.store.columns import Column, feature_names
from hfnumba.store.files import FileRecord
from hfnumba.store.layout import SPLITS, SplitLayout
from hfnumba.store.standardise import Standardisation

NAME = "manifest.json"
SCRATCH = ".building"
"""Folder in an unfinished store for its plan, the records of written partitions, and temporary files."""
MAX_NBYTES = 2**30
"""Largest size of a manifest: it has about 150 bytes for each file."""
SCHEMA = "hfnumba-store"
VERSION = 4
"""Version 2 added frames (uneven partitions, context), standardisation and names of classes; version 3 compresses
chunks with Blosc and LZ4 and allows weights of rows; version 4 records BLAKE3 of files, and SHA-256 of sources only."""

Task = Literal["classification", "regression"]

_TABLES = ("csv", "parquet")
"""Formats whose features are columns with names."""


class SourceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Record of a source of rows.

    Attributes
    ----------
    name : str
        Name of its file, or a description of what is no file.
    nbytes : int
        Size of the uncompressed bytes.
    sha256 : str
        SHA-256 of the uncompressed bytes, in hexadecimal.
    """

    name: str
    nbytes: int
    sha256: str


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Description of a store that is complete before its first chunk is written, and determines all its bytes.

    Attributes
    ----------
    name, title, licence, homepage : str
        Metadata of the data set, from its recipe.
    sources : tuple of SourceFile
        Sources of the rows.
    task : {"classification", "regression"}
        Task that the labels or targets are for.
    n_classes : int or None
        Number of classes, labelled 0 to ``n_classes - 1``; None for regression.
    scale, offset : float
        Affine map of the features in training, ``x * scale + offset`` in float32.
    seed : int
        Seed of the shuffle of the rows of each split.
    rows : int or None
        Requested number of training rows; None for all.
    n_partitions : int
        Requested number of partitions.
    splits : dict of str to SplitLayout
        Layout of each split, by its name.
    standardisation : Standardisation or None
        Mean and deviation of each stored feature over the training split, applied on loading.
    classes : tuple of str
        Names of the classes in the order of their numbers; empty if the source has no names.
    note : str
        Remark on the rows for users, for example that they are synthetic.
    recipe : str
        Recipe as JSON; empty for arrays in memory.
    columns : tuple of Column or UNSET
        Columns of the table in the order of the features. UNSET, for rows without names and for tables of earlier
        versions, is left out of the manifest.
    targets : tuple of str or UNSET
        Names of the columns of a regression target; UNSET as for ``columns``.
    validation : float or UNSET
        Requested share of the training rows (or utterances) for the split ``validation``; UNSET for none.
    target_standardisation : Standardisation or UNSET
        Mean and deviation of each regression target over the training split, applied on loading for squared error.
        UNSET for targets that are left as they are.
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
    columns: tuple[Column, ...] | msgspec.UnsetType = msgspec.UNSET
    targets: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    validation: float | msgspec.UnsetType = msgspec.UNSET
    target_standardisation: Standardisation | msgspec.UnsetType = msgspec.UNSET

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
        self._check_names()
        self._check_standardisation()

    def _check_names(self) -> None:
        for layout in self.splits.values():
            if self.columns is not msgspec.UNSET and len(feature_names(self.columns)) != layout.n_features:
                raise ValueError("expected columns for every feature")
            if self.targets is not msgspec.UNSET and len(self.targets) != layout.n_outputs:
                raise ValueError("expected a name for every target")
            scaled = self.target_standardisation
            if scaled is not msgspec.UNSET and (len(scaled.mean) != layout.n_outputs or scaled.origin):
                raise ValueError("expected a mean and a deviation for every target, and no origin")

    @property
    def known_columns(self) -> tuple[Column, ...] | None:
        """Columns in the order of the features, empty if features have no names; None if names were not recorded."""
        if self.columns is not msgspec.UNSET:
            return self.columns
        return None if any(f'"format":"{name}"' in self.recipe for name in _TABLES) else ()

    def _check_standardisation(self) -> None:
        if self.standardisation is None:
            return
        for layout in self.splits.values():
            if layout.x_dtype != "float32" or len(self.standardisation.mean) != layout.n_features:
                raise ValueError("expected a mean and a deviation for each float32 feature")

    def differences(self, other: Header) -> str:
        """Describe the fields in which two headers differ; empty if they are equal.

        What a store of an earlier version does not have (names of columns, standardisation of targets) is passed over:
        a store that there is stays as it is.
        """
        words = []
        for field in self.__struct_fields__:
            here, there = getattr(self, field), getattr(other, field)
            if field == "validation":
                here, there = (None if value is msgspec.UNSET else value for value in (here, there))
            if here == there or msgspec.UNSET in (here, there):
                continue
            plain = field != "recipe" and all(isinstance(value, str | int | float | None) for value in (here, there))
            words.append(f"{field} is {_word(here)}, requested {_word(there)}" if plain else f"{field} differ")
        return "; ".join(words)


def _word(value: str | float | None) -> str:
    return "not given" if value is None else repr(value)


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Content of the file ``manifest.json``.

    Attributes
    ----------
    schema : str
        Name of the schema.
    schema_version : int
        Version of the schema; no other is read.
    header : Header
        Description of the store.
    files : dict of str to FileRecord
        Record of every other file, by its path in the store.
    versions : dict of str to str
        Versions of the packages that wrote the store.
    checksum : str
        SHA-256 of all of the above.
    """

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
    """Return the bytes of a manifest; equal content gives equal bytes."""
    ordered = {key: files[key] for key in expected_keys(header)}
    manifest = Manifest(schema=SCHEMA, schema_version=VERSION, header=header, files=ordered, versions=_versions())
    return _pretty(msgspec.structs.replace(manifest, checksum=_checksum(manifest)))


def parse(data: bytes, path: Path) -> Manifest:
    """Read a manifest from its bytes.

    Raises
    ------
    StoreError
        If it is not a manifest, has another version, was changed, or does not list exactly the files of its header.
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
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StoreError(f"{where} is damaged ({error}); restore it from a copy or build the store again") from error
    if manifest.checksum != _checksum(manifest):
        raise StoreError(f"{where} was changed after it was written; restore it or build the store again")
    header, listed = manifest.header, manifest.files
    # Counted before the names are made: a hostile header may claim more chunks than fit in memory as names.
    n_files = len(metadata_keys(header.splits)) + sum(layout.n_chunks for layout in header.splits.values())
    if len(listed) != n_files or set(listed) != set(expected_keys(header)):
        raise StoreError(f"{where} does not list the files of its header; build the store again")
    return manifest


def expected_keys(header: Header) -> list[str]:
    """Relative paths of all files of a store except the manifest: metadata first, then chunks."""
    chunks = [f"{name}/{key}" for name, layout in header.splits.items() for key in layout.all_keys()]
    return metadata_keys(header.splits) + chunks


@functools.cache
def _versions() -> dict[str, str]:
    """Versions of the packages that write a store; cached, because the lookup takes as long as to encode a chunk."""
    from hfnumba.versions import installed  # noqa: PLC0415 - reading a store does not need it

    return installed(("hfnumba", "numcodecs", "numpy", "zarr"))


def _checksum(manifest: Manifest) -> str:
    plain = msgspec.structs.replace(manifest, checksum="")
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


def _pretty(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
