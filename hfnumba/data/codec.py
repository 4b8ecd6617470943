"""The Zarr side of a store, in memory: metadata documents, and partitions to and from their chunk files.

Zarr encodes and decodes; the bytes reach the disk through :mod:`hfnumba.data.files`. So a chunk is read
once, its digest is checked before anything decodes it, and what is recorded is the digest of what was meant
to be written. What lies on the disk is a plain Zarr v3 group.
"""

from __future__ import annotations

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
ZSTD_LEVEL = 1
"""Level 1 packs MNIST as small as level 3 in half the time; LZ4 was 1.5 times larger, as fast to read."""


def metadata_keys(splits: Mapping[str, SplitLayout]) -> list[str]:
    """Relative paths of the metadata documents of a store."""
    own = [f"{name}/{part}zarr.json" for name in splits for part in ("", "X/", "y/")]
    return ["zarr.json", *own]


def metadata(splits: Mapping[str, SplitLayout]) -> dict[str, bytes]:
    """Return the metadata documents of a store by their relative paths."""
    import zarr  # noqa: PLC0415 - slow to import
    from zarr.storage import MemoryStore  # noqa: PLC0415

    held: dict[str, Any] = {}
    group = zarr.open_group(MemoryStore(held), mode="w", zarr_format=3)
    for name, layout in splits.items():
        sub = group.create_group(name)
        for array, (shape, chunks, dtype) in _arrays(layout).items():
            _create(sub, array, shape, chunks, dtype)
    return {key: _bytes(held[key]) for key in metadata_keys(splits)}


def encode(
    layout: SplitLayout, documents: Mapping[str, bytes], j: int, X: NDArray[Any], y: NDArray[Any]
) -> dict[str, bytes]:
    """Encode partition ``j``: its chunk files by their keys relative to the split.

    Parameters
    ----------
    layout : SplitLayout
    documents : mapping of str to bytes
        ``X/zarr.json`` and ``y/zarr.json`` of the split.
    j : int
        The partition.
    X : ndarray, shape (rows, n_features)
    y : ndarray, shape (rows,) or (rows, n_outputs)
        The rows of the partition in their stored dtypes.
    """
    held: dict[str, Any] = {}
    start, stop = layout.bounds(j)
    for array, values in (("X", X), ("y", y)):
        _open(held, array, documents, mode="r+")[start:stop] = values
    return {key: _bytes(held[key]) for key in layout.keys(j)}


def decode(
    layout: SplitLayout, documents: Mapping[str, bytes], chunks: Mapping[str, bytes], j: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Decode the rows of partition ``j`` from its chunk files into new arrays of the stored dtypes.

    Raises
    ------
    StoreError
        If the metadata are not those of the layout or Zarr cannot decode the chunks.
    """
    start, stop = layout.bounds(j)
    held = {key: _buffer(data) for key, data in chunks.items()}
    try:
        opened = {array: _open(held, array, documents, mode="r") for array in ("X", "y")}
        _check(layout, opened)
        X, y = (np.ascontiguousarray(opened[array][start:stop]) for array in ("X", "y"))
    except (ValueError, TypeError, KeyError, RuntimeError, OSError) as error:
        raise StoreError(f"cannot be decoded ({error})") from error
    return X, y


def _arrays(layout: SplitLayout) -> dict[str, tuple[tuple[int, ...], tuple[int, ...], str]]:
    """Shape, chunk shape and dtype of ``X`` and ``y``."""
    columns = () if layout.n_outputs is None else (layout.n_outputs,)
    return {
        "X": (
            (layout.n_rows, layout.n_features),
            (layout.chunk_rows, layout.n_features),
            layout.x_dtype,
        ),
        "y": ((layout.n_rows, *columns), (layout.partition_rows, *columns), layout.y_dtype),
    }


def _check(layout: SplitLayout, opened: Mapping[str, zarr.Array[Any]]) -> None:
    """Refuse metadata that are not those of the layout, or name other codecs than stores are written with."""
    expected = _arrays(layout)
    for array, z in opened.items():
        shape, chunks, dtype = expected[array]
        codecs = tuple(type(codec).__name__ for codec in (*z.filters, z.serializer, *z.compressors))
        found = (z.shape, z.chunks, z.dtype, codecs)
        if found != (shape, chunks, np.dtype(dtype), CODECS):
            raise ValueError(f"the metadata of {array} are not those of the manifest: {found}")


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
    import zarr  # noqa: PLC0415
    from zarr.storage import MemoryStore  # noqa: PLC0415

    held[f"{array}/zarr.json"] = _buffer(documents[f"{array}/zarr.json"])
    store = MemoryStore(held, read_only=mode == "r")
    return zarr.open_array(store, path=array, mode=mode, zarr_format=3, config=CONFIG)


def _buffer(data: bytes) -> Any:
    from zarr.buffer.cpu import Buffer  # noqa: PLC0415

    return Buffer.from_bytes(data)


def _bytes(buffer: Any) -> bytes:
    data: bytes = buffer.to_bytes()
    return data
