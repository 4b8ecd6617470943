"""Zarr arrays, versions 2 and 3, in folders; their metadata are checked before Zarr reads them.

Chunk files are read here, only within the given folder, and passed to Zarr in memory, one row of chunks at a time.
The expanded size of a compressed chunk is checked before it is decompressed.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.sources.arrays import BLOCK_NBYTES, read_pairs, refuse_dtype, refuse_shape
from hfnumba.ingest.sources.paths import folder_record, hashing, inside
from hfnumba.ingest.sources.raw import DEFLATE_RATIO, RawData, read_all
from hfnumba.progress import Reporter
from hfnumba.store.codec import BLOSC_HEADER
from hfnumba.store.manifest import SourceFile

MAX_METADATA = 2**20
MAX_CHUNK_NBYTES = 2**28
MAX_ROW_NBYTES = 2**29
FREE_NBYTES = 2**28
"""Largest array that may claim more than its files can expand to (missing chunks are the fill value)."""

COMPRESSORS = ("blosc", "gzip", "lz4", "zlib", "zstd")
_CHECKSUM_NBYTES = 4
_PLAIN_DTYPE = re.compile(r"[<>|]?[a-zA-Z]+\d*")
DOCUMENTS = {"zarr.json": 3, ".zarray": 2}


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, reporter: Reporter) -> RawData:
    """Read the splits that ``[arrays]`` names; without a test split, the seed holds training rows out."""
    return read_pairs(recipe, seed, reporter, partial(open_array, paths["source"]))


@dataclass(frozen=True)
class _Claims:
    """Checked metadata of an array."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    compressor: str | None
    checksum: bool = False

    @property
    def chunk_nbytes(self) -> int:
        return math.prod(self.chunks) * self.dtype.itemsize


