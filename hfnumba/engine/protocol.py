"""The problem that hosts evaluate, the evaluations of a round, and the engine that carries rounds to partitions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.tree import Divisors, Sums
from hfnumba.network import Network
from hfnumba.objective import RowSample

if TYPE_CHECKING:
    from hfnumba.engine.host import PartitionHost
    from hfnumba.engine.rows import RowSource

Total = Literal["weight", "rows"]
Vectors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Problem:
    """Network, rows and dtype of an objective; a host receives it once.

    Attributes
    ----------
    id : str
    network : Network
    source : RowSource
    dtype : dtype
        Dtype of theta and of all computations.
    memory : int or None
        Bytes for rows, samples and primal passes on each host; None for a share of what the host has.
    cache_rows : bool
        Whether anything stays in memory between rounds.
    companion : Companion or None
        Splits whose problems share the memory of a host with this one.
    """

    id: str
    network: Network
    source: RowSource
    dtype: np.dtype[Any]
    memory: int | None = None
    cache_rows: bool = True
    companion: Companion | None = None

    @functools.cached_property
    def mean_vector(self) -> Result:
        """The result that is a mean over the rows with an entry for each parameter."""
        return Result((self.network.n_params,), self.dtype, "weight")


class Companion(NamedTuple):
    """Rows of other problems that share a memory with one.

    Attributes
    ----------
    source : RowSource
    yields : bool
        Whether it is the other problem whose rows are read in each round where not all rows fit.
    others : tuple of RowSource
        Rows of further problems that yield.
    """

    source: RowSource
    yields: bool
    others: tuple[RowSource, ...] = ()


class Totals(NamedTuple):
    """Divisors of sums over a sample: the sum of the rows' weights, and the number of rows with a weight above 0.

    Without weights both are the number of rows.
    """

    weight: float
    rows: float


class Result(NamedTuple):
    """One array that an evaluation sums over the rows.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    divide_by : {"weight", "rows"}, tuple of these, or None
        Total that turns the sum into a mean; a tuple has one for each entry of the last axis. None leaves the sum.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    divide_by: Total | tuple[Total, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        n = self.dtype.itemsize
        for size in self.shape:
            n *= size
        return n

    def divisor(self, totals: Totals) -> Any:
        """Divisor in the result's dtype: a number, an array of one for each entry of the last axis, or None."""
        if self.divide_by is None:
            return None
        if isinstance(self.divide_by, tuple):
            return np.array([getattr(totals, name) for name in self.divide_by], self.dtype)
        return self.dtype.type(getattr(totals, self.divide_by))


class Evaluation(Protocol):
    """A function over a partition whose results are summed over the partitions.

    A pure function of its fields, of the vectors that it names, and of the partition: its bits are the same on every
    host and at any time.
    """

    @property
    def rows(self) -> RowSample | None:
        """The sample it reads; None for all rows."""
        ...

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Results by name, in the order in which a call returns them. Answers are checked by their shapes and dtypes.

        Parameters
        ----------
        problem : Problem
        vectors : mapping of str to ndarray
            Vectors of the round by their names.
        """
        ...

    def nbytes(self, problem: Problem, vectors: Vectors) -> int:
        """Bytes that a host needs for it during a round beside vectors, results and scratch memory of the passes."""
        return 0

    def prepare(self, host: PartitionHost) -> Any:
        """What the partitions share, computed once a round on each host."""
        return None

    def __call__(self, host: PartitionHost, j: int, shared: Any) -> Sums:
        """The results' sums over partition j."""
        ...


@dataclass(frozen=True)
class Round:
    """Evaluations to be answered together.

    Attributes
    ----------
    evaluations : tuple of Evaluation
    vectors : mapping of str to ndarray
        Every vector that the evaluations or later rounds may read, by a name that is never used again for another
        vector. A transport sends only those that the other side does not have, and the other side drops those
        that are not among them.
    divisors : tuple
        Divisor of each array of the sums, a number of the array's dtype or None for those that are left as they
        are: an engine divides while it has the sums in its cache. Empty: nothing is divided.
    """

    evaluations: tuple[Evaluation, ...]
    vectors: Vectors
    divisors: Divisors = ()


class Engine(Protocol):
    """Carries a round to all partitions and brings back the one reduced answer."""

    def run(self, request: Round) -> Sums:
        """Return the sums of all evaluations over all partitions, one after another, each divided by its divisor."""
        ...

    def close(self) -> None:
        """Release rows and threads, here and on the workers."""
        ...
