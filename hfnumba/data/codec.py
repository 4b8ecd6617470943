"""The Zarr side of a store, in memory: metadata documents, and partitions to and from their chunk files.

Zarr encodes and decodes; the bytes reach the disk through :mod:`hfnumba.data.files`. So a chunk is read
once, its digest is checked before anything decodes it, and what is recorded is the digest of what was meant
to be written. What lies on the disk is a plain Zarr v3 group.
"""

from __future__ import annotations

import atexit
import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.data.arrays import empty
from hfnumba.data.files import Data
from hfnumba.data.layout import SplitLayout
from hfnumba.errors import StoreError

if TYPE_CHECKING:
    import zarr

CODECS = ("BytesCodec", "ZstdCodec", "Crc32cCodec")
# A missing chunk would otherwise be read as zeros, and a chunk of zeros would not be written.
CONFIG: Any = {"write_empty_chunks": True, "read_missing_chunks": False}
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_EXIT_TIMEOUT_S = 5.0
ZSTD_LEVEL = -1
"""MNIST is packed 10 % larger than at level 1, and read a quarter faster; dense float32 hardly packs at any level."""


class UndecodableError(StoreError):
    """Chunks or metadata that are not what their layout says; the message is the fault alone."""


def metadata_keys(splits: Mapping[str, SplitLayout]) -> list[str]:
    """Relative paths of the metadata documents of a store."""
    own = [f"{name}/{key}" for name, layout in splits.items() for key in ("zarr.json", *layout.documents())]
    return ["zarr.json", *own]


def metadata(splits: Mapping[str, SplitLayout]) -> dict[str, bytes]:
    """Return the metadata documents of a store by their relative paths."""
    zarr = _zarr()
    from zarr.storage import MemoryStore  # noqa: PLC0415

    held: dict[str, Any] = {}
    group = zarr.open_group(MemoryStore(held), mode="w", zarr_format=3)
    for name, layout in splits.items():
        sub = group.create_group(name)
        for array, (shape, chunks, dtype) in _arrays(layout).items():
            _create(sub, array, shape, chunks, dtype)
    return {key: _bytes(held[key]) for key in metadata_keys(splits)}


def encode(
    layout: SplitLayout, documents: Mapping[str, bytes], j: int, arrays: Mapping[str, NDArray[Any]]
) -> dict[str, bytes]:
    """Encode partition ``j``: its chunk files by their keys relative to the split.

    Parameters
    ----------
    layout : SplitLayout
    documents : mapping of str to bytes
        The ``zarr.json`` of each array of the split.
    j : int
        The partition.
    arrays : mapping of str to ndarray
        The rows of the partition in their stored dtypes, by the names of ``layout.arrays``.
    """
    held: dict[str, Any] = {}
    start, stop = layout.place(j)
    for array in layout.arrays:
        values = arrays[array]
        if layout.is_frames:
            # The padding is written too: a chunk that is only padding is a file like any other.
            stop = start + layout.partition_rows
            values = np.zeros((layout.partition_rows, *values.shape[1:]), values.dtype)
            values[: len(arrays[array])] = arrays[array]
        _open(held, array, documents, mode="r+")[start:stop] = values
    return {key: _bytes(held[key]) for key in layout.keys(j)}


def decode(
    layout: SplitLayout, documents: Mapping[str, bytes], read: Callable[[str], Data], j: int
) -> dict[str, NDArray[Any]]:
    """Decode the rows of partition ``j`` from its chunk files into new arrays of the stored dtypes, by their names.

    Zarr checks the metadata; its own codec library then writes each chunk straight into its place, where Zarr's
    pipeline would copy it twice. One chunk's file is in memory at a time.

    Parameters
    ----------
    layout : SplitLayout
    documents : mapping of str to bytes
        The ``zarr.json`` of each array of the split.
    read : callable
        Returns the bytes of a chunk file by its key relative to the split; its errors pass through.
    j : int
        The partition.

    Raises
    ------
    UndecodableError
        If the metadata are not those of the layout or a chunk does not hold what they say.
    """
    _check_documents(layout, tuple(documents.items()))
    place, stop = layout.place(j)
    found = {}
    for array, (_, chunk, dtype) in _arrays(layout).items():
        rows: NDArray[Any] = empty((stop - place, *chunk[1:]), dtype)
        for first, key in layout.array_keys(array, j):
            data = read(key)
            _refuse_size(math.prod(chunk) * rows.itemsize, key, data)
            _decode_chunk(data, key, chunk, rows[first - place :])
        found[array] = rows
    return found


