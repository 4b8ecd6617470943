"""Training rows held out for validation: two sources that share the rows of one split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import UsageError
from hfnumba.store.split import Split


@dataclass(frozen=True, eq=False)
class SplitPart:
    """Part of the rows of a split: those that are trained on, or those that are held out for validation.

    Each row has a 64-bit number of a Philox generator, which depends on the seed and on the row's place in the split
    alone; the rows with the lowest numbers are held out. So neither workers nor partitions have a say in the choice.

    Attributes
    ----------
    split : Split
        The rows of both parts.
    name : str
        ``"train"`` or ``"validation"``.
    seed : int
    threshold : int
        Rows with a lower number are held out.
    partitions : tuple of (int, int, int)
        For each partition that has rows of this part: its number in the split, the first row of this part in it, and
        the one after its last.

    Notes
    -----
    A partition is loaded whole, and its rows of this part are copied from it.
    """

    split: Split
    name: str
    seed: int
    threshold: int
    partitions: tuple[tuple[int, int, int], ...]

    @property
    def path(self) -> str:
        """Path of the store."""
        return self.split.path

    @property
    def n_classes(self) -> int | None:
        """Number of classes; None for regression."""
        return self.split.n_classes

    @property
    def task(self) -> str:
        """Task of the split."""
        return self.split.task

    @property
    def n_outputs(self) -> int:
        """Number of classes or targets."""
        return self.split.n_outputs

    @property
    def n_rows(self) -> int:
        """Number of rows of this part."""
        return self.partitions[-1][2]

    @property
    def n_partitions(self) -> int:
        """Number of partitions that have rows of this part."""
        return len(self.partitions)

    @property
    def scale(self) -> float:
        """Features are X * scale + offset."""
        return self.split.scale

    @property
    def offset(self) -> float:
        """See ``scale``."""
        return self.split.offset

    @property
    def x_dtype(self) -> np.dtype[Any]:
        """Dtype of X."""
        return self.split.x_dtype

    @property
    def weighted(self) -> bool:
        """Whether the rows have weights."""
        return self.split.weighted

    @property
    def autoencodes(self) -> bool:
        """Whether the features are the targets too."""
        return self.split.autoencodes

    def partition_rows(self, j: int) -> tuple[int, int]:
        """First row of partition j, and the one after its last, counted in this part."""
        return self.partitions[j][1:]

    def load_compact(self, j: int) -> Mapping[str, NDArray[Any]]:
        """The rows of partition j, copied from those of the split."""
        number, taken = self._taken(j)
        return {name: array[taken] for name, array in self.split.load_compact(number).items()}

    def partition_name(self, j: int) -> str:
        """Name of partition j of this part in messages."""
        return self.split.partition_name(self.partitions[j][0])

    def load_labels(self, j: int) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Labels or targets of partition j, and weights where the split has them."""
        number, taken = self._taken(j)
        y, weights = self.split.load_labels(number)
        return y[taken], None if weights is None else weights[taken]

    def _taken(self, j: int) -> tuple[int, NDArray[np.bool_]]:
        """Number of partition j in the split, and which of its rows are of this part."""
        number = self.partitions[j][0]
        held_out = row_numbers(self.seed, *self.split.partition_rows(number)) < np.uint64(self.threshold)
        return number, held_out if self.name == "validation" else ~held_out

    def compact_nbytes(self, j: int) -> int:
        """Bytes that ``load_compact`` takes, which has the split's whole partition in memory too while it works."""
        return 2 * self.split.compact_nbytes(self.partitions[j][0])

    def expand(self, compact: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """X and y."""
        return self.split.expand(compact)


def hold_out(split: Split, fraction: float, seed: int) -> tuple[SplitPart, SplitPart]:
    """Hold out a share of the rows of a split; return the rows to train on, and those held out.

    Parameters
    ----------
    split : Split
        At least 2 rows, which are not frames.
    fraction : float
        Share of the rows to hold out, above 0 and below 1; rounded up to whole rows, but one row is left at least.
    seed : int

    Raises
    ------
    UsageError
        If the split has frames: those of one utterance are too much alike to be divided. Or if it has a single row.

    Notes
    -----
    Memory: 16 bytes for each row while it works. No rows are read.
    """
    if split.layout.is_frames:
        raise UsageError(
            f"{split.path} has frames of speech, and those of an utterance must not be divided between training and "
            "validation; build the store with `hfnumba data build … --validation 0.1`, which holds out utterances"
        )
    if split.n_rows < 2:
        raise UsageError(f"{split.path} has {split.n_rows} training row, expected at least 2 to hold one out")
    n_held_out = min(split.n_rows - 1, int(np.ceil(fraction * split.n_rows)))
    numbers = row_numbers(seed, 0, split.n_rows)
    threshold = int(np.partition(numbers, n_held_out)[n_held_out])
    held_out = numbers < np.uint64(threshold)
    counts = [int(np.count_nonzero(held_out[slice(*split.partition_rows(j))])) for j in range(split.n_partitions)]
    sizes = [stop - first for first, stop in map(split.partition_rows, range(split.n_partitions))]
    left = [size - count for size, count in zip(sizes, counts, strict=True)]
    return (
        SplitPart(split, "train", seed, threshold, _partitions(left)),
        SplitPart(split, "validation", seed, threshold, _partitions(counts)),
    )


def _partitions(counts: list[int]) -> tuple[tuple[int, int, int], ...]:
    ends = pairwise(accumulate(counts, initial=0))
    return tuple((j, first, stop) for j, (first, stop) in enumerate(ends) if first < stop)


def row_numbers(seed: int, start: int, stop: int) -> NDArray[np.uint64]:
    """Random 64-bit numbers of the rows start … stop - 1 of a split, which depend on the seed and the row alone.

    They are the raw stream of a Philox generator, which can begin anywhere, and is the same in all versions of NumPy.
    """
    generator = np.random.Philox(np.random.SeedSequence(seed, spawn_key=tuple(b"validation")))
    # Each step of its counter gives four numbers.
    generator.advance(start // 4)
    first = start // 4 * 4
    return generator.random_raw(stop - first)[start - first :]
