"""Bi-CG-STAB for a symmetric, possibly indefinite operator, with the curvature of all its directions.

Method: van der Vorst, "Bi-CGSTAB: a fast and smoothly converging variant of Bi-CG for the solution of
nonsymmetric linear systems" (SIAM J. Sci. Stat. Comput. 13, 1992), in the form of Algorithm 7.7 of Saad,
"Iterative Methods for Sparse Linear Systems" (2nd ed., 2003), preconditioned from the right. Use in training:
He, Mudigere, Smelyanskiy and Takáč, "Distributed Hessian-Free Optimization for Deep Neural Network"
(2016/17), Algorithm 3.

Differences, and why:

- Algorithm 3 of He et al. as printed has an "if" for the loop, does not increment j, and uses an outdated p_j;
  this is the standard form, which must be meant.
- The step along p_j is added to x before the product with s_j: if that second half breaks down, or its
  product is not finite, x is still an iterate with its residual.
- Breakdowns, (Ap, r0*), (As, s) and (r, r0*) near zero, are decided by the cosine between the two vectors: an
  absolute threshold would mistake a small gradient for a breakdown. The cosine is compared with the rounding unit
  of float64, in which it is accumulated. During a solve r drifts away from r0*, and the rounding unit of float32
  would end most solves of random indefinite systems that converge otherwise.
- On a singular system p and s tend to the null space, where their products are rounding. Products below
  8 eps·|A|·|p| (eps: the rounding unit of the dtype; |A|: the largest |Ap| / |p| so far) end the solve with
  BREAKDOWN; and so does, before it is taken, a step with which eps·|A| times the length of all steps would exceed
  the first residual: beyond that the recursive residual is unrelated to x.
- On an indefinite system the residual is not monotone and need not become small. It only ends a solve at
  rtol; it never selects an iterate. All candidates are returned with their curvature.
- Scalars are accumulated in float64 while vectors stay in the dtype of the system.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hfnumba.krylov.linear_operator import Vector
from hfnumba.krylov.result import KrylovResult, KrylovStatus, Record, start
from hfnumba.krylov.system import System, prepare
from hfnumba.krylov.vectors import add_scaled, dot

# The cosine between two vectors that is zero up to the rounding of its float64 accumulation.
_NO_COSINE = float(np.finfo(np.float64).eps)


def bicgstab(
    A: Any,
    b: ArrayLike,
    *,
    x0: ArrayLike | None = None,
    rtol: float = 1e-6,
    maxiter: int | None = None,
    M: Any | None = None,
    backtracking_ratio: float = 1.3,
    callback: Callable[[Vector], object] | None = None,
) -> KrylovResult:
    """Solve A x = b by Bi-CG-STAB, and record the curvature of every direction p_j and s_j.

    Parameters
    ----------
    A : LinearOperator or array_like, shape (n, n)
        Any real matrix; the curvature d'Ad is that of its symmetric part.
    b : array_like, shape (n,)
        Right-hand side.
    x0 : array_like, shape (n,), optional
        Starting point, zero by default. A nonzero one costs a product.
    rtol : float, default 1e-6
        Relative tolerance of the recursive residual, as for :func:`hfnumba.krylov.cg.cg`.
    maxiter : int, optional
        Largest number of iterations, n by default. An iteration is two products, so a budget of k products is
        ``maxiter = k // 2``; the last may end after one product, if the step along p_j was enough.
    M : LinearOperator or array_like, shape (n, n), optional
        Preconditioner near the inverse of A, applied from the right: directions are then M p_j and M s_j. Two
        applications per iteration, not counted in ``n_matvec``.
    backtracking_ratio : float, default 1.3
        Ratio of the grid of stored iterates, as for :func:`hfnumba.krylov.cg.cg`.
    callback : callable, optional
        Function called as ``callback(x)`` after each whole iteration. The array is reused: store a copy.

    Returns
    -------
    KrylovResult
        Zero b without a starting point gives ZERO_RHS and zero, without a product. After BREAKDOWN, ``x`` is
        the last iterate (or half iterate) before it and ``lowest`` is set, even if no step was taken.

    Raises
    ------
    ValueError
        If shapes do not fit, b or x0 is not finite, rtol < 0, maxiter < 1, or backtracking_ratio <= 1.

    Notes
    -----
    Cost: two products per iteration. Memory: six n-vectors (x, r, p, Ap, As, scratch), one for ``lowest``,
    one per stored iterate, one with x0 and one with M. b is not copied.

    References
    ----------
    van der Vorst (1992); Saad (2003), Algorithm 7.7; He et al. (2016/17), Algorithm 3.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba import bicgstab
    >>> result = bicgstab(np.diag([3.0, 1.0, -2.0]), np.ones(3))
    >>> result.status.name, np.round(result.x, 3).tolist()
    ('CONVERGED', [0.333, 1.0, -0.5])
    >>> bool(min(result.rayleighs) < 0)
    True
    """
    system = prepare(A, b, x0=x0, rtol=rtol, maxiter=maxiter, M=M)
    record = Record(system, backtracking_ratio)
    r, limit, trivial = start(system, record)
    if trivial is not None:
        return trivial
    return _Solve(system, record, r, limit).run(callback)


class _Half(NamedTuple):
    """A vector (p or s), the direction M·vector, the product A M·vector, and their norms."""

    norm: float
    direction: Vector
    direction_norm: float
    product: Vector
    product_norm: float


class _Solve:
    """The state of one solve: the vectors and scalars that one iteration passes to the next."""

    def __init__(self, system: System, record: Record, r: Vector, limit: float) -> None:
        self.system, self.record, self.limit = system, record, limit
        self.r = r
        self.shadow = r.copy() if system.n_matvec else system.b  # r0*; without x0, r0 = b
        self.shadow_norm = math.sqrt(dot(self.shadow, self.shadow))
        self.r_norm = self.shadow_norm
        self.rho = dot(self.shadow, r)
        self.p = r.copy()
        self.scratch = np.empty_like(r)
        # An upper bound of |x|: before a step it shows whether x stays finite.
        self.reach = math.sqrt(dot(system.x, system.x))
        # The largest product A M·u of a unit vector u, and the length of all steps as multiples of such vectors.
        self.largest = self.steps = 0.0

    def run(self, callback: Callable[[Vector], object] | None) -> KrylovResult:
        for index in range(1, self.system.maxiter + 1):
            Ap, alpha, status = self._step_along_p()
            if status is not None:
                return self.record.finish(index - 1, self.r, status)
            if self.r_norm <= self.limit:
                return self.record.finish(index, self.r, KrylovStatus.CONVERGED)
            omega, status = self._step_along_s()
            if status is not None:
                return self.record.finish(index, self.r, status)
            self.record.iterate(index, self.r)
            if callback is not None:
                callback(self.system.x)
            if self.r_norm <= self.limit:
                return self.record.finish(index, self.r, KrylovStatus.CONVERGED)
            if index < self.system.maxiter and not self._turn(Ap, alpha, omega):
                return self.record.finish(index, self.r, KrylovStatus.BREAKDOWN)
        return self.record.finish(self.system.maxiter, self.r, KrylovStatus.MAXITER)

    def _step_along_p(self) -> tuple[Vector, float, KrylovStatus | None]:
        """Replace r by s = r - alpha·Ap, or return why not and leave x and r unchanged."""
        half = self._product(self.p, None)
        if half is None:
            return self.p, 0.0, KrylovStatus.NONFINITE
        along = dot(self.shadow, half.product)
        if abs(along) <= _NO_COSINE * self.shadow_norm * half.product_norm or self._is_rounding(half):
            return half.product, 0.0, KrylovStatus.BREAKDOWN
        alpha = self.rho / along
        return half.product, alpha, self._move(alpha, half)

    def _step_along_s(self) -> tuple[float, KrylovStatus | None]:
        """Replace s by r = s - omega·As, or return why not and leave x and s unchanged."""
        half = self._product(self.r, self.r_norm)
        if half is None:
            return 0.0, KrylovStatus.NONFINITE
        along, squared = dot(half.product, self.r), dot(half.product, half.product)
        # The square may underflow where As itself does not.
        if squared == 0 or abs(along) <= _NO_COSINE * half.product_norm * self.r_norm or self._is_rounding(half):
            return 0.0, KrylovStatus.BREAKDOWN
        omega = along / squared
        return omega, self._move(omega, half)

    def _product(self, vector: Vector, norm: float | None) -> _Half | None:
        """Return A M·vector and record its curvature; None if it is not finite or M·vector has overflowed."""
        direction = self.system.precondition(vector)
        squared_norm = dot(direction, direction)
        if not math.isfinite(squared_norm):
            return None
        product = self.system.product(direction)
        curvature = dot(direction, product)
        if not math.isfinite(curvature):
            return None
        self.record.direction(direction, curvature, squared_norm)
        if norm is None:
            norm = math.sqrt(squared_norm if direction is vector else dot(vector, vector))
        return _Half(norm, direction, math.sqrt(squared_norm), product, math.sqrt(dot(product, product)))

    def _is_rounding(self, half: _Half) -> bool:
        """Whether a product is rounding, relative to the largest product of a unit vector so far."""
        if half.norm > 0:
            self.largest = max(self.largest, half.product_norm / half.norm)
        return half.product_norm < self.system.noise(self.largest) * half.norm

    def _move(self, length: float, half: _Half) -> KrylovStatus | None:
        size = abs(length)
        reach = self.reach + size * half.direction_norm
        if not self.system.holds(size, reach, self.r_norm + size * half.product_norm):
            return KrylovStatus.NONFINITE
        self.steps += size * half.norm
        if self.system.hides(self.largest * self.steps, self.shadow_norm):
            return KrylovStatus.BREAKDOWN
        add_scaled(self.system.x, length, half.direction, self.scratch)
        add_scaled(self.r, -length, half.product, self.scratch)
        self.reach = reach
        self.r_norm = math.sqrt(dot(self.r, self.r))
        return None

    def _turn(self, Ap: Vector, alpha: float, omega: float) -> bool:
        """Make p the next direction, r + beta·(p - omega·Ap); false if r is orthogonal to r0*."""
        rho = dot(self.shadow, self.r)
        if abs(rho) <= _NO_COSINE * self.shadow_norm * self.r_norm:
            return False
        beta = (rho / self.rho) * (alpha / omega)
        add_scaled(self.p, -omega, Ap, self.scratch)
        with np.errstate(over="ignore", invalid="ignore"):
            np.multiply(self.p, beta, out=self.p)
            np.add(self.p, self.r, out=self.p)
        self.rho = rho
        return True
