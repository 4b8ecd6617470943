"""The evaluations: each is one function over a partition, with sums as its result.

A new one (another quantity to be summed over the rows) is a dataclass here; transport and optimisers stay as they
are. ``per_parameter`` says which of its sums are vectors with an entry for each parameter, which become means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.host import Job, PartitionHost
from hfnumba.engine.tree import Shape, Sums
from hfnumba.kernels import passes, squares
from hfnumba.objective import RowSample


@dataclass(frozen=True)
class Loss:
    """Sum of (weighted) losses and of errors: one array of two float64."""

    theta: str
    rows: RowSample | None = None
    per_parameter: ClassVar[tuple[bool, ...]] = (False,)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors it reads."""
        return (self.theta,)

    def results(self, job: Job, vectors: Mapping[str, NDArray[Any]]) -> tuple[Shape, ...]:
        """Shapes and dtypes of the sums."""
        return (((2,), np.dtype(np.float64)),)

    def prepare(self, host: PartitionHost) -> None:
        """Nothing is shared."""

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows = host.rows(j, self.rows)
        return (np.array(passes.loss_pass(host.vectors[self.theta], *host.arguments(rows))),)


@dataclass(frozen=True)
class Gradient:
    """Sum of losses and errors, and the sum of gradients (n_params,).

    With ``keep`` the primal pass stays behind for products on the same rows. ``draw`` is the sample that products will
    read: it is drawn while the rows are at hand, so that they are not read again for it.
    """

    theta: str
    rows: RowSample | None = None
    keep: bool = False
    draw: RowSample | None = None
    per_parameter: ClassVar[tuple[bool, ...]] = (False, True)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors it reads."""
        return (self.theta,)

    def results(self, job: Job, vectors: Mapping[str, NDArray[Any]]) -> tuple[Shape, ...]:
        """Shapes and dtypes of the sums."""
        return ((2,), np.dtype(np.float64)), ((job.network.n_params,), job.dtype)

    def prepare(self, host: PartitionHost) -> None:
        """Nothing is shared."""

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows = host.rows(j, self.rows)
        kept = host.empty_primal(j, self.rows) if self.keep else np.empty(0, host.dtype)
        gradient = _output(host, len(rows.X))
        sums = passes.gradient_pass(host.vectors[self.theta], *host.arguments(rows), kept, gradient)
        if self.draw is not None:
            host.rows(j, self.draw)
        host.keep_primal(self.theta, j, self.rows, kept)
        return np.array(sums), gradient


@dataclass(frozen=True)
class Product:
    """The sum of Hessian (``exact``) or Gauss-Newton products with the vector named ``v``, (n_params,)."""

    theta: str
    v: str
    exact: bool
    rows: RowSample | None = None
    per_parameter: ClassVar[tuple[bool, ...]] = (True,)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors it reads."""
        return (self.theta, self.v)

    def results(self, job: Job, vectors: Mapping[str, NDArray[Any]]) -> tuple[Shape, ...]:
        """Shapes and dtypes of the sums."""
        return (((job.network.n_params,), job.dtype),)

    def prepare(self, host: PartitionHost) -> None:
        """Nothing is shared."""

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows = host.rows(j, self.rows)
        kept, out = host.primal(self.theta, j, self.rows), _output(host, len(rows.X))
        arguments = host.arguments(rows)
        passes.product_pass(host.vectors[self.theta], *arguments, kept, host.vectors[self.v], self.exact, out)
        return (out,)


@dataclass(frozen=True)
class Squares:
    """The sum of the squares of each row's gradient, entry by entry, (n_params,).

    It uses the primal pass that products on the same rows need anyway, and leaves it behind for them. In a round with
    a :class:`Gradient` that keeps its own it comes after it.
    """

    theta: str
    rows: RowSample | None = None
    per_parameter: ClassVar[tuple[bool, ...]] = (True,)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors it reads."""
        return (self.theta,)

    def results(self, job: Job, vectors: Mapping[str, NDArray[Any]]) -> tuple[Shape, ...]:
        """Shapes and dtypes of the sums."""
        return (((job.network.n_params,), job.dtype),)

    def prepare(self, host: PartitionHost) -> None:
        """Nothing is shared."""

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        rows = host.rows(j, self.rows)
        kept, out = host.primal(self.theta, j, self.rows), _output(host, len(rows.X))
        squares.squares_pass(host.vectors[self.theta], *host.arguments(rows), kept, out)
        return (out,)


@dataclass(frozen=True)
class Along:
    """Sums of losses at theta + alpha d: float64 (n_directions, n_alphas), for directions stacked in one vector."""

    theta: str
    directions: str
    alphas: tuple[float, ...]
    rows: RowSample | None = None
    per_parameter: ClassVar[tuple[bool, ...]] = (False,)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors it reads."""
        return (self.theta, self.directions)

    def results(self, job: Job, vectors: Mapping[str, NDArray[Any]]) -> tuple[Shape, ...]:
        """Shapes and dtypes of the sums."""
        n_directions = vectors[self.directions].size // job.network.n_params
        return (((n_directions, len(self.alphas)), np.dtype(np.float64)),)

    def prepare(self, host: PartitionHost) -> NDArray[Any]:
        """All points theta + alpha d, without the first layer's weights: (n_directions, n_alphas, n_rest)."""
        sizes = host.job.network.sizes
        first = sizes[0] * sizes[1]
        theta, directions = host.vectors[self.theta][first:], self._directions(host)[:, first:]
        alphas = np.array(self.alphas, host.dtype)
        points: NDArray[Any] = alphas[None, :, None] * directions[:, None, :]
        points += theta
        return points

    def _directions(self, host: PartitionHost) -> NDArray[Any]:
        return host.vectors[self.directions].reshape(-1, host.job.network.n_params)

    def __call__(self, host: PartitionHost, j: int, shared: NDArray[Any]) -> Sums:
        """Sums over partition j."""
        rows, directions = host.rows(j, self.rows), self._directions(host)
        losses = np.zeros((len(directions), len(self.alphas)))
        passes.line_pass(
            host.vectors[self.theta],
            *host.arguments(rows),
            directions,
            np.array(self.alphas, host.dtype),
            shared,
            losses,
            np.zeros_like(losses),
        )
        return (losses,)


@dataclass(frozen=True)
class Totals:
    """What sums over weighted rows are divided by: the sum of the weights and the number of those above 0, float64.

    It goes with every round over weighted rows, for each sample that the round reads.
    """

    rows: RowSample | None = None

    @property
    def vectors(self) -> tuple[str, ...]:
        """None."""
        return ()

    def results(self, job: Job, vectors: Mapping[str, NDArray[Any]]) -> tuple[Shape, ...]:
        """Shapes and dtypes of the sums."""
        return (((2,), np.dtype(np.float64)),)

    def prepare(self, host: PartitionHost) -> None:
        """Nothing is shared."""

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Sums over partition j."""
        weights = host.rows(j, self.rows).weights
        return (np.array([weights.sum(dtype=np.float64), np.count_nonzero(weights)]),)


def _output(host: PartitionHost, n_rows: int) -> NDArray[Any]:
    """An array for a pass to write; a pass over no rows writes nothing, so that needs zeros."""
    new = np.empty if n_rows else np.zeros
    return new(host.job.network.n_params, host.dtype)
