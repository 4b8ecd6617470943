"""MINRES for a symmetric, possibly indefinite operator, up to a direction of non-positive curvature.

Method: Paige and Saunders, "Solution of sparse indefinite systems of linear equations" (SIAM J. Numer. Anal. 12,
1975), with the recurrence of the residual and the test of its curvature of Liu and Roosta, "MINRES: from negative
curvature detection to monotonicity properties" (SIAM J. Optim. 32, 2022), Algorithm 1 and Theorem 3.3.

Differences, and why:

- The test of Liu and Roosta, c·gamma >= 0, is r'Ar <= 0 for the residual before the step. Here it is relative,
  r'Ar <= 8 eps·|r|²·|T| (eps: the rounding unit; |T|: the largest column of the tridiagonal matrix so far). Not
  r'Ar <= eps·|r|·|Ar| as in CG: on a singular system r tends to the null space, where both sides vanish alike.
- If r'Ar is rounding and |Ar| <= sqrt(8 eps)·|T|·|r|, then r lies in the null space to rounding: the system is
  singular and inconsistent, and x has the least residual there is. This has the status LEAST_SQUARES.
- The solve ends with BREAKDOWN after a step with beta <= 8 eps·|T|, since the next Lanczos vector would be rounding
  (the residual then is rounding of the step, too), and before a step whose own rounding may exceed the residual,
  see ``_move``. Otherwise, on a nearly singular system, Lanczos vectors that lost their orthogonality lead to
  iterates without any relation to their recursive residual.
- r'Ar needs no product with r: it is -c·gamma·r'r. So the curvature of every residual is available.
- With a preconditioner M all this is done for sqrt(M) A sqrt(M), as by Choi, Paige and Saunders ("MINRES-QLP: a
  Krylov subspace method for indefinite or singular symmetric systems", SIAM J. Sci. Comput. 33, 2011), without the
  square roots. The directions with curvature are then M r, and d'Ad = -c·gamma·r'Mr.
- Scalars are accumulated in float64 while vectors stay in the dtype of the system.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hfnumba.krylov.linear_operator import Vector
from hfnumba.krylov.result import KrylovResult, KrylovStatus, Record, start
from hfnumba.krylov.system import System, prepare
from hfnumba.krylov.vectors import add_scaled, dot


def minres(
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
    """Minimise |b - A x| over growing Krylov spaces, up to a residual of non-positive curvature.

    Before that happens the residual norm falls, and with x0 = 0 so does the quadratic model x'Ax/2 - b'x, while
    |x| grows (Liu and Roosta 2022, Theorem 3.11): every iterate is a descent direction. With M it is sqrt(r'Mr) that
    is minimised and sqrt(x'M^-1 x) that grows.

    Parameters
    ----------
    A : LinearOperator or array_like, shape (n, n)
        Symmetric matrix. If it is not positive definite the solve may end with NONPOSITIVE_CURVATURE.
    b : array_like, shape (n,)
        Right-hand side.
    x0 : array_like, shape (n,), optional
        Starting point, zero by default. A nonzero one costs a product.
    rtol : float, default 1e-6
        Relative tolerance of the recursive residual, as for :func:`hfnumba.krylov.cg.cg`.
    maxiter : int, optional
        Largest number of iterations, n by default. An iteration is one product.
    M : LinearOperator or array_like, shape (n, n), optional
        Preconditioner: symmetric positive definite, near the inverse of A or of its absolute value. Two applications
        per iteration, not counted in ``n_matvec``. If r'Mr <= 0 the solve ends with BREAKDOWN.
    backtracking_ratio : float, default 1.3
        Ratio of the grid of stored iterates, as for :func:`hfnumba.krylov.cg.cg`.
    callback : callable, optional
        Function called as ``callback(x)`` after each iteration. The array is reused: store a copy.

    Returns
    -------
    KrylovResult
        Zero b without a starting point gives ZERO_RHS and zero, without a product. The directions are the residuals
        (times M); after NONPOSITIVE_CURVATURE and LEAST_SQUARES ``lowest`` is that of ``x``.

    Raises
    ------
    ValueError
        If shapes do not fit, b or x0 is not finite, rtol < 0, maxiter < 1, or backtracking_ratio <= 1.

    Notes
    -----
    Cost: one product per iteration. Memory: eight n-vectors (x, r, three of the Lanczos process, two of its
    steps, scratch), one for ``lowest``, one per stored iterate, and two with M. b is not copied.

    Accuracy: the true residual of an iterate may differ from the recursive one by about eps·kappa·|A|·|x|, where kappa
    is |A| over the lowest curvature met (Sleijpen, van der Vorst and Modersitzki, "Differences in the effects of
    rounding errors in Krylov solvers for symmetric indefinite linear systems", SIAM J. Matrix Anal. Appl. 22, 2000).

    References
    ----------
    Paige and Saunders (1975); Liu and Roosta (2022), Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba import minres
    >>> result = minres(np.diag([3.0, 1.0, -2.0]), np.ones(3))
    >>> result.status.name, result.lowest.curvature < 0
    ('NONPOSITIVE_CURVATURE', True)
    """
    system = prepare(A, b, x0=x0, rtol=rtol, maxiter=maxiter, M=M)
    record = Record(system, backtracking_ratio)
    r, limit, trivial = start(system, record)
    if trivial is not None:
        return trivial
    return _Solve(system, record, r, limit).run(callback)


class _Solve:
    """The state of one solve: the vectors and scalars that one iteration passes to the next.

    The scalars have the names of Liu and Roosta's Algorithm 1: (c, s) is the last Givens rotation, ``delta``
    and ``epsilon`` are the entries of the next columns of the tridiagonal matrix after it, ``phi`` is the residual
    norm. For a Lanczos vector u of sqrt(M) A sqrt(M), z = sqrt(M)^-1 u and v = sqrt(M) u: without M one array.
    """

    def __init__(self, system: System, record: Record, r: Vector, limit: float) -> None:
        self.system, self.record, self.limit, self.r = system, record, limit, r
        v = system.precondition(r)
        self.along = dot(r, v)
        self.phi = math.sqrt(max(self.along, 0.0))
        self.z, self.v = r, v
        if self.phi > 0:
            self.z = r / self.phi
            self.v = self.z if v is r else v / self.phi
        self.z_before = np.zeros_like(r)
        self.d, self.d_before = np.zeros_like(r), np.zeros_like(r)
        self.scratch = np.empty_like(r)
        self.largest = 0.0
        self.beta = self.delta = self.epsilon = self.s = 0.0
        self.c = -1.0
        # Norms of d and d_before in units of the Lanczos vectors v that they were made from.
        self.size = self.size_before = 0.0
        # An upper bound of |x|: before a step it shows whether x stays finite.
        self.reach = math.sqrt(dot(system.x, system.x))

    def run(self, callback: Callable[[Vector], object] | None) -> KrylovResult:
        if not self.along > 0:
            return self.record.finish(0, self.r, KrylovStatus.BREAKDOWN)
        for index in range(1, self.system.maxiter + 1):
            status = self._step()
            if status is not None:
                return self.record.finish(index - 1, self.r, status)
            self.record.iterate(index, self.r)
            if callback is not None:
                callback(self.system.x)
            if math.sqrt(dot(self.r, self.r)) <= self.limit:
                return self.record.finish(index, self.r, KrylovStatus.CONVERGED)
            if self.beta <= self.system.noise(self.largest):
                return self.record.finish(index, self.r, KrylovStatus.BREAKDOWN)
        return self.record.finish(self.system.maxiter, self.r, KrylovStatus.MAXITER)

    def _step(self) -> KrylovStatus | None:
        """Extend the Krylov space by one and minimise over it; or return why not and leave x and r unchanged."""
        q = self.system.product(self.v)
        alpha = dot(self.v, q)
        add_scaled(q, -self.beta, self.z_before, self.scratch)
        add_scaled(q, -alpha, self.z, self.scratch)
        v = self.system.precondition(q)
        squared = dot(q, v)
        if not (math.isfinite(alpha) and math.isfinite(squared)):
            return KrylovStatus.NONFINITE
        if squared < 0:
            return KrylovStatus.BREAKDOWN
        beta = math.sqrt(squared)
        gamma, coming = self.s * self.delta - self.c * alpha, -self.c * beta
        self.largest = max(self.largest, math.hypot(self.beta, alpha, beta))
        if self._is_flat(-self.c * gamma):
            return self._at_flat(-self.c * gamma, math.hypot(gamma, coming))
        diagonal = math.hypot(gamma, beta)
        failure = self._move(self.c * self.delta + self.s * alpha, diagonal, gamma / diagonal)
        if failure is not None:
            return failure
        self.epsilon, self.delta = self.s * beta, coming
        self.c, self.s = gamma / diagonal, beta / diagonal
        self.phi *= self.s
        if beta > 0:
            q /= q.dtype.type(beta)
            if v is not q:
                v /= v.dtype.type(beta)
        self.z_before, self.z, self.v, self.beta = self.z, q, v, beta
        self.r *= self.r.dtype.type(self.s * self.s)
        add_scaled(self.r, -self.phi * self.c, q, self.scratch)
        return None

    def _is_flat(self, rayleigh: float) -> bool:
        """Record the curvature of the residual; return whether it is at most rounding."""
        flat = rayleigh <= self.system.noise(self.largest)
        d = self.system.precondition(self.r)
        self.record.direction(d, rayleigh * dot(self.r, d), dot(d, d), ends=flat)
        return flat

    def _at_flat(self, rayleigh: float, gradient: float) -> KrylovStatus:
        """Return the status at a residual without positive curvature; ``gradient`` is |Ar| / |r|.

        A semidefinite A has |Ar|² <= |A| r'Ar: if r'Ar is rounding, A r, the gradient of the squared residual norm,
        vanishes to its square root.
        """
        noise = self.system.noise(self.largest)
        if rayleigh >= -noise and gradient <= math.sqrt(noise * self.largest):
            return KrylovStatus.LEAST_SQUARES
        return KrylovStatus.NONPOSITIVE_CURVATURE

    def _move(self, delta: float, diagonal: float, cosine: float) -> KrylovStatus | None:
        """Make d the direction of the next step and take it, or return why not and leave x unchanged.

        In exact arithmetic A d is a unit vector. Its error is the rounding of the terms of d, times |A|; the step adds
        cosine·phi times this error to the residual, which must stay below phi, the residual before the step.
        """
        terms = (1 + self.epsilon * self.size_before + abs(delta) * self.size) / diagonal
        if self.system.hides(self.largest * terms * abs(cosine), 1.0):
            return KrylovStatus.BREAKDOWN
        d = self.d_before
        with np.errstate(over="ignore", invalid="ignore"):
            np.multiply(d, -self.epsilon, out=d)
            np.add(d, self.v, out=d)
            add_scaled(d, -delta, self.d, self.scratch)
            np.divide(d, diagonal, out=d)
        length, norm = cosine * self.phi, math.sqrt(dot(d, d))
        reach = self.reach + abs(length) * norm
        if not self.system.holds(abs(length), reach):
            return KrylovStatus.NONFINITE
        self.d_before, self.d, self.reach = self.d, d, reach
        unit = 1.0 if self.v is self.z else math.sqrt(dot(self.v, self.v))
        self.size_before, self.size = self.size, norm / unit
        add_scaled(self.system.x, length, d, self.scratch)
        return None
