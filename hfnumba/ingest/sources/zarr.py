"""Zarr arrays, versions 2 and 3, in folders. What their metadata claim is checked before Zarr sees them.

Chunk files are read here, only within the given folder, and handed to Zarr in memory, a row of chunks at a time.
Compressed chunks must say how large they are, or are expanded no further than a chunk is.
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
from hfnumba.progress import Watch
from hfnumba.store.codec import BLOSC_HEADER
from hfnumba.store.manifest import SourceFile

MAX_METADATA = 2**20
MAX_CHUNK_NBYTES = 2**28
MAX_ROW_NBYTES = 2**29
FREE_NBYTES = 2**28
"""Missing chunks are the fill value, so an array may claim more than its files can expand to: at most this much."""

COMPRESSORS = ("blosc", "gzip", "lz4", "zlib", "zstd")
_CHECKSUM_NBYTES = 4
_PLAIN_DTYPE = re.compile(r"[<>|]?[a-zA-Z]+\d*")
DOCUMENTS = {"zarr.json": 3, ".zarray": 2}


def read(recipe: Recipe, paths: Mapping[str, Path], seed: int, watch: Watch) -> RawData:
    """Read the splits that ``[arrays]`` names; of a training split alone, the seed holds rows out."""
    return read_pairs(recipe, seed, watch, partial(open_rows, paths["source"]))


@dataclass(frozen=True)
class _Claims:
    """What the metadata of an array say, checked."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    compressor: str | None
    checksum: bool = False

    @property
    def chunk_nbytes(self) -> int:
        return math.prod(self.chunks) * self.dtype.itemsize


