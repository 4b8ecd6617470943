"""Encoding of a store in Zarr, in memory: metadata documents, and the chunk files of partitions.

Zarr writes and checks the metadata; its codec library compresses and decompresses the chunks, without the copies of
Zarr's pipeline. :mod:`hfnumba.store.files` reads and writes the bytes. So a chunk is read once, its digest is checked
before it is decoded, and the recorded digest is that of the bytes in memory before writing. The files form a plain Zarr
v3 group.
"""

from __future__ import annotations

import atexit
import functools
import struct
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import StoreError
from hfnumba.linux import empty
from hfnumba.store.files import Data
from hfnumba.store.layout import SplitLayout

if TYPE_CHECKING:
    import zarr

CODECS = ("BytesCodec", "BloscCodec", "Crc32cCodec")
# A missing chunk would otherwise be read as zeros, and a chunk of zeros would not be written.
CONFIG: Any = {"write_empty_chunks": True, "read_missing_chunks": False}
_EXIT_TIMEOUT_S = 5.0
LZ4_LEVEL = 9
"""Compression level: LZ4 decompresses about equally fast at all levels, and compresses most at this one. Zstandard
makes MNIST a fifth smaller, but decompresses at half the speed."""
WORTH_PACKING = 0.8
"""Compression ratio above which a chunk is stored uncompressed; dense floats reach nine tenths and load faster so."""
BLOCK_NBYTES = 2**18
"""Bytes of a Blosc block, which stays in the cache of a core while it is decompressed and unshuffled."""
BLOSC_HEADER = struct.Struct("<4xIII")
"""Header of a Blosc frame: bytes of the decompressed data, of a block, and of the frame itself."""
_BLOSC_FORMAT = 2
_CHECKSUM_NBYTES = 4
_LZ4 = 1


class UndecodableError(StoreError):
    """Chunks or metadata that do not fit their layout; the message is only the fault, without the place."""


def metadata_keys(splits: Mapping[str, SplitLayout]) -> list[str]:
    """Relative paths of the metadata documents of a store."""
    own = [f"{name}/{key}" for name, layout in splits.items() for key in ("zarr.json", *layout.documents())]
    return ["zarr.json", *own]


def metadata(splits: Mapping[str, SplitLayout]) -> dict[str, bytes]:
    """Return the metadata documents of a store by their relative paths."""
    zarr = _zarr()
    from zarr.storage import MemoryStore  # noqa: PLC0415

    documents: dict[str, Any] = {}
    group = zarr.open_group(MemoryStore(documents), mode="w", zarr_format=3)
    for name, layout in splits.items():
        sub = group.create_group(name)
        for array, (shape, chunks, dtype) in _arrays(layout).items():
            _create(sub, array, shape, chunks, dtype)
    return {key: documents[key].to_bytes() for key in metadata_keys(splits)}


def encode(layout: SplitLayout, j: int, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Data]:
    """Encode partition ``j`` into its chunk files, by their keys relative to the split, as Zarr would write them.

    Parameters
    ----------
    layout : SplitLayout
    j : int
        Number of the partition.
    arrays : mapping of str to ndarray
        Rows of the partition in their stored dtypes, by the names of ``layout.arrays``.
    """
    found: dict[str, Data] = {}
    for array, (_, chunk, dtype) in _arrays(layout).items():
        rows = np.ascontiguousarray(arrays[array], np.dtype(dtype).newbyteorder("<"))
        # Chunks that are only padding are written too.
        keys = layout.x_keys(j) if array == "X" else [key for _, key in layout.array_keys(array, j)]
        for i, key in enumerate(keys):
            found[key] = _encode_chunk(rows[i * chunk[0] : (i + 1) * chunk[0]], chunk)
    return found


def _encode_chunk(rows: NDArray[Any], chunk: tuple[int, ...]) -> Data:
    """Encode the rows of one chunk, padded with zeros."""
    crc32c, _ = _codecs()
    whole = rows
    if len(rows) < chunk[0]:
        whole = np.zeros(chunk, rows.dtype)
        whole[: len(rows)] = rows
    return memoryview(crc32c.encode(_packed(whole, LZ4_LEVEL if _shrinks(whole) else 0)))


def _packed(rows: NDArray[Any], level: int) -> bytes:
    """Compress into a Blosc frame; at level 0 the bytes are stored as they are."""
    _, blosc = _codecs()
    frame: bytes = blosc.compress(rows, b"lz4", level, blosc.SHUFFLE, BLOCK_NBYTES)
    return frame


