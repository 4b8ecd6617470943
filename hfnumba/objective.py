"""The seam between optimisers and everything that evaluates a network: what may be asked, and the answers.

An optimiser knows an :class:`Objective` only; whether its rows lie in memory or on a cluster it cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.krylov.operator import LinearOperator

Vector = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class RowSample:
    """A seeded sample of rows without replacement, spread over the partitions in proportion to their rows.

    A pure function of its fields and the partition number, so that it is the same wherever it is drawn.

    Parameters
    ----------
    n_rows : int
        Rows in total.
    seed, draw : int
        Key of the permutation of each partition's rows; an optimiser passes its iteration (or epoch) as ``draw``.
    index : int
        Which sample of that permutation: samples of equal ``n_rows`` with different ``index`` do not overlap
        until the rows are used up. Minibatches number their steps within an epoch by it.
    """

    n_rows: int
    seed: int = 0
    draw: int = 0
    index: int = 0


@dataclass
class Counters:
    """What evaluations have cost so far; one place for all of them.

    Attributes
    ----------
    rounds : int
        Exchanges with all workers (in memory: the exchanges a cluster would have needed).
    nbytes : int
        Bytes of vectors and scalars sent and received by the client.
    row_reads : int
        Rows read, one per row and evaluation: a loss, a gradient, a product on a curvature sample, all the losses
        along a line each read their rows once. Divided by the rows of the data set: effective passes (epochs).
    """

    rounds: int = 0
    nbytes: int = 0
    row_reads: int = 0


class Linearization(Protocol):
    """What is known of f at one theta.

    Attributes
    ----------
    theta : ndarray
        The point, shape ``(n_params,)``, in an array of its own. Whoever holds the rows has it already.
    value, error : float
        f over all rows (with its penalty), and the error rate.
    gradient : ndarray
        Gradient of f over all rows, shape ``(n_params,)``.
    fisher : ndarray or None
        Diagonal of the empirical Fisher matrix on the curvature sample, shape ``(n_params,)``, all of it at least 0:
        the mean over the rows of the squares of each row's gradient, plus the curvature of the penalty. None if it
        was not asked for.
    """

    theta: Vector
    value: float
    error: float
    gradient: Vector
    fisher: Vector | None

    def hessian(self) -> LinearOperator:
        """The exact Hessian on the curvature sample. One round per product."""
        ...

    def gauss_newton(self) -> LinearOperator:
        """The Gauss-Newton matrix on the curvature sample, positive semi-definite. One round per product."""
        ...


class Objective(Protocol):
    """f(theta) = mean loss over the rows + l2/2 · ‖weights‖²; rows may have weights of their own in the mean."""

    counters: Counters

    @property
    def n_params(self) -> int:
        """Length of theta."""
        ...

    @property
    def n_rows(self) -> int:
        """Rows over which the mean runs."""
        ...

    def value(self, theta: Vector) -> float:
        """F at theta over all rows. One round."""
        ...

    def value_and_error(self, theta: Vector) -> tuple[float, float]:
        """F and the error rate at theta over all rows. One round."""
        ...

    def value_and_gradient(self, theta: Vector, rows: RowSample | None = None) -> tuple[float, Vector]:
        """F and its gradient, over all rows or over a sample. One round."""
        ...

    def linearize(
        self, theta: Vector, curvature_rows: int | RowSample | None = None, *, fisher: bool = False
    ) -> Linearization:
        """Value and gradient over all rows, and the curvature operators on a sample (all rows if None). One round.

        With ``fisher`` the same round brings the diagonal of the empirical Fisher matrix on that sample.
        """
        ...

    def values_along(
        self, theta: Vector, directions: ArrayLike, alphas: ArrayLike, rows: RowSample | None = None
    ) -> NDArray[np.float64]:
        """F at theta + alpha·d for every direction and step length, over all rows or a sample. One round.

        Parameters
        ----------
        theta : ndarray, shape (n_params,)
        directions : array_like, shape (n_directions, n_params) or (n_params,)
        alphas : array_like, shape (n_alphas,)

        Returns
        -------
        ndarray of float64, shape (n_directions, n_alphas)
            Not finite where the loss overflows.
        """
        ...