@dataclass(frozen=True)
class ZarrRows:
    """An array whose metadata were checked."""

    root: Path
    folder: Path
    document: str
    claims: _Claims
    array: Any = field(repr=False)
    held: dict[str, Any] = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """As the metadata say."""
        return self.claims.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """As the metadata say."""
        return self.claims.dtype

    @property
    def step(self) -> int:
        """Rows of whole chunks, of at least about 4 MB."""
        rows = self.claims.chunks[0]
        nbytes = rows * math.prod(self.shape[1:]) * self.dtype.itemsize
        return rows * max(1, BLOCK_NBYTES // max(1, nbytes))

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Decode some rows; missing chunks are the fill value, as Zarr has it."""
        keys = self._keys(first, stop)
        try:
            for key in keys:
                if (self.folder / key).is_file():
                    self.held[f"a/{key}"] = _buffer(self._chunk(key))
            return np.asarray(self.array[first:stop])
        except DataError:
            raise
        except Exception as error:  # codecs raise what they like
            raise DataError(
                f"{self.folder}: a chunk of rows {first} to {stop - 1} cannot be decoded: {error}"
            ) from error
        finally:
            for key in keys:
                self.held.pop(f"a/{key}", None)

    def record(self, name: str, watch: Watch) -> SourceFile:
        """Record the metadata and all chunks as one."""
        present = [key for key in self._keys(0, self.shape[0]) if (self.folder / key).is_file()]
        paths = [inside(self.root, self.folder / key) for key in (self.document, *present)]
        return folder_record(name, self.root, paths, hashing(watch, paths))

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


def open_rows(root: Path, name: str) -> ZarrRows:
    """Open the array in a folder.

    Raises
    ------
    DataError
        If it leads out of ``root``, is no array of numbers, or claims more than its files can hold.
    """
    import zarr  # noqa: PLC0415 - slow
    from zarr.storage import MemoryStore  # noqa: PLC0415

    document = next((known for known in DOCUMENTS if (root / name / known).is_file()), None)
    if document is None:
        raise DataError(f"{root / name} is no Zarr array: it has neither zarr.json nor .zarray")
    path = inside(root, Path(name) / document)
    data = read_all(path, MAX_METADATA)
    folder = root / name
    claims = _claims(path, data, DOCUMENTS[document])
    refuse_dtype(folder, claims.dtype)
    for shape in (claims.shape, claims.chunks):
        refuse_shape(folder, shape, claims.dtype.itemsize)
    _refuse_size(folder, claims)
    held = {f"a/{document}": _buffer(data)}
    try:
        array: Any = zarr.open_array(
            MemoryStore(held, read_only=True),
            path="a",
            mode="r",
            zarr_format=DOCUMENTS[document],  # type: ignore[arg-type]
        )
        if (array.shape, array.chunks, array.dtype) != (claims.shape, claims.chunks, claims.dtype):
            raise ValueError("Zarr reads them otherwise")
    except Exception as error:  # metadata of any kind fail in any way
        raise DataError(f"{path}: the metadata cannot be read: {error}") from error
    return ZarrRows(root, folder, document, claims, array, held)


def _claims(path: Path, data: bytes, version: int) -> _Claims:
    try:
        said = json.loads(data)
        found = _version_3(said) if version == 3 else _version_2(said)
        sizes = (*found.shape, *found.chunks)
        if len(found.shape) != len(found.chunks) or not found.shape or not all(type(n) is int for n in sizes):
            raise ValueError(f"shape {found.shape} in chunks of {found.chunks}")
        if min(found.shape) < 0 or min(found.chunks) < 1:
            raise ValueError(f"shape {found.shape} in chunks of {found.chunks}")
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise DataError(
            f"{path}: {error or 'the metadata'} is not read here; arrays of numbers in a regular grid of chunks are, "
            f"compressed by one of {', '.join(COMPRESSORS)} or not; pass others to hfnumba.write_store"
        ) from error
    return found


def _version_2(said: Any) -> _Claims:
    if said.get("filters"):
        raise ValueError(f"filters {said['filters']}")
    compressor = said["compressor"] and str(said["compressor"]["id"])
    if compressor not in (None, *COMPRESSORS):
        raise ValueError(f"compressor {compressor}")
    return _Claims(tuple(said["shape"]), tuple(said["chunks"]), _dtype(said["dtype"]), compressor)


def _version_3(said: Any) -> _Claims:
    if said["node_type"] != "array" or said["chunk_grid"]["name"] != "regular":
        raise ValueError(f"a {said['node_type']} with another grid")
    names = [str(codec["name"]) for codec in said["codecs"]]
    inner = [name for name in names[1:] if name != "crc32c"]
    if names[:1] != ["bytes"] or len(inner) > 1 or not set(inner) <= set(COMPRESSORS) or names[1:-1].count("crc32c"):
        raise ValueError(f"the codecs {', '.join(names)}")
    chunks = tuple(said["chunk_grid"]["configuration"]["chunk_shape"])
    compressor = inner[0] if inner else None
    return _Claims(tuple(said["shape"]), chunks, _dtype(said["data_type"]), compressor, names[-1] == "crc32c")


def _dtype(said: Any) -> np.dtype[Any]:
    """A dtype by its plain name: NumPy reads more, and some of that as Python."""
    if not (isinstance(said, str) and _PLAIN_DTYPE.fullmatch(said)):
        raise ValueError(f"dtype {said}")
    return np.dtype(said)


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
    """Bytes that a chunk file says it expands to, or those it does, no further than one byte after a chunk."""
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
    """What the header of a Blosc frame says it expands to (c-blosc, README_CHUNK_FORMAT).

    The decoder believes it, and reads as many bytes of the frame as it claims, whether there are so many or not.
    """
    if len(data) < BLOSC_HEADER.size:
        raise ValueError(f"{len(data)} bytes are no Blosc frame")
    nbytes, block, packed = BLOSC_HEADER.unpack_from(data)
    if packed != len(data) or not 1 <= block <= nbytes:
        raise ValueError(f"a Blosc frame of {len(data)} bytes claims {packed} bytes in blocks of {block}")
    return int(nbytes)


def _frame_nbytes(data: bytes) -> int:
    """What the header of a Zstandard frame says it expands to (RFC 8878, section 3.1.1.1); 0 where it does not."""
    if data[:4] != b"\x28\xb5\x2f\xfd" or len(data) < 6:
        return 0
    single, kind = data[4] & 32, data[4] >> 6
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[data[4] & 3]
    width = (1 if single else 0, 2, 4, 8)[kind]
    return int.from_bytes(data[at : at + width], "little") + (256 if kind == 1 else 0)


def _buffer(data: bytes) -> Any:
    from zarr.buffer.cpu import Buffer  # noqa: PLC0415

    return Buffer.from_bytes(data)
