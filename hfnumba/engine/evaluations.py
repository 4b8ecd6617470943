"""The evaluations: each is one function over a partition, with named sums as its results.

A new one (another quantity to be summed over the rows) is a dataclass here; transport, objective and optimisers stay as
they are. One that a preconditioner is made of gets a line in :data:`OF_PRECONDITIONER` too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.host import PartitionHost
from hfnumba.engine.protocol import Evaluation, Problem, Result, Vectors
from hfnumba.engine.tree import Sums
from hfnumba.kernels import empirical_fisher, fisher_diagonal, kronecker, passes, products, squared_deviations
from hfnumba.objective import RowSample

_FLOAT64 = np.dtype(np.float64)
LOSS_AND_ERROR = Result((2,), _FLOAT64, ("weight", "rows"))
"""Result of losses and errors."""


@dataclass(frozen=True)
class Loss(Evaluation):
    """Mean (weighted) loss and the error rate: ``loss_and_error`` (2,), float64."""

    theta: str
    rows: RowSample | None = None

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shape and dtype."""
        return {"loss_and_error": LOSS_AND_ERROR}

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows = host.rows(j, self.rows)
        return (np.array(passes.loss_pass(host.vectors[self.theta], *host.arguments(rows))),)


@dataclass(frozen=True)
class SquaredDeviations(Evaluation):
    """Mean squared deviation of each output from its target: ``squares`` (n_outputs,), float64; not for labels."""

    theta: str
    rows: RowSample | None = None

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shape and dtype."""
        return {"squares": Result((problem.network.n_outputs,), _FLOAT64, "rows")}

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows, out = host.rows(j, self.rows), np.zeros(host.problem.network.n_outputs)
        squared_deviations.squared_deviations_pass(host.vectors[self.theta], *host.arguments(rows), out)
        return (out,)


@dataclass(frozen=True)
class Gradient(Evaluation):
    """As :class:`Loss`, and the mean ``gradient`` (n_params,).

    Attributes
    ----------
    store_primal : bool
        Whether the primal pass is stored for products on the same rows.
    draw : RowSample or None
        The sample that products will read. It is drawn here, where all rows are read anyway.
    """

    theta: str
    rows: RowSample | None = None
    store_primal: bool = False
    draw: RowSample | None = None

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shapes and dtypes."""
        return {"loss_and_error": LOSS_AND_ERROR, "gradient": problem.mean_vector}

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows = host.rows(j, self.rows)
        primal = host.new_primal(j, self.rows) if self.store_primal else np.empty(0, host.dtype)
        gradient = host.output(host.problem.network.n_params, len(rows.X))
        sums = passes.gradient_pass(host.vectors[self.theta], *host.arguments(rows), primal, gradient)
        if self.draw is not None:
            host.rows(j, self.draw)
        host.store_primal(self.theta, j, self.rows, primal)
        return np.array(sums), gradient


@dataclass(frozen=True)
class Product(Evaluation):
    """The mean ``product`` (n_params,) of Hessian (``exact``) or Gauss–Newton matrix with the vector named ``v``."""

    theta: str
    v: str
    exact: bool
    rows: RowSample | None = None

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shape and dtype."""
        return {"product": problem.mean_vector}

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows = host.rows(j, self.rows)
        primal, out = host.primal(self.theta, j, self.rows), host.output(host.problem.network.n_params, len(rows.X))
        theta, v = host.vectors[self.theta], host.vectors[self.v]
        products.product_pass(theta, *host.arguments(rows), primal, v, self.exact, out)
        return (out,)


@dataclass(frozen=True)
class EmpiricalFisherProduct(Evaluation):
    """The mean ``product`` (n_params,) of the empirical Fisher matrix, the mean of gg', with the vector named ``v``."""

    theta: str
    v: str
    rows: RowSample | None = None

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shape and dtype."""
        return {"product": problem.mean_vector}

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows = host.rows(j, self.rows)
        primal, out = host.primal(self.theta, j, self.rows), host.output(host.problem.network.n_params, len(rows.X))
        theta, v = host.vectors[self.theta], host.vectors[self.v]
        empirical_fisher.empirical_fisher_pass(theta, *host.arguments(rows), primal, v, out)
        return (out,)


@dataclass(frozen=True)
class FisherDiagonal(Evaluation):
    """The mean ``fisher_diagonal`` (n_params,) of the squares of each row's gradient, entry by entry.

    It uses the primal pass that products on the same rows need, and stores it for them. In a round with a
    :class:`Gradient` that stores its own it comes after that.
    """

    theta: str
    rows: RowSample | None = None

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shape and dtype."""
        return {"fisher_diagonal": problem.mean_vector}

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows = host.rows(j, self.rows)
        primal, out = host.primal(self.theta, j, self.rows), host.output(host.problem.network.n_params, len(rows.X))
        fisher_diagonal.fisher_diagonal_pass(host.vectors[self.theta], *host.arguments(rows), primal, out)
        return (out,)


