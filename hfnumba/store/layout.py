"""Layout of the rows of a split: partitions of whole chunks. Arithmetic only, no files.

Rows of a table fill equal partitions. Frames of speech belong to utterances, which are never divided between
partitions, so that the neighbours of a frame are in its partition. Such partitions have different numbers of rows; each
is stored at the place of an equal partition and padded to the size of the largest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

CHUNK_BYTES = 16 * 2**20
"""Largest size of a chunk of features, uncompressed; larger ones are divided."""

MAX_CHUNK_BYTES = 2**30
"""Largest chunk, uncompressed, that a header may claim; checked before memory is allocated."""

MAX_CONTEXT = 100
"""Largest number of frames on each side that are spliced to a frame."""

SPLITS = ("train", "validation", "test")
"""Names of splits, in the order of a store."""

FeatureDtype = Literal["uint8", "float32"]
LabelDtype = Literal["uint8", "uint16", "int32", "float32"]


class SplitLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Shape, dtypes and chunks of one split.

    Every partition has the same whole number of chunks of ``X`` and one chunk of ``y``, so that processes that write
    different partitions never write the same file. The last partition may be shorter.

    Attributes
    ----------
    n_rows, n_features : int
        Shape of ``X`` as stored (without the padding of frames).
    n_outputs : int or None
        Number of columns of a regression target ``y``; None for class labels, which have one dimension.
    x_dtype, y_dtype : str
        Dtypes as stored.
    chunk_rows : int
        Number of rows of a chunk of ``X``.
    partition_rows : int
        Number of rows of a full partition and of a chunk of ``y``; a multiple of ``chunk_rows``.
    partition_sizes : tuple of int or None
        For frames: number of rows of each partition. Partition j is stored from row ``j * partition_rows`` on, and
        padded with zeros to ``partition_rows``. None for rows of tables.
    context : int
        For frames: number of neighbours on each side that are spliced to a frame on loading.
    weighted : True or UNSET
        Whether the rows have weights, one chunk per partition. UNSET leaves it out of the manifest, so that stores
        without weights have the bytes of earlier versions.
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
            raise ValueError("expected a partition of whole chunks")
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
        self._check_padding()

    def _check_padding(self) -> None:
        """Refuse larger chunks than :func:`chunking` makes: reading would take memory and time for padding alone."""
        longest = self.n_rows if self.partition_sizes is None else max(self.partition_sizes)
        row_nbytes = self.n_features * (1 if self.x_dtype == "uint8" else 4)
        if self.chunk_rows > longest or self.partition_rows >= longest + self.chunk_rows:
            raise ValueError(f"expected no larger chunks and partitions than for {longest} rows")
        if (self.chunk_rows - 1) * row_nbytes > CHUNK_BYTES:
            raise ValueError(f"expected features in chunks of at most {CHUNK_BYTES} bytes, or of one row")

    @property
    def is_frames(self) -> bool:
        """Whether the rows are frames of utterances."""
        return self.partition_sizes is not None

    @property
    def width(self) -> int:
        """Number of features of a row as loaded, with its context."""
        return self.n_features * (2 * self.context + 1)

    @property
    def n_partitions(self) -> int:
        """Number of partitions, none of them empty."""
        if self.partition_sizes is not None:
            return len(self.partition_sizes)
        return -(-self.n_rows // self.partition_rows)

    @property
    def stored_rows(self) -> int:
        """Length of the arrays, with the padding of frames."""
        return self.n_rows if self.partition_sizes is None else len(self.partition_sizes) * self.partition_rows

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays: features, targets, starts of utterances (for frames), and weights (if any)."""
        return ("X", "y", *(("start",) if self.is_frames else ()), *(("weights",) if self.weighted is True else ()))

    @property
    def n_chunks(self) -> int:
        """Number of chunk files of all arrays together."""
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
        """First row of partition ``j`` in the arrays and the row after its last."""
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
        """Chunks of one array with rows of partition ``j``: the first row of each, and its key."""
        if array == "X":
            _, stop = self.place(j)
            firsts = ((i * self.chunk_rows, f"X/c/{i}/0") for i in self.x_chunks(j))
            # Chunks beyond the frames of a partition are only padding.
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
    """Return the numbers of rows of a chunk and of a partition, for about ``n_partitions`` equal partitions.

    Equal chunks cannot always fill exactly ``n_partitions``: 100 rows in 16 partitions are 7 rows each, which fill 15.
    There are never more partitions than requested, and none is empty.

    Parameters
    ----------
    n_rows : int
        Number of rows of the split.
    row_nbytes : int
        Number of bytes of a row of ``X``, uncompressed.
    n_partitions : int
        Requested number of partitions.

    Returns
    -------
    tuple of int
        Number of rows of a chunk, and of a partition.
    """
    rows = -(-n_rows // n_partitions)
    n_chunks = min(rows, max(1, math.ceil(rows * row_nbytes / CHUNK_BYTES)))
    chunk_rows = -(-rows // n_chunks)
    return chunk_rows, chunk_rows * -(-rows // chunk_rows)
