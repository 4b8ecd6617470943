"""The objective over any engine: every evaluation is one round, counted here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.engine.evaluations import OF_PRECONDITIONER, Gradient, LineLosses, Loss, SquaredDeviations, WeightTotals
from hfnumba.engine.linearization import Point, RoundLinearization
from hfnumba.engine.minibatch import Retained, minibatch
from hfnumba.engine.protocol import Engine, Evaluation, Problem, Round, Totals
from hfnumba.engine.tree import Sums
from hfnumba.engine.vectors import VectorTable
from hfnumba.errors import DataError, UsageError
from hfnumba.html import table
from hfnumba.kernels.blas import limit_blas_threads
from hfnumba.objective import Counters, Minibatch, RowSample, Trial, Vector


class RoundObjective:
    """The objective f over the partitions of an engine. Not to be used from several threads at once.

    Parameters, results and costs of its methods are documented at :class:`hfnumba.objective.Objective`.

    Parameters
    ----------
    problem : Problem
        Where its rows have weights, means are sum w_i f_i / sum w_i, over all rows or over a sample, and each round
        brings the sums of weights that it needs (16 bytes). The error rate counts each row with a weight above 0 once.
    engine : Engine
        Evaluates the problem.
    l2 : float
        Factor of the penalty l2/2 · ‖weights‖² (biases are not penalised).

    Attributes
    ----------
    counters : Counters
        Rounds, bytes and rows so far. Bytes are those of one worker: each new vector once, and the reduced answer
        of each round; so they do not depend on the number of workers.

    Notes
    -----
    Peak memory of an evaluation, beside the rows, on a host of T threads and P partitions: a scratch block a thread,
    for a gradient or product T + log2 P + 3 n-vectors, for losses 2. ``linearize`` on all rows, and the first product
    on a sample, store 2 (n_1 + … + n_L) numbers a row; where these would take more than 40 % of memory they
    are computed again with each product instead. ``values_along`` takes two vectors without the first layer's weights
    for each pair of direction and step length.
    """

    def __init__(self, problem: Problem, engine: Engine, l2: float) -> None:
        if not 0 <= l2 < np.inf:
            raise UsageError(f"expected l2 to be a number of at least 0, got {l2}; 0 means no penalty")
        # The penalty is summed here, and a solver may decompose its matrices here, also where rounds go to workers.
        limit_blas_threads()
        self.network, self.dtype, self.l2 = problem.network, problem.dtype, l2
        self.counters = Counters()
        self.vectors = VectorTable()
        self._problem, self._engine = problem, engine
        self._n_rows, self._weighted = problem.source.n_rows, problem.source.weighted

    @property
    def n_params(self) -> int:
        """Length of theta."""
        return self.network.n_params

    @property
    def n_rows(self) -> int:
        """Number of rows over which the mean runs."""
        return self._n_rows

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.network}, {self.n_rows} rows, l2 {self.l2:g}, {self.counters.rounds} rounds)"
        )

    def _repr_html_(self) -> str:
        passes = self.counters.row_reads / self.n_rows
        rows = [
            ("network", f"{'-'.join(map(str, self.network.sizes))}, {self.n_params:,} parameters"),
            ("loss", self.network.loss),
            ("rows", f"{self.n_rows:,}{', with weights' if self._weighted else ''}"),
            ("l2", f"{self.l2:g}"),
            ("dtype", str(self.dtype)),
            ("rounds so far", str(self.counters.rounds)),
            ("passes over the rows so far", f"{passes:.1f}"),
        ]
        return table(type(self).__name__, rows)

    def value(self, theta: Vector) -> float:
        """Return f at theta over all rows. One round."""
        return self.value_and_error(theta)[0]

    def value_and_error(self, theta: Vector) -> tuple[float, float]:
        """Return f and the error rate at theta over all rows. One round; no vector comes back."""
        theta = self.checked(theta)
        with self.vectors.using(theta) as name:
            (answer,) = self.evaluate(Loss(name))
        return self.with_penalty(answer, theta)

    def squared_deviations(self, theta: Vector) -> NDArray[np.float64]:
        """Return the mean over all rows of each output's squared deviation from its target (n_outputs,). One round.

        Rows with a weight above 0 count once. Not for a loss that takes labels.
        """
        if self.network.takes_labels:
            raise UsageError(f"{self.network.loss} takes labels, from which outputs have no deviations")
        theta = self.checked(theta)
        with self.vectors.using(theta) as name:
            (answer,) = self.evaluate(SquaredDeviations(name))
        squares: NDArray[np.float64] = answer["squares"]
        return squares

    def value_and_gradient(self, theta: Vector, rows: RowSample | None = None) -> tuple[float, Vector]:
        """Return f and its gradient (n_params,), over all rows or over a sample. One round."""
        theta = self.checked(theta)
        with self.vectors.using(theta) as name:
            (answer,) = self.evaluate(Gradient(name, self.sample(rows)))
        return self.with_penalty(answer, theta)[0], self.gradient_with_penalty(answer, theta)

    def minibatch(
        self,
        theta: Vector,
        rows: RowSample | None,
        *,
        factor_seed: tuple[int, ...] | None = None,
        trial: Trial | None = None,
    ) -> Minibatch:
        """Return all that one stochastic second-order step needs; see :mod:`hfnumba.engine.minibatch`. One round."""
        return minibatch(self, theta, rows, factor_seed=factor_seed, trial=trial)

    def retain(self, vector: Vector) -> Retained:
        """Keep a vector on the workers, without sending it again, while the returned object exists. No round."""
        retained = Retained(self.vectors, self.checked(vector))
        # Counted now: a resumed run computes its cost from here on.
        self.counters.nbytes += self.vectors.take_nbytes()
        return retained

    def linearize(
        self, theta: Vector, curvature_rows: int | RowSample | None = None, *, preconditioner: str = "none"
    ) -> RoundLinearization:
        """Linearise f: value and gradient over all rows, curvature on a sample (all rows if None). One round.

        The primal pass on a sample is computed with the first product; on all rows it comes with the gradient.

        The same round brings what the ``preconditioner`` ("none", "fisher", "kfac") is made of, on the sample. For
        "fisher" that is one GEMM a layer on the sample, one n-vector more in the answer, and no pass over the network:
        its primal pass is the one that products need, computed a round sooner.

        Raises
        ------
        UsageError
            If theta does not fit, the sample is empty or the preconditioner is unknown.
        """
        if preconditioner != "none" and preconditioner not in OF_PRECONDITIONER:
            names = ", ".join(("none", *OF_PRECONDITIONER))
            raise UsageError(f"unknown preconditioner {preconditioner!r}; choose one of {names}")
        sample = self.sample(RowSample(curvature_rows) if isinstance(curvature_rows, int) else curvature_rows)
        # A private copy: the caller may change its own while the workers still use this one.
        theta = self.checked(theta).copy()
        name = self.vectors.acquire(theta)
        try:
            evaluations: list[Evaluation] = [Gradient(name, store_primal=sample is None, draw=sample)]
            if preconditioner != "none":
                evaluations.append(OF_PRECONDITIONER[preconditioner](name, sample))
            answer, *others = self.evaluate(*evaluations)
            value, error = self.with_penalty(answer, theta)
            sums = others[0] if others else {}
            point = Point(name, sample, value, error, self.gradient_with_penalty(answer, theta), preconditioner, sums)
        except BaseException:
            self.vectors.release(name)
            raise
        return RoundLinearization(self, point)

    def values_along(
        self, theta: Vector, directions: ArrayLike, alphas: ArrayLike, rows: RowSample | None = None
    ) -> NDArray[np.float64]:
        """Return f at theta + alpha·d for every direction and step length, float64 (n_directions, n_alphas). One round.

        The rows are read once; the first layer costs two products for all step lengths of a direction. A host has
        n_directions · n_alphas vectors without the first layer's weights in memory during the round.
        """
        lines = np.atleast_2d(np.ascontiguousarray(directions, self.dtype))
        steps = np.atleast_1d(np.asarray(alphas, np.float64))
        if lines.ndim != 2 or lines.shape[1] != self.n_params or steps.ndim != 1:
            raise UsageError(
                f"expected directions of shape (n, {self.n_params}) and alphas of shape (m,), "
                f"got {lines.shape} and {steps.shape}"
            )
        theta, rows = self.checked(theta), self.sample(rows)
        with self.vectors.using(theta) as name, self.vectors.using(lines.reshape(-1)) as line_name:
            (answer,) = self.evaluate(LineLosses(name, line_name, tuple(steps.tolist()), rows))
        values: NDArray[np.float64] = answer["losses"] + self._penalties_along(theta, lines, steps)
        return values

    def evaluate(self, *evaluations: Evaluation) -> list[Mapping[str, NDArray[Any]]]:
        """Return the results of each evaluation by their names, as means where they are means. One round, counted.

        The vectors that the evaluations name must be live in ``vectors``.
        """
        live, samples = dict(self.vectors.live), list(dict.fromkeys([one.rows for one in evaluations]))
        named = [one.results(self._problem, live) for one in evaluations]
        results = [(one.rows, result) for one, few in zip(evaluations, named, strict=True) for result in few.values()]
        totals = {sample: Totals(self._count(sample), self._count(sample)) for sample in samples}
        asked = [WeightTotals(sample) for sample in samples] if self._weighted else []
        divisors = [result.divisor(totals[sample]) for sample, result in results]
        # The sums of weights come only with the round. What has a divisor for each entry is too small for the engine.
        in_engine = () if asked else tuple([None if isinstance(one, np.ndarray) else one for one in divisors])
        sums = self._engine.run(Round((*evaluations, *asked), live, in_engine))
        self._count_round(evaluations, sums)
        if asked:
            sums, found = sums[: -len(asked)], sums[-len(asked) :]
            totals = dict(zip(samples, _checked_totals(found), strict=True))
            divisors = [result.divisor(totals[sample]) for sample, result in results]
        for array, divisor in zip(sums, divisors, strict=True):
            if isinstance(divisor, np.ndarray) or (asked and divisor is not None):
                np.divide(array, divisor, out=array)
        arrays = iter(sums)
        return [{name: next(arrays) for name in few} for few in named]

    def _count_round(self, evaluations: Sequence[Evaluation], sums: Sums) -> None:
        self.counters.rounds += 1
        self.counters.row_reads += sum([self._count(evaluation.rows) for evaluation in evaluations])
        self.counters.nbytes += self.vectors.take_nbytes() + sum([array.nbytes for array in sums])

    def close(self) -> None:
        """Release rows and threads, here and on the workers."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def checked(self, vector: Vector) -> Vector:
        """Return a vector of n_params numbers in the objective's dtype, not copied unless it has another."""
        checked = np.ascontiguousarray(vector, self.dtype)
        if checked.shape != (self.n_params,):
            raise UsageError(f"expected a vector of shape ({self.n_params},) for this network, got {checked.shape}")
        return checked

    def with_penalty(self, answer: Mapping[str, NDArray[Any]], theta: Vector) -> tuple[float, float]:
        """Return f and the error rate at theta from the answer of a round."""
        loss, error = answer["loss_and_error"].tolist()
        return loss + self.penalty(theta), error

    def gradient_with_penalty(self, answer: Mapping[str, NDArray[Any]], theta: Vector) -> Vector:
        """Return the gradient of f at theta from the answer of a round, in place."""
        gradient: Vector = answer["gradient"]
        if self.l2:
            gradient += self.dtype.type(self.l2) * self.network.weights_only(theta)
        return gradient

    def _count(self, rows: RowSample | None) -> int:
        return self._n_rows if rows is None else rows.n_rows

    def sample(self, rows: RowSample | None) -> RowSample | None:
        """Return a sample as rounds take it: as many rows as there are, or more, means all of them.

        That is None, unless the sample has a first part.
        """
        if rows is not None and (rows.n_rows < 1 or rows.part < 0):
            raise UsageError(f"expected a sample of at least 1 row, got {rows}; None means all rows")
        if rows is None or rows.n_rows < self._n_rows:
            return rows
        return replace(rows, n_rows=self._n_rows) if 0 < rows.part < self._n_rows else None

    def penalty(self, theta: Vector) -> float:
        """Return the penalty l2/2 · ‖weights‖² at theta."""
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


def _checked_totals(found: Sums) -> list[Totals]:
    """Totals of the samples of a round, none of them without any weight."""
    totals = [Totals(*array.tolist()) for array in found]
    if min(total.weight for total in totals) <= 0:
        raise DataError(
            "all rows of a sample have weight 0, so that it has no mean; take larger samples (curvature_rows, "
            "batch_rows), or leave the rows of weight 0 out of the data"
        )
    return totals
