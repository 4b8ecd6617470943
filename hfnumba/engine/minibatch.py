"""The round of a stochastic second-order step: gradient, Kronecker factors, and how good the last step was."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.evaluations import LOSS_AND_ERROR, delta_key, factor_lengths, split_factors
from hfnumba.engine.protocol import Evaluation, Problem, Result, Vectors
from hfnumba.engine.rows import n_first
from hfnumba.engine.tree import Sums
from hfnumba.engine.vectors import VectorTable
from hfnumba.errors import DataError
from hfnumba.kernels.stochastic_step import stochastic_step_pass
from hfnumba.objective import Minibatch, RowSample, Trial, Vector

if TYPE_CHECKING:
    from hfnumba.engine.host import PartitionHost
    from hfnumba.engine.objective import RoundObjective

_PART = Result((4,), np.dtype(np.float64))


class Retained:
    """A vector that workers keep while this object exists."""

    def __init__(self, vectors: VectorTable, vector: Vector) -> None:
        weakref.finalize(self, vectors.release, vectors.acquire(vector))


@dataclass(frozen=True)
class StochasticStep(Evaluation):
    """Mean loss, error rate and mean ``gradient`` over a minibatch, and sums over its first part.

    ``part`` (4,), float64: over the first part, the sums of the weights, of the losses at ``start`` and at theta, and
    of v'Gv with the Gauss–Newton matrix G. With a ``seed``, ``factors`` are the sums of :class:`KroneckerFactors` over
    it, one after another. Without a first part the whole minibatch counts as it.

    Attributes
    ----------
    start, v : str
        Names of another point and of a direction; empty for none.
    seed : tuple of int or None
        Key of the random deltas of the factors, together with the partition's number; None for no factors.
    """

    theta: str
    rows: RowSample | None = None
    start: str = ""
    v: str = ""
    seed: tuple[int, ...] | None = None

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shapes and dtypes."""
        sums = {"loss_and_error": LOSS_AND_ERROR, "gradient": problem.mean_vector, "part": _PART}
        return sums if self.seed is None else sums | {"factors": Result((self._n_factors(problem),), problem.dtype)}

    def _n_factors(self, problem: Problem) -> int:
        return 0 if self.seed is None else sum(factor_lengths(problem.network.sizes).values())

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows, problem, source = host.rows(j, self.rows), host.problem, host.problem.source
        part, rest = rows.split(n_first(self.rows, *source.partition_rows(j), source.n_rows))
        gradient, none = host.output(problem.network.n_params, len(rows.X)), np.empty(0, host.dtype)
        factors = host.output(self._n_factors(problem), len(part.X))
        (network, first), (_, others) = host.arguments(part), host.arguments(rest)
        start, v = (host.vectors[name] if name else none for name in (self.start, self.v))
        key = delta_key(self.seed or (), j)
        total, errors, *sums = stochastic_step_pass(
            host.vectors[self.theta], network, first, others, start, v, key, gradient, factors
        )
        weight = part.weights.sum(dtype=np.float64) if source.weighted else len(part.X)
        found = np.array([total, errors]), gradient, np.array([weight, *sums])
        return found if self.seed is None else (*found, factors)


def minibatch(
    objective: RoundObjective,
    theta: Vector,
    rows: RowSample | None,
    *,
    factor_seed: tuple[int, ...] | None,
    trial: Trial | None,
) -> Minibatch:
    """Evaluate a minibatch; see :meth:`hfnumba.objective.Objective.minibatch`. One round.

    The answer has an n-vector, and the packed factors where they are asked for. A vector that the workers have not
    got already is sent: theta, and the direction of the trial.
    """
    theta = objective.checked(theta)
    with ExitStack() as stack:

        def name(vector: Vector) -> str:
            return stack.enter_context(objective.vectors.using(objective.checked(vector)))

        tried = ("", "") if trial is None else (name(trial.start), name(trial.direction))
        (answer,) = objective.evaluate(StochasticStep(name(theta), objective.sample(rows), *tried, factor_seed))
    value, _ = objective.with_penalty(answer, theta)
    gradient = objective.gradient_with_penalty(answer, theta)
    if trial is None and factor_seed is None:
        return Minibatch(value, gradient, None, None, None, None)
    (before, after, form), factors = _means(answer, objective.network.sizes)
    if trial is None:
        return Minibatch(value, gradient, factors, None, None, None)
    before, after = before + objective.penalty(trial.start), after + objective.penalty(theta)
    # The penalty is l2/2 · ‖w‖², its curvature along d therefore twice its value there.
    form += 2 * objective.penalty(objective.checked(trial.direction))
    return Minibatch(value, gradient, factors, before, after, form)


def _means(
    answer: Mapping[str, NDArray[Any]], sizes: Sequence[int]
) -> tuple[list[float], dict[str, NDArray[Any]] | None]:
    """Means over the first part of a minibatch: losses and form, and the factors, in place; None without any."""
    weight, *sums = answer["part"].tolist()
    if weight <= 0:
        raise DataError(
            "all rows of the first part of a minibatch have weight 0, so that it has no mean; leave the rows of weight "
            "0 out of the data"
        )
    means, factors = [total / weight for total in sums], answer.get("factors")
    if factors is None:
        return means, None
    np.divide(factors, factors.dtype.type(weight), out=factors)
    lengths = factor_lengths(sizes)
    return means, dict(zip(lengths, split_factors(factors, lengths), strict=True))