@dataclass(frozen=True)
class KroneckerFactors(Evaluation):
    """Kronecker factors of the Gauss–Newton matrix; three means for each layer l, counted from 1.

    ``A1`` are the second moments of its inputs, n_in (n_in + 1) / 2 numbers, ``a1`` (n_in,) their means, ``G1`` the
    second moments of its random deltas, n_out (n_out + 1) / 2 numbers; see :mod:`hfnumba.kernels.kronecker`. Where n_in
    or n_out is above :data:`~hfnumba.kernels.kronecker.MAX_ORDER`, ``diag_A1`` or ``diag_G1`` has the diagonal instead.

    Attributes
    ----------
    seed : tuple of int
        Key of the random deltas, together with the partition's number.
    """

    theta: str
    rows: RowSample | None = None
    seed: tuple[int, ...] = ()

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shapes and dtypes."""
        lengths = factor_lengths(problem.network.sizes)
        return {name: Result((n,), problem.dtype, "weight") for name, n in lengths.items()}

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows, lengths = host.rows(j, self.rows), factor_lengths(host.problem.network.sizes)
        out = (np.empty if len(rows.X) else np.zeros)(sum(lengths.values()), host.dtype)
        key = delta_key(self.seed, j)
        kronecker.kronecker_pass(host.vectors[self.theta], *host.arguments(rows), key, out)
        return split_factors(out, lengths)


@dataclass(frozen=True)
class LineLosses(Evaluation):
    """Mean ``losses`` at theta + alpha d: float64 (n_directions, n_alphas), for directions stacked in one vector."""

    theta: str
    directions: str
    alphas: tuple[float, ...]
    rows: RowSample | None = None

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shape and dtype."""
        n_directions = vectors[self.directions].size // problem.network.n_params
        return {"losses": Result((n_directions, len(self.alphas)), _FLOAT64, "weight")}

    def nbytes(self, problem: Problem, vectors: Vectors) -> int:
        """Bytes of the points that :meth:`prepare` computes."""
        sizes = problem.network.sizes
        n_directions = vectors[self.directions].size // problem.network.n_params
        n_rest = problem.network.n_params - sizes[0] * sizes[1]
        return n_directions * len(self.alphas) * n_rest * problem.dtype.itemsize

    def prepare(self, host: PartitionHost) -> NDArray[Any]:
        """All points theta + alpha d, without the first layer's weights: (n_directions, n_alphas, n_rest)."""
        sizes = host.problem.network.sizes
        first = sizes[0] * sizes[1]
        theta, directions = host.vectors[self.theta][first:], self._directions(host)[:, first:]
        alphas = np.array(self.alphas, host.dtype)
        points: NDArray[Any] = alphas[None, :, None] * directions[:, None, :]
        points += theta
        return points

    def _directions(self, host: PartitionHost) -> NDArray[Any]:
        return host.vectors[self.directions].reshape(-1, host.problem.network.n_params)

    def __call__(self, host: PartitionHost, j: int, shared: NDArray[Any]) -> Sums:
        """Sums over partition j."""
        rows, directions = host.rows(j, self.rows), self._directions(host)
        losses, alphas = np.zeros((len(directions), len(self.alphas))), np.array(self.alphas, host.dtype)
        passes.line_pass(host.vectors[self.theta], *host.arguments(rows), directions, alphas, shared, losses)
        return (losses,)


@dataclass(frozen=True)
class WeightTotals(Evaluation):
    """The ``totals`` of weighted rows, float64: the sum of the weights and the number of those above 0.

    It is part of every round over weighted rows, for each sample that the round reads.
    """

    rows: RowSample | None = None

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shape and dtype."""
        return {"totals": Result((2,), _FLOAT64)}

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        weights = host.rows(j, self.rows).weights
        return (np.array([weights.sum(dtype=np.float64), np.count_nonzero(weights)]),)


OF_PRECONDITIONER: Mapping[str, Callable[[str, RowSample | None], Evaluation]] = {
    "fisher": FisherDiagonal,
    "kfac": lambda theta, rows: KroneckerFactors(theta, rows, (rows.seed, rows.draw, rows.index) if rows else ()),
}
"""The evaluation, of theta's name and a sample, whose results a preconditioner of
:data:`hfnumba.krylov.preconditioners.PRECONDITIONERS` is made of."""


def factor_lengths(sizes: Sequence[int]) -> dict[str, int]:
    """Return the lengths of what :class:`KroneckerFactors` sums for a network of these layer sizes, by their names."""

    def name(kind: str, order: int) -> str:
        return kind if order <= kronecker.MAX_ORDER else f"diag_{kind}"

    lengths: dict[str, int] = {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes), start=1):
        lengths |= {f"{name('A', n_in)}{layer}": kronecker.factor_size(n_in), f"a{layer}": n_in}
        lengths[f"{name('G', n_out)}{layer}"] = kronecker.factor_size(n_out)
    return lengths


def split_factors(flat: NDArray[Any], lengths: Mapping[str, int]) -> Sums:
    """Return views of the parts of a flat array that have these lengths."""
    ends = itertools.accumulate(lengths.values())
    return tuple([flat[end - n : end] for n, end in zip(lengths.values(), ends, strict=True)])


def delta_key(seed: tuple[int, ...], j: int) -> np.uint64:
    """Return the key of the random deltas of partition j."""
    key: np.uint64 = np.random.SeedSequence((*seed, j)).generate_state(1, np.uint64)[0]
    return key