def _decode_chunk(data: Data, key: str, chunk: tuple[int, ...], rows: NDArray[Any]) -> None:
    """Decode one chunk into the first of the rows; what it holds beyond them is padding."""
    crc32c, zstd = _codecs()
    n = chunk[0]
    whole = rows[:n] if len(rows) >= n else empty(chunk, rows.dtype)
    try:
        zstd.decompress(crc32c.decode(data), whole)
    except (ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UndecodableError(f"cannot be decoded ({key}: {error})") from error
    if len(rows) < n:
        rows[...] = whole[: len(rows)]


def _arrays(layout: SplitLayout) -> dict[str, tuple[tuple[int, ...], tuple[int, ...], str]]:
    """Shape, chunk shape and dtype of each array."""
    columns = () if layout.n_outputs is None else (layout.n_outputs,)
    n_rows = layout.stored_rows
    found: dict[str, tuple[tuple[int, ...], tuple[int, ...], str]] = {
        "X": (
            (n_rows, layout.n_features),
            (layout.chunk_rows, layout.n_features),
            layout.x_dtype,
        ),
        "y": ((n_rows, *columns), (layout.partition_rows, *columns), layout.y_dtype),
    }
    if layout.is_frames:
        found["start"] = ((n_rows,), (layout.partition_rows,), "uint8")
    return found


@functools.lru_cache(maxsize=16)
def _check_documents(layout: SplitLayout, documents: tuple[tuple[str, bytes], ...]) -> None:
    """Refuse metadata that are not those of the layout, or name other codecs than stores are written with."""
    try:
        for array, expected in _arrays(layout).items():
            z = _open({}, array, dict(documents), mode="r")
            shape, chunks, dtype = expected
            codecs = tuple(type(codec).__name__ for codec in (*z.filters, z.serializer, *z.compressors))
            found = (z.shape, z.chunks, z.dtype, codecs)
            if found != (shape, chunks, np.dtype(dtype), CODECS):
                raise ValueError(f"the metadata of {array} are not those of the manifest: {found}")
    except (ValueError, TypeError, KeyError, RuntimeError, OSError, MemoryError) as error:
        raise UndecodableError(f"cannot be decoded ({error})") from error


def _refuse_size(expected: int, key: str, data: Data) -> None:
    """Refuse a chunk whose Zstandard frame does not say that it holds the bytes that a chunk of the layout holds.

    The decoder takes as much memory as the frame's header claims (RFC 8878, section 3.1.1.1), whatever the manifest
    says of its digest.
    """
    if data[:4] != ZSTD_MAGIC or len(data) < 6:
        raise UndecodableError(f"cannot be decoded ({key} is no Zstandard frame)")
    single, kind = data[4] & 32, data[4] >> 6
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[data[4] & 3]
    width = (1 if single else 0, 2, 4, 8)[kind]
    claimed = int.from_bytes(data[at : at + width], "little") + (256 if kind == 1 else 0)
    if not width or claimed != expected:
        raise UndecodableError(f"cannot be decoded ({key} claims {claimed} bytes, expected {expected})")


def _create(group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> None:
    from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec  # noqa: PLC0415

    group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        filters=None,
        serializer=BytesCodec(endian="little"),
        compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
        fill_value=0,
        config=CONFIG,
    )


def _open(held: dict[str, Any], array: str, documents: Mapping[str, bytes], mode: Any) -> zarr.Array[Any]:
    from zarr.storage import MemoryStore  # noqa: PLC0415

    held[f"{array}/zarr.json"] = _buffer(documents[f"{array}/zarr.json"])
    store = MemoryStore(held, read_only=mode == "r")
    opened: zarr.Array[Any] = _zarr().open_array(store, path=array, mode=mode, zarr_format=3, config=CONFIG)
    return opened


@functools.cache
def _codecs() -> tuple[Any, Any]:
    """The checksum and the compression of a chunk, from the library that Zarr takes them from."""
    from numcodecs import zstd  # noqa: PLC0415 - slow to import
    from numcodecs.checksum32 import CRC32C  # noqa: PLC0415

    return CRC32C(location="end"), zstd


@functools.cache
def _zarr() -> Any:
    """Zarr, whose thread is given time to end at exit: on a busy machine its own handler gives up with a traceback."""
    import zarr  # noqa: PLC0415 - slow to import
    from zarr.core import sync  # noqa: PLC0415

    def end_thread() -> None:
        if sync.loop[0] is not None and sync.iothread[0] is not None:
            sync.loop[0].call_soon_threadsafe(sync.loop[0].stop)
            sync.iothread[0].join(_EXIT_TIMEOUT_S)

    # Handlers run in reverse, so this one comes before Zarr's.
    atexit.register(end_thread)
    return zarr


def _buffer(data: bytes) -> Any:
    from zarr.buffer.cpu import Buffer  # noqa: PLC0415

    return Buffer.from_bytes(data)


def _bytes(buffer: Any) -> bytes:
    data: bytes = buffer.to_bytes()
    return data
