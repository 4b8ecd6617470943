"""The objective over any engine, and its three constructors: arrays, a split in this process, a split on a cluster."""

from __future__ import annotations

import uuid
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from hfnumba.engine.evaluations import Along, Gradient, Loss, Product
from hfnumba.engine.host import Job
from hfnumba.engine.protocol import Engine, Evaluation, Round, Source
from hfnumba.engine.rows import ArraySource, as_rows
from hfnumba.engine.serial import SerialEngine
from hfnumba.engine.tree import Sums
from hfnumba.engine.vectors import VectorTable
from hfnumba.errors import UsageError
from hfnumba.krylov.operator import FunctionOperator
from hfnumba.network import Network
from hfnumba.objective import Counters, RowSample, Vector

if TYPE_CHECKING:
    from distributed import Client

    from hfnumba.data import Split


class RoundLinearization:
    """What is known of f at one theta; see :class:`hfnumba.objective.Linearization`.

    The workers keep the primal pass on the curvature sample as long as this object (or an operator of it) lives:
    2 (n_1 + … + n_L) numbers a row.
    """

    def __init__(
        self,
        objective: RoundObjective,
        name: str,
        sample: RowSample | None,
        known: tuple[float, float, Vector],
    ) -> None:
        self.theta = objective.vectors.live[name]
        self.value, self.error, self.gradient = known
        self._objective, self._name, self._sample = objective, name, sample
        weakref.finalize(self, objective.vectors.release, name)

    def hessian(self) -> FunctionOperator:
        """The exact Hessian on the curvature sample. A product: one round, 6 GEMMs a layer (2 for the first)."""
        return self._operator(exact=True)

    def gauss_newton(self) -> FunctionOperator:
        """The Gauss-Newton matrix J'QJ (Schraudolph 2002) on the curvature sample, positive semi-definite.

        A product costs one round and 4 GEMMs a layer (2 for the first).
        """
        return self._operator(exact=False)

    def _operator(self, exact: bool) -> FunctionOperator:
        def matvec(v: Vector) -> Vector:
            return self._objective.product(self._name, v, exact, self._sample)

        return FunctionOperator(self._objective.n_params, matvec, self._objective.dtype)


