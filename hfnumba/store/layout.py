"""Where the rows of a split lie: partitions of whole chunks. Arithmetic only, no files.

The rows of a table fill equal partitions. The frames of speech come in utterances, which no partition divides, so
that each frame's neighbours are at hand; each partition then has rows of its own number, and lies at the place of an
equal partition that the largest one fills.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

CHUNK_BYTES = 16 * 2**20
"""A chunk of features is split further when it would hold more bytes than this, uncompressed."""

MAX_CHUNK_BYTES = 2**30
"""A header that claims a larger chunk, uncompressed, is refused before memory is taken for it."""

MAX_CONTEXT = 100
"""Frames on each side that may be spliced to a frame."""

SPLITS = ("train", "validation", "test")
"""Names a split may have; the position is part of the key of its shuffle."""

FeatureDtype = Literal["uint8", "float32"]
LabelDtype = Literal["uint8", "uint16", "int32", "float32"]


class SplitLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Shape, dtype and chunks of one split.

    Every partition holds the same whole number of chunks of ``X`` and one chunk of ``y``, so that two
    processes that write two partitions never touch the same file. The last partition may be shorter.

    Attributes
    ----------
    n_rows, n_features : int
        Shape of ``X`` as stored (without the padding of frames).
    n_outputs : int or None
        Columns of a regression target ``y``; None for class labels, where ``y`` has one dimension.
    x_dtype, y_dtype : str
        Dtypes as stored.
    chunk_rows : int
        Rows of a chunk of ``X``.
    partition_rows : int
        Rows of a full partition and of a chunk of ``y``; a multiple of ``chunk_rows``.
    partition_sizes : tuple of int or None
        For frames: rows of each partition. Partition j is stored from row ``j * partition_rows`` on, and padded with
        zeros to ``partition_rows``. None for rows that do not belong together.
    context : int
        For frames: how many neighbours on each side are spliced to a frame on loading.
    weighted : True or UNSET
        Whether the rows have weights, one chunk a partition. UNSET leaves it out of the manifest, so that stores
        without weights are what they were before there were any.
    """

    n_rows: int
    n_features: int
    n_outputs: int | None
    x_dtype: FeatureDtype
    y_dtype: LabelDtype
    chunk_rows: int
    partition_rows: int
    partition_sizes: tuple[int, ...] | None = None
    context: int = 0
    weighted: Literal[True] | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        sizes = [self.n_rows, self.n_features, self.chunk_rows, self.partition_rows]
        sizes += [] if self.n_outputs is None else [self.n_outputs]
        if min(sizes) < 1:
            raise ValueError("expected every size of a split to be at least 1")
        if self.partition_rows % self.chunk_rows:
            raise ValueError("expected a partition to hold whole chunks")
        x_nbytes = self.chunk_rows * self.n_features * (1 if self.x_dtype == "uint8" else 4)
        if max(x_nbytes, self.partition_rows * (self.n_outputs or 1) * 4) > MAX_CHUNK_BYTES:
            raise ValueError(f"expected chunks of at most {MAX_CHUNK_BYTES} bytes; ask for more partitions")
        if self.partition_sizes is None:
            if self.context:
                raise ValueError("expected context for frames only")
        elif (
            min(self.partition_sizes, default=0) < 1
            or max(self.partition_sizes) > self.partition_rows
            or sum(self.partition_sizes) != self.n_rows
        ):
            raise ValueError("expected partitions of 1 to partition_rows frames, n_rows in all")
        if not 0 <= self.context <= MAX_CONTEXT:
            raise ValueError(f"expected a context of 0 to {MAX_CONTEXT} frames")

    @property
    def is_frames(self) -> bool:
        """Whether the rows are frames in utterances."""
        return self.partition_sizes is not None

    @property
    def width(self) -> int:
        """Features of a row as loaded, with its context."""
        return self.n_features * (2 * self.context + 1)

    @property
    def n_partitions(self) -> int:
        """Partitions that hold rows."""
        if self.partition_sizes is not None:
            return len(self.partition_sizes)
        return -(-self.n_rows // self.partition_rows)

    @property
    def stored_rows(self) -> int:
        """Length of the arrays, with the padding of frames."""
        return self.n_rows if self.partition_sizes is None else len(self.partition_sizes) * self.partition_rows

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays: features, targets, for frames whether an utterance starts there, and any weights."""
        return ("X", "y", *(("start",) if self.is_frames else ()), *(("weights",) if self.weighted is True else ()))

    @property
    def n_chunks(self) -> int:
        """Chunk files of all arrays together."""
        return -(-self.stored_rows // self.chunk_rows) + self.n_partitions * (len(self.arrays) - 1)

    def bounds(self, j: int) -> tuple[int, int]:
        """First row of partition ``j`` and the row after its last."""
        if not 0 <= j < self.n_partitions:
            raise IndexError(f"expected a partition from 0 to {self.n_partitions - 1}, got {j}")
        if self.partition_sizes is not None:
            start = sum(self.partition_sizes[:j])
            return start, start + self.partition_sizes[j]
        start = j * self.partition_rows
        return start, min(start + self.partition_rows, self.n_rows)

    def place(self, j: int) -> tuple[int, int]:
        """Where the rows of partition ``j`` lie in the arrays: first and after the last."""
        start, stop = self.bounds(j)
        return j * self.partition_rows, j * self.partition_rows + stop - start

    def x_chunks(self, j: int) -> range:
        """Numbers of the chunks of ``X`` in partition ``j``."""
        start, stop = self.place(j)
        stop = start + self.partition_rows if self.is_frames else stop
        return range(start // self.chunk_rows, -(-stop // self.chunk_rows))

    def x_keys(self, j: int) -> list[str]:
        """Keys of the chunks of ``X`` in partition ``j``, relative to the split."""
        return [f"X/c/{i}/0" for i in self.x_chunks(j)]

    def y_key(self, j: int) -> str:
        """Key of the chunk of ``y`` in partition ``j``, relative to the split."""
        return f"y/c/{j}" if self.n_outputs is None else f"y/c/{j}/0"

    def array_keys(self, array: str, j: int) -> list[tuple[int, str]]:
        """Chunks of one array that hold rows of partition ``j``: the row each begins with, and its key."""
        if array == "X":
            _, stop = self.place(j)
            firsts = ((i * self.chunk_rows, f"X/c/{i}/0") for i in self.x_chunks(j))
            # Beyond the frames of a partition chunks are all padding.
            return [(first, key) for first, key in firsts if first < stop]
        return [(j * self.partition_rows, self.y_key(j) if array == "y" else f"{array}/c/{j}")]

    def keys(self, j: int) -> list[str]:
        """Keys of all chunks of partition ``j``, relative to the split."""
        return [*self.x_keys(j), self.y_key(j), *(f"{array}/c/{j}" for array in self.arrays[2:])]

    def documents(self) -> list[str]:
        """Keys of the metadata documents of the arrays, relative to the split."""
        return [f"{array}/zarr.json" for array in self.arrays]

    def all_keys(self) -> Iterator[str]:
        """Keys of all chunks of the split, in the order of the partitions."""
        for j in range(self.n_partitions):
            yield from self.keys(j)


def chunking(n_rows: int, row_nbytes: int, n_partitions: int) -> tuple[int, int]:
    """Rows of a chunk and rows of a partition for about ``n_partitions`` equal partitions.

    Equal chunks cannot always fill exactly ``n_partitions``: 100 rows in 16 partitions are 7 rows each,
    which fill 15. There are never more partitions than asked for, and none is empty.

    Parameters
    ----------
    n_rows : int
        Rows of the split.
    row_nbytes : int
        Bytes of a row of ``X``, uncompressed.
    n_partitions : int
        Partitions asked for.

    Returns
    -------
    chunk_rows, partition_rows : int
    """
    rows = -(-n_rows // n_partitions)
    n_chunks = min(rows, max(1, math.ceil(rows * row_nbytes / CHUNK_BYTES)))
    chunk_rows = -(-rows // n_chunks)
    return chunk_rows, chunk_rows * -(-rows // chunk_rows)
