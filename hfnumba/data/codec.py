"""The Zarr side of a store, in memory: metadata documents, and partitions to and from their chunk files.

Zarr encodes and decodes; the bytes reach the disk through :mod:`hfnumba.data.files`. So a chunk is read
once, its digest is checked before anything decodes it, and what is recorded is the digest of what was meant
to be written. What lies on the disk is a plain Zarr v3 group.
"""

from __future__ import annotations

import atexit
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.data.layout import SplitLayout
from hfnumba.errors import StoreError

if TYPE_CHECKING:
    import zarr

CODECS = ("BytesCodec", "ZstdCodec", "Crc32cCodec")
# A missing chunk would otherwise be read as zeros, and a chunk of zeros would not be written.
CONFIG: Any = {"write_empty_chunks": True, "read_missing_chunks": False}
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_EXIT_TIMEOUT_S = 5.0
ZSTD_LEVEL = 1
"""Level 1 packs MNIST as small as level 3 in half the time; LZ4 was 1.5 times larger, as fast to read."""


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
    layout: SplitLayout, documents: Mapping[str, bytes], chunks: Mapping[str, bytes], j: int
) -> dict[str, NDArray[Any]]:
    """Decode the rows of partition ``j`` from its chunk files into new arrays of the stored dtypes, by their names.

    Raises
    ------
    StoreError
        If the metadata are not those of the layout or Zarr cannot decode the chunks.
    """
    start, stop = layout.place(j)
    for key, data in chunks.items():
        _refuse_size(layout, key, data)
    held = {key: _buffer(data) for key, data in chunks.items()}
    try:
        opened = {array: _open(held, array, documents, mode="r") for array in layout.arrays}
        _check(layout, opened)
        return {array: np.ascontiguousarray(z[start:stop]) for array, z in opened.items()}
    except (ValueError, TypeError, KeyError, RuntimeError, OSError, MemoryError) as error:
        raise StoreError(f"cannot be decoded ({error})") from error


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


def _check(layout: SplitLayout, opened: Mapping[str, zarr.Array[Any]]) -> None:
    """Refuse metadata that are not those of the layout, or name other codecs than stores are written with."""
    expected = _arrays(layout)
    for array, z in opened.items():
        shape, chunks, dtype = expected[array]
        codecs = tuple(type(codec).__name__ for codec in (*z.filters, z.serializer, *z.compressors))
        found = (z.shape, z.chunks, z.dtype, codecs)
        if found != (shape, chunks, np.dtype(dtype), CODECS):
            raise ValueError(f"the metadata of {array} are not those of the manifest: {found}")


def _refuse_size(layout: SplitLayout, key: str, data: bytes) -> None:
    """Refuse a chunk whose Zstandard frame does not say that it holds what a chunk of the layout holds.

    The decoder takes as much memory as the frame's header claims (RFC 8878, section 3.1.1.1), whatever the manifest
    says of its digest.
    """
    _, chunk, dtype = _arrays(layout)[key.partition("/")[0]]
    expected = math.prod(chunk) * np.dtype(dtype).itemsize
    if data[:4] != ZSTD_MAGIC or len(data) < 6:
        raise StoreError(f"cannot be decoded ({key} is no Zstandard frame)")
    single, kind = data[4] & 32, data[4] >> 6
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[data[4] & 3]
    width = (1 if single else 0, 2, 4, 8)[kind]
    claimed = int.from_bytes(data[at : at + width], "little") + (256 if kind == 1 else 0)
    if not width or claimed != expected:
        raise StoreError(f"cannot be decoded ({key} claims {claimed} bytes, expected {expected})")


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