class RoundObjective:
    """F over the partitions of an engine; see :class:`hfnumba.objective.Objective`.

    Not to be used from several threads at once.

    Parameters
    ----------
    network : Network
    engine : Engine
    n_rows : int
        Rows of all partitions.
    l2 : float
        f has the penalty l2/2 · ‖weights‖² (biases are not penalised).
    dtype : dtype
        Of theta and all vectors.

    Attributes
    ----------
    counters : Counters
        Rounds, bytes and rows so far. Bytes are those of one worker: each new vector once, and the reduced answer
        of each round; so they do not depend on the number of workers.

    Notes
    -----
    Peak memory of an evaluation, beside the rows, on a host of T threads and P partitions: a scratch block a thread,
    for a gradient or product T + log2 P + 3 n-vectors, for losses 2. ``linearize`` on all rows, and the first product
    on a sample, leave 2 (n_1 + … + n_L) numbers a row behind; where these would take more than 40 % of memory they
    are recomputed with each product instead. ``values_along`` takes two vectors without the first layer's weights
    for each pair of direction and step length.
    """

    def __init__(self, network: Network, engine: Engine, n_rows: int, l2: float, dtype: np.dtype[Any]) -> None:
        if not 0 <= l2 < np.inf:
            raise UsageError(f"l2 must be a number of at least 0, got {l2}")
        self.network, self.l2, self.dtype = network, l2, dtype
        self.counters = Counters()
        self.vectors = VectorTable()
        self._engine, self._n_rows = engine, n_rows

    @property
    def n_params(self) -> int:
        """Length of theta."""
        return self.network.n_params

    @property
    def n_rows(self) -> int:
        """Rows over which the mean runs."""
        return self._n_rows

    def value(self, theta: Vector) -> float:
        """F at theta over all rows. One round."""
        return self.value_and_error(theta)[0]

    def value_and_error(self, theta: Vector) -> tuple[float, float]:
        """F and the error rate at theta over all rows. One round; no vector comes back."""
        theta = self._checked(theta)
        with self.vectors.holding(theta) as name:
            (sums,) = self._run(Loss(name), None)
        loss, error = (sums / self._n_rows).tolist()
        return loss + self._penalty(theta), error

    def value_and_gradient(self, theta: Vector, rows: RowSample | None = None) -> tuple[float, Vector]:
        """F and its gradient (n_params,), over all rows or over a sample. One round."""
        with self.vectors.holding(self._checked(theta)) as name:
            value, _, gradient = self._gradient(Gradient(name, self._sample(rows)))
        return value, gradient

    def linearize(self, theta: Vector, curvature_rows: int | RowSample | None = None) -> RoundLinearization:
        """Value and gradient over all rows, and the curvature operators on a sample (all rows if None). One round.

        The primal pass on a sample is computed with the first product; on all rows it comes with the gradient.
        """
        sample = self._sample(RowSample(curvature_rows) if isinstance(curvature_rows, int) else curvature_rows)
        name = self.vectors.hold(self._checked(theta))
        try:
            known = self._gradient(Gradient(name, keep=sample is None))
        except BaseException:
            self.vectors.release(name)
            raise
        return RoundLinearization(self, name, sample, known)

    def values_along(
        self, theta: Vector, directions: ArrayLike, alphas: ArrayLike, rows: RowSample | None = None
    ) -> NDArray[np.float64]:
        """F at theta + alpha·d for every direction and step length, float64 (n_directions, n_alphas). One round.

        The rows are read once; the first layer costs two products for all step lengths of a direction. A host holds
        n_directions · n_alphas vectors without the first layer's weights meanwhile.
        """
        lines = np.atleast_2d(np.array(directions, self.dtype))
        steps = np.atleast_1d(np.asarray(alphas, np.float64))
        if lines.ndim != 2 or lines.shape[1] != self.n_params or steps.ndim != 1:
            raise UsageError(
                f"expected directions of shape (n, {self.n_params}) and alphas of shape (m,), "
                f"got {lines.shape} and {steps.shape}"
            )
        theta, rows = self._checked(theta), self._sample(rows)
        with self.vectors.holding(theta) as name, self.vectors.holding(lines.ravel()) as line_name:
            (sums,) = self._run(Along(name, line_name, tuple(steps.tolist()), rows), rows)
        values: NDArray[np.float64] = sums / self._count(rows) + self._penalties_along(theta, lines, steps)
        return values

    def product(self, name: str, v: Vector, exact: bool, sample: RowSample | None) -> Vector:
        """The (exact or Gauss-Newton) curvature at the theta of that name times v, on a sample. One round."""
        v = self._checked(v)
        with self.vectors.holding(v) as v_name:
            (out,) = self._run(Product(name, v_name, exact, sample), sample)
        out /= self.dtype.type(self._count(sample))
        if self.l2:
            out += self.dtype.type(self.l2) * self.network.weights_only(v)
        return out

    def close(self) -> None:
        """Let go of rows and threads, here and on the workers."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _gradient(self, evaluation: Gradient) -> tuple[float, float, Vector]:
        sums, gradient = self._run(evaluation, evaluation.rows)
        n, theta = self._count(evaluation.rows), self.vectors.live[evaluation.theta]
        gradient /= self.dtype.type(n)
        if self.l2:
            gradient += self.dtype.type(self.l2) * self.network.weights_only(theta)
        return float(sums[0]) / n + self._penalty(theta), float(sums[1]) / n, gradient

    def _run(self, evaluation: Evaluation, rows: RowSample | None) -> Sums:
        """One round, counted: a broadcast of what is new, and one reduced answer."""
        sums = self._engine.run(Round((evaluation,), dict(self.vectors.live)))
        self.counters.rounds += 1
        self.counters.row_reads += self._count(rows)
        self.counters.nbytes += self.vectors.take_nbytes() + sum(array.nbytes for array in sums)
        return sums

    def _count(self, rows: RowSample | None) -> int:
        return self._n_rows if rows is None else rows.n_rows

    def _checked(self, vector: Vector) -> Vector:
        """A private copy in our dtype: what the workers have must not change under us."""
        copy = np.array(vector, self.dtype)
        if copy.shape != (self.n_params,):
            raise UsageError(f"expected a vector of shape ({self.n_params},) for this network, got {copy.shape}")
        return copy

    def _sample(self, rows: RowSample | None) -> RowSample | None:
        """A sample of as many rows as there are, or more, means all of them."""
        if rows is not None and rows.n_rows < 1:
            raise UsageError(f"a sample must have at least one row, got {rows.n_rows}")
        return None if rows is None or rows.n_rows >= self._n_rows else rows

    def _penalty(self, theta: Vector) -> float:
        if not self.l2:
            return 0.0
        weights = self.network.weights_only(theta).astype(np.float64)
        return 0.5 * self.l2 * float(weights @ weights)

    def _penalties_along(self, theta: Vector, directions: Vector, alphas: NDArray[np.float64]) -> Any:
        """l2/2 · ‖w + alpha d‖², expanded so that each direction is read once."""
        if not self.l2:
            return 0.0
        w = self.network.weights_only(theta).astype(np.float64)
        d = np.stack([self.network.weights_only(line) for line in directions]).astype(np.float64)
        linear, square = d @ w, np.einsum("ij,ij->i", d, d)
        return 0.5 * self.l2 * (w @ w + 2 * np.outer(linear, alphas) + np.outer(square, alphas**2))


def _job(network: Network, source: Source, dtype: DTypeLike) -> Job:
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise UsageError(f"dtype must be float32 or float64, got {kind}")
    return Job(uuid.uuid4().hex, network, source, kind)


class ArrayObjective(RoundObjective):
    """F over arrays in memory, evaluated on threads of this process. No Dask.

    Parameters
    ----------
    network : Network
    X : array_like, shape (n_rows, n_features)
        Finite; uint8 stays uint8, anything else becomes ``dtype`` (a copy unless it has it).
    y : array_like, shape (n_rows,) or (n_rows, n_outputs)
        Labels 0 … n_outputs - 1, or targets.
    l2 : float
        Penalty, see :class:`RoundObjective`.
    n_partitions : int, optional
        Default: one for each 256 rows, 16 at most. The result's bits depend on it, and on nothing else but the data.
    n_threads : int, optional
        Default: the processors this process may use.
    dtype : dtype
        float32, or float64 for tests and ill-conditioned problems.
    scale, offset : float
        Features are X * scale + offset, applied block by block.
    """

    def __init__(
        self,
        network: Network,
        X: ArrayLike,
        y: ArrayLike,
        *,
        l2: float = 0.0,
        n_partitions: int | None = None,
        n_threads: int | None = None,
        dtype: DTypeLike = np.float32,
        scale: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        source = ArraySource.of(X, y, n_partitions, scale, offset)
        job = _job(network, source, dtype)
        as_rows(network, source.X, source.y, job.dtype)
        super().__init__(network, SerialEngine(job, n_threads), source.n_rows, l2, job.dtype)


class SplitObjective(RoundObjective):
    """F over a split of a store, evaluated on threads of this process; the same bits as on any cluster.

    The rows are read when they are first needed, and kept in their stored dtype.
    """

    def __init__(self, network: Network, split: Split, *, l2: float = 0.0, n_threads: int | None = None) -> None:
        job = _job(network, split, np.float32)
        super().__init__(network, SerialEngine(job, n_threads), split.n_rows, l2, job.dtype)


class DaskObjective(RoundObjective):
    """F over a split of a store, evaluated by the workers of a cluster.

    Every worker must be able to read the store at the split's path, and the client must be able to reach every
    worker directly.

    Parameters
    ----------
    network : Network
    split : Split
    client : distributed.Client
    l2 : float
    timeout_s : float
        A worker that does not answer a round for so long is restarted, and its partitions go to others.
    """

    def __init__(
        self, network: Network, split: Split, client: Client, *, l2: float = 0.0, timeout_s: float = 600.0
    ) -> None:
        from hfnumba.engine.dask import DaskEngine  # noqa: PLC0415 - only this class needs Dask

        job = _job(network, split, np.float32)
        super().__init__(network, DaskEngine(job, client, timeout_s), split.n_rows, l2, job.dtype)
