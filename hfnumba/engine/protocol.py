"""What a round is made of, and what may carry one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from hfnumba.engine.tree import Sums

if TYPE_CHECKING:
    from hfnumba.engine.host import PartitionHost


class Source(Protocol):
    """Where the rows of the partitions come from: arrays in memory, or a split of a store."""

    @property
    def n_rows(self) -> int:
        """Rows in total."""
        ...

    @property
    def n_partitions(self) -> int:
        """Partitions; the unit of parallel work and of summation order."""
        ...

    @property
    def scale(self) -> float:
        """Features are X * scale + offset."""
        ...

    @property
    def offset(self) -> float:
        """See ``scale``."""
        ...

    def partition_rows(self, j: int) -> tuple[int, int]:
        """First row of partition j, and the one after its last."""
        ...

    def load(self, j: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """X (rows, n_features) in its stored dtype, and y."""
        ...


class Evaluation(Protocol):
    """A function over a partition whose results are summed over the partitions.

    A pure function of its fields, the vectors it names, and the partition: whoever computes it, whenever, gets the
    same bits. ``vectors`` are the names it needs; ``prepare`` is called once a round, and its result handed to every
    call on a partition.
    """

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors it reads."""
        ...

    def prepare(self, host: PartitionHost) -> Any:
        """What the partitions share."""
        ...

    def __call__(self, host: PartitionHost, j: int, shared: Any) -> Sums:
        """The sums over partition j."""
        ...


@dataclass(frozen=True)
class Round:
    """A request: evaluations to be answered together.

    Attributes
    ----------
    evaluations : tuple of Evaluation
    vectors : mapping of str to ndarray
        Every vector that the evaluations or later rounds may read, by a name that is never used again for another
        vector. A transport sends only those that the other side does not have, and the other side forgets those
        that are not among them.
    """

    evaluations: tuple[Evaluation, ...]
    vectors: Mapping[str, NDArray[Any]]


class Engine(Protocol):
    """Carries a round to all partitions and brings back the one reduced answer."""

    def run(self, request: Round) -> Sums:
        """The sums of all evaluations over all partitions, one after another."""
        ...

    def close(self) -> None:
        """Let go of whatever the workers hold."""
        ...
