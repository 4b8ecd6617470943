"""The objective over any engine: every evaluation is one round, counted here."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.engine.evaluations import Along, Gradient, Loss, Product, Squares, Totals
from hfnumba.engine.protocol import Engine, Round
from hfnumba.engine.tree import Divisors, Sums
from hfnumba.engine.vectors import VectorTable
from hfnumba.errors import DataError, UsageError
from hfnumba.kernels.blas import limit_blas_threads
from hfnumba.krylov.operator import FunctionOperator
from hfnumba.network import Network
from hfnumba.objective import Counters, RowSample, Vector


class _Divisors(NamedTuple):
    """What sums over a sample are divided by: losses and derivatives by the weights, errors by the rows."""

    weight: float
    rows: float


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
        fisher: Vector | None,
    ) -> None:
        self.theta = objective.vectors.live[name]
        self.value, self.error, self.gradient = known
        self.fisher = fisher
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
    weighted : bool
        Whether the engine's rows have weights: then means are sum w_i f_i / sum w_i, over all rows or over a sample,
        and each round brings the sums of weights that it needs (16 bytes). The error rate counts each row with a
        weight above 0 once.

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

    def __init__(
        self,
        network: Network,
        engine: Engine,
        n_rows: int,
        l2: float,
        dtype: np.dtype[Any],
        *,
        weighted: bool = False,
    ) -> None:
        if not 0 <= l2 < np.inf:
            raise UsageError(f"l2 must be a number of at least 0, got {l2}")
        # The penalty is summed here, and a solver may decompose its matrices here, also where rounds go to workers.
        limit_blas_threads()
        self.network, self.l2, self.dtype = network, l2, dtype
        self.counters = Counters()
        self.vectors = VectorTable()
        self._engine, self._n_rows, self._weighted = engine, n_rows, weighted

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
            (sums,), divisors = self._run(Loss(name))
        return self._loss_and_error(sums, divisors[None], theta)

    def value_and_gradient(self, theta: Vector, rows: RowSample | None = None) -> tuple[float, Vector]:
        """F and its gradient (n_params,), over all rows or over a sample. One round."""
        with self.vectors.holding(self._checked(theta)) as name:
            evaluation = Gradient(name, self._sample(rows))
            value, _, gradient = self._known(evaluation, *self._run(evaluation))
        return value, gradient

    def linearize(
        self, theta: Vector, curvature_rows: int | RowSample | None = None, *, fisher: bool = False
    ) -> RoundLinearization:
        """Value and gradient over all rows, and the curvature operators on a sample (all rows if None). One round.

        The primal pass on a sample is computed with the first product; on all rows it comes with the gradient.

        With ``fisher`` the same round brings the diagonal of the empirical Fisher matrix on the sample. Cost: one GEMM
        a layer on the sample, one n-vector more in the answer, and no pass over the network: its primal pass is the
        one that products need, computed a round sooner. On all rows it would cost a third to a half of a gradient.
        """
        sample = self._sample(RowSample(curvature_rows) if isinstance(curvature_rows, int) else curvature_rows)
        # A private copy: what the workers go on using must not change under us.
        name = self.vectors.hold(self._checked(theta).copy())
        try:
            gradient = Gradient(name, keep=sample is None, draw=sample)
            asked = (gradient, Squares(name, sample)) if fisher else (gradient,)
            sums, divisors = self._run(*asked)
            known = self._known(gradient, sums[:2], divisors)
            diagonal = self._penalised_squares(sums[2]) if fisher else None
        except BaseException:
            self.vectors.release(name)
            raise
        return RoundLinearization(self, name, sample, known, diagonal)

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
            (sums,), divisors = self._run(Along(name, line_name, tuple(steps.tolist()), rows))
        values: NDArray[np.float64] = sums / divisors[rows].weight + self._penalties_along(theta, lines, steps)
        return values

    def product(self, name: str, v: Vector, exact: bool, sample: RowSample | None) -> Vector:
        """The (exact or Gauss-Newton) curvature at the theta of that name times v, on a sample. One round."""
        v = self._checked(v)
        with self.vectors.holding(v) as v_name:
            (out,), _ = self._run(Product(name, v_name, exact, sample))
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

    def _loss_and_error(self, sums: Vector, divisors: _Divisors, theta: Vector) -> tuple[float, float]:
        loss, errors = sums.tolist()
        return loss / divisors.weight + self._penalty(theta), errors / divisors.rows

    def _known(
        self, evaluation: Gradient, sums: Sums, divisors: Mapping[RowSample | None, _Divisors]
    ) -> tuple[float, float, Vector]:
        """F, the error rate and the gradient, from their sums."""
        theta, divisor = self.vectors.live[evaluation.theta], divisors[evaluation.rows]
        losses, gradient = sums
        if self.l2:
            gradient += self.dtype.type(self.l2) * self.network.weights_only(theta)
        return *self._loss_and_error(losses, divisor, theta), gradient

    def _penalised_squares(self, squares: Vector) -> Vector:
        if self.l2:
            squares += self.dtype.type(self.l2) * self.network.weights_only(np.ones_like(squares))
        return squares

    def _run(
        self, *evaluations: Loss | Gradient | Product | Squares | Along
    ) -> tuple[Sums, dict[RowSample | None, _Divisors]]:
        """One round, counted: a broadcast of what is new, and one reduced answer.

        Vectors in it are means; losses and errors are sums, which go with what they are to be divided by.
        """
        samples = list(dict.fromkeys(evaluation.rows for evaluation in evaluations))
        totals = [Totals(sample) for sample in samples] if self._weighted else []
        counts = {sample: _Divisors(self._count(sample), self._count(sample)) for sample in samples}
        # The sums of weights come only with the round.
        divisors = () if self._weighted else self._per_array(evaluations, counts)
        sums = self._engine.run(Round((*evaluations, *totals), dict(self.vectors.live), divisors))
        self.counters.rounds += 1
        self.counters.row_reads += sum(self._count(evaluation.rows) for evaluation in evaluations)
        self.counters.nbytes += self.vectors.take_nbytes() + sum(array.nbytes for array in sums)
        if not self._weighted:
            return sums, counts
        found = [_Divisors(*array.tolist()) for array in sums[-len(totals) :]]
        if min(divisors.weight for divisors in found) <= 0:
            raise DataError(
                "all rows of a sample have weight 0, so that it has no mean; take larger samples (curvature_rows, "
                "batch_rows), or leave the rows of weight 0 out of the data"
            )
        weighed = dict(zip(samples, found, strict=True))
        sums = sums[: -len(totals)]
        for array, divisor in zip(sums, self._per_array(evaluations, weighed), strict=True):
            if divisor is not None:
                np.divide(array, divisor, out=array)
        return sums, weighed

    def _per_array(
        self,
        evaluations: Sequence[Loss | Gradient | Product | Squares | Along],
        divisors: Mapping[RowSample | None, _Divisors],
    ) -> Divisors:
        """What each array of the answers is to be divided by by the engine."""
        return tuple(
            self.dtype.type(divisors[evaluation.rows].weight) if is_vector else None
            for evaluation in evaluations
            for is_vector in evaluation.per_parameter
        )

    def _count(self, rows: RowSample | None) -> int:
        return self._n_rows if rows is None else rows.n_rows

    def _checked(self, vector: Vector) -> Vector:
        """The vector in our dtype, not copied unless it has another."""
        checked = np.ascontiguousarray(vector, self.dtype)
        if checked.shape != (self.n_params,):
            raise UsageError(f"expected a vector of shape ({self.n_params},) for this network, got {checked.shape}")
        return checked

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
