"""Class weights as row weights: a source whose rows are weighted by their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.held_out import SplitPart
from hfnumba.engine.rows import RowSource
from hfnumba.errors import UsageError
from hfnumba.store.class_weights import checked_class_weights

if TYPE_CHECKING:
    from hfnumba.store import Split

_ITEMSIZE = 8


@dataclass(frozen=True, eq=False)
class ClassWeighted:
    """The rows of another source, each with the weight of its class, times its own if it has one.

    These are row weights to everything else, computed with each partition that is loaded.

    Attributes
    ----------
    source : RowSource
        Source whose ``y`` are labels.
    class_weights : tuple of float
        By class number.
    """

    source: RowSource
    class_weights: tuple[float, ...]

    @property
    def n_rows(self) -> int:
        """Number of rows of the wrapped source."""
        return self.source.n_rows

    @property
    def n_partitions(self) -> int:
        """Number of partitions of the wrapped source."""
        return self.source.n_partitions

    @property
    def scale(self) -> float:
        """Features are X * scale + offset."""
        return self.source.scale

    @property
    def offset(self) -> float:
        """See ``scale``."""
        return self.source.offset

    @property
    def x_dtype(self) -> np.dtype[Any]:
        """Dtype of X."""
        return self.source.x_dtype

    @property
    def weighted(self) -> bool:
        """Always True."""
        return True

    @property
    def autoencodes(self) -> bool:
        """Always False: there are classes."""
        return False

    def partition_rows(self, j: int) -> tuple[int, int]:
        """First row of partition j, and the one after its last."""
        return self.source.partition_rows(j)

    def load_compact(self, j: int) -> Mapping[str, NDArray[Any]]:
        """What the source loads, with other weights."""
        compact = self.source.load_compact(j)
        weights = np.array(self.class_weights)[compact["y"]]
        if self.source.weighted:
            weights *= compact["weights"]
        return {**compact, "weights": weights}

    def compact_nbytes(self, j: int) -> int:
        """Bytes that ``load_compact`` takes, which has the source's weights in memory too while it works."""
        first, stop = self.partition_rows(j)
        return self.source.compact_nbytes(j) + (stop - first) * _ITEMSIZE

    def expand(self, compact: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """X and y."""
        return self.source.expand(compact)


def with_class_weights(split: Split | SplitPart, class_weights: Sequence[float] | None) -> RowSource:
    """The split, or its rows weighted by their classes.

    Raises
    ------
    UsageError
        If the split has no classes, or the weights do not fit them.
    """
    if class_weights is None:
        return split
    if split.n_classes is None:
        raise UsageError(f"class weights need classes, but {split.path} is for {split.task}; give its rows weights")
    return ClassWeighted(split, checked_class_weights(class_weights, split.n_classes))
