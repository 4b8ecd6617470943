"""Protocols between optimisers and what evaluates a network: an objective, its linearization, and samples of rows.

An optimiser depends on an :class:`Objective` only; the rows may lie in memory or on a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.krylov.linear_operator import LinearOperator

Vector = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class RowSample:
    """A seeded sample of rows without replacement, spread over the partitions in proportion to their rows.

    A pure function of its fields and the partition number, so that it is the same wherever it is drawn.

    Parameters
    ----------
    n_rows : int
        Number of rows in total.
    seed, draw : int
        Key of the permutation of each partition's rows; an optimiser passes its iteration (or epoch) as ``draw``.
    index : int
        Number of the sample within that permutation: samples of equal ``n_rows`` with different ``index`` do not
        overlap until the rows are used up. Minibatches number their steps within an epoch by it.
    part : int
        Number of rows of a first part of the sample, itself a sample: in each partition its rows come before the
        others. 0 for none.
    """

    n_rows: int
    seed: int = 0
    draw: int = 0
    index: int = 0
    part: int = 0


class Trial(NamedTuple):
    """A step that was taken, to be judged in the next round.

    Attributes
    ----------
    start : ndarray, shape (n_params,)
        Theta before the step.
    direction : ndarray, shape (n_params,)
        Direction d whose curvature d'Gd is wanted.
    """

    start: Vector
    direction: Vector


class Minibatch(NamedTuple):
    """Result of :meth:`Objective.minibatch`.

    Attributes
    ----------
    value : float
        f over the minibatch.
    gradient : ndarray, shape (n_params,)
        Gradient of f over the minibatch.
    factors : mapping of str to ndarray, or None
        Kronecker factors by layer, over the first part of the minibatch; see
        :class:`hfnumba.engine.evaluations.KroneckerFactors`.
    before, after, curvature : float or None
        f at both ends of the trial, and d'Gd at its end, over the first part of the minibatch.
    """

    value: float
    gradient: Vector
    factors: Mapping[str, Vector] | None
    before: float | None
    after: float | None
    curvature: float | None


@dataclass
class Counters:
    """Cost of all evaluations so far.

    Attributes
    ----------
    rounds : int
        Number of exchanges with all workers (in memory: those that a cluster would have needed).
    nbytes : int
        Bytes of vectors and scalars sent and received by the client.
    row_reads : int
        Number of rows read, one per row and evaluation: a loss, a gradient, a product on a curvature sample, all the
        losses along a line each read their rows once. Divided by the rows of the data set: effective passes (epochs).
    """

    rounds: int = 0
    nbytes: int = 0
    row_reads: int = 0


class Linearization(Protocol):
    """Value and gradient of f at one theta, and the operators of its quadratic model.

    Formulas and costs are those of :class:`hfnumba.engine.linearization.RoundLinearization`.

    Attributes
    ----------
    theta : ndarray
        The point, shape ``(n_params,)``, in an array of its own. The workers have it already.
    value, error : float
        f over all rows (with its penalty), and the error rate.
    gradient : ndarray
        Gradient of f over all rows, shape ``(n_params,)``.
    """

    theta: Vector
    value: float
    error: float
    gradient: Vector

    def hessian(self) -> LinearOperator:
        """Return the exact Hessian on the curvature sample. One round per product."""
        ...

    def gauss_newton(self) -> LinearOperator:
        """Return the Gauss–Newton matrix on the curvature sample, positive semi-definite. One round per product."""
        ...

    def preconditioner(self, name: str, damping: float) -> LinearOperator:
        """Return the preconditioner that was asked for, near the inverse of B + damping·I. No round."""
        ...


class Objective(Protocol):
    """The function that is minimised, f(theta) = mean loss over the rows + l2/2 · ‖weights‖².

    Rows may have weights of their own in the mean; biases are not penalised. All methods take vectors of shape
    (n_params,), and raise a UsageError for any other shape.

    Attributes
    ----------
    counters : Counters
        Rounds, bytes and rows so far.
    """

    counters: Counters

    @property
    def n_params(self) -> int:
        """Length of theta."""
        ...

    @property
    def n_rows(self) -> int:
        """Number of rows over which the mean runs."""
        ...

    def value(self, theta: Vector) -> float:
        """Return f at theta over all rows. One round.

        Parameters
        ----------
        theta : ndarray, shape (n_params,)
            Flat vector of parameters.

        Returns
        -------
        float
            Value of f with its penalty; not finite where the loss overflows.
        """
        ...

    def value_and_error(self, theta: Vector) -> tuple[float, float]:
        """Return f and the error rate at theta over all rows. One round, in which no vector comes back.

        Parameters
        ----------
        theta : ndarray, shape (n_params,)
            Flat vector of parameters.

        Returns
        -------
        tuple of float
            Value of f, and the error rate from 0 to 1; for squared error the mean squared deviation instead.
        """
        ...

    def value_and_gradient(self, theta: Vector, rows: RowSample | None = None) -> tuple[float, Vector]:
        """Return f and its gradient, over all rows or over a sample. One round.

        Parameters
        ----------
        theta : ndarray, shape (n_params,)
            Flat vector of parameters.
        rows : RowSample, optional
            Sample of rows; None for all rows.

        Returns
        -------
        value : float
            Value of f.
        gradient : ndarray, shape (n_params,)
            Gradient of f, in the objective's dtype.
        """
        ...

    def minibatch(
        self,
        theta: Vector,
        rows: RowSample | None,
        *,
        factor_seed: tuple[int, ...] | None = None,
        trial: Trial | None = None,
    ) -> Minibatch:
        """Return all that one stochastic second-order step needs, over a sample of rows. One round.

        Parameters
        ----------
        theta : ndarray, shape (n_params,)
            Point of value, gradient and factors.
        rows : RowSample or None
            Rows of value and gradient; None for all. Factors, losses and curvature are those of its first part, or of
            all of them if it has none.
        factor_seed : tuple of int, optional
            Key of the factors' random deltas; without it no factors are computed.
        trial : Trial, optional
            The step that led to ``theta``.

        Returns
        -------
        Minibatch
            Value, gradient, factors, and the judgement of the step.
        """
        ...

    def retain(self, vector: Vector) -> object:
        """Keep a vector on the workers, without sending it again, while the returned object exists. No round.

        Parameters
        ----------
        vector : ndarray, shape (n_params,)
            Vector that later rounds will use.

        Returns
        -------
        object
            Handle; the workers may drop the vector when it is deleted.
        """
        ...

    def linearize(
        self, theta: Vector, curvature_rows: int | RowSample | None = None, *, preconditioner: str = "none"
    ) -> Linearization:
        """Return value and gradient over all rows, and curvature operators on a sample. One round.

        Parameters
        ----------
        theta : ndarray, shape (n_params,)
            Flat vector of parameters; copied.
        curvature_rows : int or RowSample, optional
            Sample of rows for the curvature, or its size; None for all rows.
        preconditioner : str
            Preconditioner for which the same round computes the parts on the sample; "none" for none.

        Returns
        -------
        Linearization
            Value, gradient and operators at theta.
        """
        ...

    def values_along(
        self, theta: Vector, directions: ArrayLike, alphas: ArrayLike, rows: RowSample | None = None
    ) -> NDArray[np.float64]:
        """Return f at theta + alpha·d for every direction and step length, over all rows or a sample. One round.

        Parameters
        ----------
        theta : ndarray, shape (n_params,)
            Flat vector of parameters.
        directions : array_like, shape (n_directions, n_params) or (n_params,)
            Directions d.
        alphas : array_like, shape (n_alphas,)
            Step lengths alpha, of either sign.
        rows : RowSample, optional
            Sample of rows; None for all rows.

        Returns
        -------
        ndarray of float64, shape (n_directions, n_alphas)
            Not finite where the loss overflows.
        """
        ...
