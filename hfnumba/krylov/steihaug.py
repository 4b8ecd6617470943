"""Conjugate gradients within a trust region: the method of Steihaug and Toint.

Sources: Steihaug, "The conjugate gradient method and trust regions in large scale optimization" (SIAM J. Numer.
Anal. 20, 1983); Toint, "Towards an efficient sparsity exploiting Newton method for minimization" (1981);
Algorithm 7.2 of Nocedal and Wright, "Numerical Optimization" (2nd ed., 2006).

The difference from the textbook: a starting point within the region is allowed. The norms of the iterates then
need not grow, so a later iterate might lie inside the region again; the solve still ends at the first crossing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from hfnumba.krylov.cg import Solve
from hfnumba.krylov.linear_operator import Vector
from hfnumba.krylov.result import KrylovResult, KrylovStatus, Record, start
from hfnumba.krylov.system import System, prepare
from hfnumba.krylov.vectors import dot


def steihaug(
    A: Any,
    b: ArrayLike,
    *,
    radius: float,
    x0: ArrayLike | None = None,
    rtol: float = 1e-6,
    maxiter: int | None = None,
    backtracking_ratio: float = 1.3,
    callback: Callable[[Vector], object] | None = None,
) -> KrylovResult:
    """Minimise x'Ax/2 - b'x over |x| <= radius approximately by conjugate gradients, up to the boundary.

    Parameters
    ----------
    A : LinearOperator or array_like, shape (n, n)
        Symmetric matrix.
    b : array_like, shape (n,)
        Right-hand side.
    radius : float
        Radius of the trust region, from 1e-100 to 1e100.
    x0 : array_like, shape (n,), optional
        Starting point of a norm below radius, zero by default. A nonzero one costs a product.
    rtol : float, default 1e-6
        Relative tolerance of the recursive residual, as for :func:`hfnumba.krylov.cg.cg`.
    maxiter : int, optional
        Largest number of iterations, n by default. An iteration is one product.
    backtracking_ratio : float, default 1.3
        Ratio of the grid of stored iterates, as for :func:`hfnumba.krylov.cg.cg`.
    callback : callable, optional
        Function called as ``callback(x)`` after each iteration but a step to the boundary. The array is reused: store
        a copy.

    Returns
    -------
    KrylovResult
        Status BOUNDARY if a step of CG would have left the region, NONPOSITIVE_CURVATURE if a direction had no
        positive curvature: in both cases ``x`` lies on the boundary, along that direction from the iterate before,
        which is stored. ``lowest`` is the direction of non-positive curvature if one ended the solve.

    Raises
    ------
    ValueError
        If shapes do not fit, b or x0 is not finite, radius is out of its range, |x0| >= radius, rtol < 0,
        maxiter < 1, or backtracking_ratio <= 1.

    Notes
    -----
    Cost and memory are those of CG: one product per iteration, five n-vectors and the stored iterates.

    References
    ----------
    Steihaug (1983); Nocedal and Wright (2006), Algorithm 7.2.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba import steihaug
    >>> result = steihaug(np.diag([1.0, 4.0]), np.ones(2), radius=0.5)
    >>> result.status.name, round(float(np.linalg.norm(result.x)), 6)
    ('BOUNDARY', 0.5)
    """
    if not 1e-100 <= radius <= 1e100:
        raise ValueError(f"expected a radius between 1e-100 and 1e100, got {radius}; 1 is a usual start")
    system = prepare(A, b, x0=x0, rtol=rtol, maxiter=maxiter, M=None)
    if dot(system.x, system.x) >= radius * radius:
        raise ValueError(f"expected |x0| < radius = {radius}, got {math.sqrt(dot(system.x, system.x))}; shorten x0")
    record = Record(system, backtracking_ratio)
    r, limit, trivial = start(system, record)
    return trivial if trivial is not None else _Bounded(system, record, r, limit, float(radius)).run(callback)


class _Bounded(Solve):
    """Conjugate gradients that end on the boundary of a ball."""

    def __init__(self, system: System, record: Record, r: Vector, limit: float, radius: float) -> None:
        super().__init__(system, record, r, limit, None)
        self.radius = radius

    def _is_rounding(self, curvature: float) -> bool:
        return False  # the region bounds the step, whatever the curvature

    def _at_flat(self, Ap: Vector) -> KrylovStatus:
        # Along a p without positive curvature the model falls without bound.
        return self._move(self._to_boundary(), Ap) or KrylovStatus.NONPOSITIVE_CURVATURE

    def _step_along(self, alpha: float, Ap: Vector) -> KrylovStatus | None:
        boundary = self._to_boundary()
        if alpha < boundary:
            return self._move(alpha, Ap)
        return self._move(boundary, Ap) or KrylovStatus.BOUNDARY

    def _to_boundary(self) -> float:
        """Return tau >= 0 with |x + tau·p| = radius, by the form of the root without cancellation."""
        x, p = self.system.x, self.p
        xp, pp = dot(x, p), dot(p, p)
        room = max(self.radius**2 - dot(x, x), 0.0)
        root = math.sqrt(xp * xp + pp * room)
        return room / (xp + root) if xp > 0 else (root - xp) / pp