@dataclass(frozen=True)
class ZarrReader:
    """Reader of an array whose metadata were checked."""

    root: Path
    folder: Path
    document: str
    claims: _Claims
    array: Any = field(repr=False)
    memory: dict[str, Any] = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, from the metadata."""
        return self.claims.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the array, from the metadata."""
        return self.claims.dtype

    @property
    def step(self) -> int:
        """Number of rows in whole chunks of at least about 4 MB."""
        rows = self.claims.chunks[0]
        nbytes = rows * math.prod(self.shape[1:]) * self.dtype.itemsize
        return rows * max(1, BLOCK_NBYTES // max(1, nbytes))

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Decode the rows from ``first`` up to ``stop``; missing chunks are the fill value, as in Zarr."""
        keys = self._keys(first, stop)
        try:
            for key in keys:
                if (self.folder / key).is_file():
                    self.memory[f"a/{key}"] = _buffer(self._chunk(key))
            return np.asarray(self.array[first:stop])
        except DataError:
            raise
        except Exception as error:  # codecs raise errors of any type
            raise DataError(
                f"{self.folder}: a chunk of rows {first} to {stop - 1} cannot be decoded: {error}"
            ) from error
        finally:
            for key in keys:
                self.memory.pop(f"a/{key}", None)

    def record(self, name: str, reporter: Reporter) -> SourceFile:
        """Record size and digest of the metadata and all chunks together."""
        present = [key for key in self._keys(0, self.shape[0]) if (self.folder / key).is_file()]
        paths = [inside(self.root, self.folder / key) for key in (self.document, *present)]
        return folder_record(name, self.root, paths, hashing(reporter, paths))

    def _keys(self, first: int, stop: int) -> list[str]:
        rows = self.claims.chunks[0]
        axes = [range(first // rows, -(-stop // rows))]
        axes += [range(-(-n // c)) for n, c in zip(self.shape[1:], self.claims.chunks[1:], strict=True)]
        return [self.array.metadata.encode_chunk_key(place) for place in product(*axes)]

    def _chunk(self, key: str) -> bytes:
        limit = 2 * self.claims.chunk_nbytes + MAX_METADATA
        data = read_all(inside(self.root, self.folder / key), limit)
        claimed = _expanded(self.claims, data)
        if claimed != self.claims.chunk_nbytes:
            raise DataError(f"{self.folder}: chunk {key} claims {claimed} bytes, expected {self.claims.chunk_nbytes}")
        return data


def open_array(root: Path, name: str) -> ZarrReader:
    """Open the array in a folder.

    Raises
    ------
    DataError
        If the folder is outside ``root``, is not an array of numbers, or claims more than its files can hold.
    """
    import zarr  # noqa: PLC0415 - slow
    from zarr.storage import MemoryStore  # noqa: PLC0415

    document = next((known for known in DOCUMENTS if (root / name / known).is_file()), None)
    if document is None:
        raise DataError(f"{root / name} is not a Zarr array: it has neither zarr.json nor .zarray")
    path = inside(root, Path(name) / document)
    data = read_all(path, MAX_METADATA)
    folder = root / name
    claims = _claims(path, data, DOCUMENTS[document])
    refuse_dtype(folder, claims.dtype)
    for shape in (claims.shape, claims.chunks):
        refuse_shape(folder, shape, claims.dtype.itemsize)
    _refuse_size(folder, claims)
    memory = {f"a/{document}": _buffer(data)}
    try:
        array: Any = zarr.open_array(
            MemoryStore(memory, read_only=True),
            path="a",
            mode="r",
            zarr_format=DOCUMENTS[document],  # type: ignore[arg-type]
        )
        if (array.shape, array.chunks, array.dtype) != (claims.shape, claims.chunks, claims.dtype):
            raise ValueError("Zarr reads other values")
    except Exception as error:  # invalid metadata raise errors of any type
        raise DataError(f"{path}: the metadata cannot be read: {error}") from error
    return ZarrReader(root, folder, document, claims, array, memory)


def _claims(path: Path, data: bytes, version: int) -> _Claims:
    try:
        document = json.loads(data)
        found = _version_3(document) if version == 3 else _version_2(document)
        sizes = (*found.shape, *found.chunks)
        if len(found.shape) != len(found.chunks) or not found.shape or not all(type(n) is int for n in sizes):
            raise ValueError(f"shape {found.shape} in chunks of {found.chunks}")
        if min(found.shape) < 0 or min(found.chunks) < 1:
            raise ValueError(f"shape {found.shape} in chunks of {found.chunks}")
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise DataError(
            f"{path}: {error or 'the metadata'} is not supported, only arrays of numbers in a regular grid of chunks, "
            f"uncompressed or compressed by one of {', '.join(COMPRESSORS)}; pass others to hfnumba.write_store"
        ) from error
    return found


def _version_2(document: Any) -> _Claims:
    if document.get("filters"):
        raise ValueError(f"filters {document['filters']}")
    compressor = document["compressor"] and str(document["compressor"]["id"])
    if compressor not in (None, *COMPRESSORS):
        raise ValueError(f"compressor {compressor}")
    return _Claims(tuple(document["shape"]), tuple(document["chunks"]), _dtype(document["dtype"]), compressor)


def _version_3(document: Any) -> _Claims:
    if document["node_type"] != "array" or document["chunk_grid"]["name"] != "regular":
        raise ValueError(f"a {document['node_type']} with another grid")
    names = [str(codec["name"]) for codec in document["codecs"]]
    inner = [name for name in names[1:] if name != "crc32c"]
    if names[:1] != ["bytes"] or len(inner) > 1 or not set(inner) <= set(COMPRESSORS) or names[1:-1].count("crc32c"):
        raise ValueError(f"the codecs {', '.join(names)}")
    chunks = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    compressor = inner[0] if inner else None
    return _Claims(tuple(document["shape"]), chunks, _dtype(document["data_type"]), compressor, names[-1] == "crc32c")


def _dtype(name: Any) -> np.dtype[Any]:
    """Return the dtype of a plain name; NumPy would accept more, some of it evaluated as Python."""
    if not (isinstance(name, str) and _PLAIN_DTYPE.fullmatch(name)):
        raise ValueError(f"dtype {name}")
    return np.dtype(name)


def _refuse_size(folder: Path, claims: _Claims) -> None:
    row = claims.chunks[0] * math.prod(claims.shape[1:]) * claims.dtype.itemsize
    if claims.chunk_nbytes > MAX_CHUNK_NBYTES or row > MAX_ROW_NBYTES:
        raise DataError(
            f"{folder} claims chunks of {claims.chunk_nbytes} bytes and {row} bytes in a row of chunks, more than "
            f"{MAX_CHUNK_NBYTES} and {MAX_ROW_NBYTES}; write it in smaller chunks"
        )
    nbytes = math.prod(claims.shape) * claims.dtype.itemsize
    if nbytes <= FREE_NBYTES:
        return
    stored = sum(path.lstat().st_size for path in folder.rglob("*"))
    if nbytes > FREE_NBYTES + stored * DEFLATE_RATIO:
        raise DataError(f"{folder} claims shape {claims.shape}, {nbytes} bytes; more than the {stored} stored can hold")


def _expanded(claims: _Claims, data: bytes) -> int:
    """Expanded size of a chunk file by its header, or by decompressing up to one byte more than a chunk."""
    kind = claims.compressor
    if kind is None:
        return claims.chunk_nbytes
    if kind in ("gzip", "zlib"):
        try:
            return len(zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, claims.chunk_nbytes + 1))
        except zlib.error as error:
            raise ValueError(str(error)) from error
    if kind == "zstd":
        return _frame_nbytes(data)
    if kind == "blosc":
        return _blosc_nbytes(data[:-_CHECKSUM_NBYTES] if claims.checksum else data)
    return int.from_bytes(data[:4], "little") if len(data) > 4 else 0


def _blosc_nbytes(data: bytes) -> int:
    """Expanded size by the header of a Blosc frame (c-blosc, README_CHUNK_FORMAT).

    The decoder trusts the header and reads as many bytes as it claims, so the claim is checked here.
    """
    if len(data) < BLOSC_HEADER.size:
        raise ValueError(f"{len(data)} bytes are not a Blosc frame")
    nbytes, block, packed = BLOSC_HEADER.unpack_from(data)
    if packed != len(data) or not 1 <= block <= nbytes:
        raise ValueError(f"a Blosc frame of {len(data)} bytes claims {packed} bytes in blocks of {block}")
    return int(nbytes)


def _frame_nbytes(data: bytes) -> int:
    """Expanded size by the header of a Zstandard frame (RFC 8878, section 3.1.1.1); 0 if it is not given."""
    if data[:4] != b"\x28\xb5\x2f\xfd" or len(data) < 6:
        return 0
    single, kind = data[4] & 32, data[4] >> 6
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[data[4] & 3]
    width = (1 if single else 0, 2, 4, 8)[kind]
    return int.from_bytes(data[at : at + width], "little") + (256 if kind == 1 else 0)


def _buffer(data: bytes) -> Any:
    from zarr.buffer.cpu import Buffer  # noqa: PLC0415

    return Buffer.from_bytes(data)