def _shrinks(rows: NDArray[Any]) -> bool:
    """Whether the first block of a chunk compresses well enough; uint8 is always compressed."""
    first = rows.reshape(-1)[: BLOCK_NBYTES // rows.itemsize]
    return rows.itemsize == 1 or len(_packed(first, LZ4_LEVEL)) <= WORTH_PACKING * first.nbytes


def decode(
    layout: SplitLayout, read: Callable[[str], Data], j: int, names: Collection[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Decode the rows of partition ``j`` from its chunk files into new arrays of the stored dtypes, by their names.

    Each chunk is decoded directly into its place; Zarr's pipeline would copy it twice. One chunk file is in memory at a
    time, and the padding of the last chunk stays with the rows.

    Parameters
    ----------
    layout : SplitLayout
    read : callable
        Function that returns the bytes of a chunk file by its key relative to the split; its errors pass through.
    j : int
        Number of the partition.
    names : collection of str, optional
        Names of the arrays to decode, default all.

    Raises
    ------
    UndecodableError
        If a chunk does not fit the layout.
    """
    place, stop = layout.place(j)
    found = {}
    for array, (_, chunk, dtype) in _arrays(layout).items():
        if names is not None and array not in names:
            continue
        n, keys = stop - place, list(layout.array_keys(array, j))
        room: NDArray[Any] = empty((len(keys) * chunk[0], *chunk[1:]), dtype)
        for i, (_, key) in enumerate(keys):
            _decode_chunk(read(key), key, room[i * chunk[0] : (i + 1) * chunk[0]])
        found[array] = rows = room[:n]
        if 4 * n < 3 * len(room):  # Too much padding to leave it in memory with the rows.
            found[array] = empty(rows.shape, dtype)
            found[array][...] = rows
    return found


def _decode_chunk(data: Data, key: str, room: NDArray[Any]) -> None:
    """Decode one chunk with its padding; its checksum is not needed here, because the digest was checked."""
    _, blosc = _codecs()
    _refuse_header(data, key, room.nbytes)
    try:
        blosc.decompress(memoryview(data)[:-_CHECKSUM_NBYTES], room)
    except (ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UndecodableError(f"cannot be decoded ({key}: {error})") from error


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
    if layout.weighted:
        found["weights"] = ((n_rows,), (layout.partition_rows,), "float32")
    return found


def check_documents(layout: SplitLayout, documents: Mapping[str, bytes]) -> None:
    """Check the ``zarr.json`` of each array of a split, as Zarr reads it.

    Raises
    ------
    UndecodableError
        If one does not fit the layout, or names other codecs than those of stores.
    """
    try:
        for array, expected in _arrays(layout).items():
            z = _open(array, documents)
            shape, chunks, dtype = expected
            codecs = tuple(type(codec).__name__ for codec in (*z.filters, z.serializer, *z.compressors))
            found = (z.shape, z.chunks, z.dtype, codecs)
            if found != (shape, chunks, np.dtype(dtype), CODECS):
                raise ValueError(f"the metadata of {array} do not fit the manifest: {found}")
    except (ValueError, TypeError, KeyError, RuntimeError, OSError, MemoryError) as error:
        raise UndecodableError(f"cannot be decoded ({error})") from error


def _refuse_header(data: Data, key: str, expected: int) -> None:
    """Raise if the Blosc header of a chunk does not fit its size and the size of a chunk of the layout.

    The decoder trusts the header (c-blosc, README_CHUNK_FORMAT): it reads as many bytes and allocates as large blocks
    as the header claims, and a hostile manifest could have a matching digest.
    """
    if len(data) < BLOSC_HEADER.size + _CHECKSUM_NBYTES or data[0] != _BLOSC_FORMAT or data[2] >> 5 != _LZ4:
        raise UndecodableError(f"cannot be decoded ({key} is not a Blosc frame with LZ4)")
    claimed, block, packed = BLOSC_HEADER.unpack_from(data)
    if claimed != expected:
        raise UndecodableError(f"cannot be decoded ({key} claims {claimed} bytes, expected {expected})")
    if packed != len(data) - _CHECKSUM_NBYTES or not 1 <= block <= max(BLOCK_NBYTES, expected):
        raise UndecodableError(f"cannot be decoded ({key} claims a frame of {packed} bytes in blocks of {block})")


def _create(group: zarr.Group, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> None:
    from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec  # noqa: PLC0415

    blosc = BloscCodec(
        typesize=np.dtype(dtype).itemsize, cname="lz4", clevel=LZ4_LEVEL, shuffle="shuffle", blocksize=BLOCK_NBYTES
    )
    group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        filters=None,
        serializer=BytesCodec(endian="little"),
        compressors=[blosc, Crc32cCodec()],
        fill_value=0,
        config=CONFIG,
    )


def _open(array: str, documents: Mapping[str, bytes]) -> zarr.Array[Any]:
    from zarr.buffer.cpu import Buffer  # noqa: PLC0415
    from zarr.storage import MemoryStore  # noqa: PLC0415

    key = f"{array}/zarr.json"
    store = MemoryStore({key: Buffer.from_bytes(documents[key])}, read_only=True)
    opened: zarr.Array[Any] = _zarr().open_array(store, path=array, mode="r", zarr_format=3, config=CONFIG)
    return opened


@functools.cache
def _codecs() -> tuple[Any, Any]:
    """Checksum and compression of a chunk, from the library that Zarr uses."""
    from numcodecs import blosc  # noqa: PLC0415 - slow to import
    from numcodecs.checksum32 import CRC32C  # noqa: PLC0415

    # As Zarr sets it: Blosc's own threads would hold the interpreter lock and write blocks in any order.
    blosc.use_threads = False
    return CRC32C(location="end"), blosc


@functools.cache
def _zarr() -> Any:
    """Import Zarr, and let its thread end at exit; on a busy machine its own handler fails with a traceback."""
    import zarr  # noqa: PLC0415 - slow to import
    from zarr.core import sync  # noqa: PLC0415

    def end_thread() -> None:
        if sync.loop[0] is not None and sync.iothread[0] is not None:
            sync.loop[0].call_soon_threadsafe(sync.loop[0].stop)
            sync.iothread[0].join(_EXIT_TIMEOUT_S)

    # Handlers run in reverse order, so this one runs before that of Zarr.
    atexit.register(end_thread)
    return zarr
