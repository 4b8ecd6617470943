"""Preconditioned conjugate gradients for a symmetric operator, up to a direction of non-positive curvature.

Method: Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems" (1952); the
preconditioned form is Algorithm 9.1 of Saad, "Iterative Methods for Sparse Linear Systems" (2nd ed., 2003).
Use in training: Martens, "Deep learning via Hessian-free optimization" (ICML 2010).

Differences from the textbook form, and why:

- A direction p with p'Ap <= eps·|p|·|Ap| (eps: the rounding unit) ends the solve before its step is taken.
  On an indefinite system the step would lead to a saddle of the model, or the model would fall without bound.
  The test is relative because an absolute threshold depends on the scale of the loss.
- On a singular system p tends to the null space, where p'Ap and |Ap| are rounding alike. So a direction also ends
  the solve if p'Ap <= 8 eps·|T|·p'M^-1p, where T is the tridiagonal matrix of the equivalent Lanczos process and |T|
  its largest diagonal entry so far; both follow from the scalars of the recurrence. And the solve ends with
  BREAKDOWN before eps·|T| times the length of all steps exceeds the first residual: beyond that the recursive
  residual is unrelated to x.
- Rayleigh quotients, x'Ax and the model follow from the recurrence; none costs a product.
- The residual norm is not the only stopping test: see :class:`hfnumba.krylov.stopping.RelativeProgress`.
- Scalars are accumulated in float64 while vectors stay in the dtype of the system.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hfnumba.krylov.linear_operator import Vector
from hfnumba.krylov.result import KrylovResult, KrylovStatus, Record, curvature_and_model, start
from hfnumba.krylov.stopping import RelativeProgress
from hfnumba.krylov.system import System, prepare
from hfnumba.krylov.vectors import add_scaled, dot


def cg(
    A: Any,
    b: ArrayLike,
    *,
    x0: ArrayLike | None = None,
    rtol: float = 1e-6,
    maxiter: int | None = None,
    M: Any | None = None,
    progress: RelativeProgress | None = None,
    backtracking_ratio: float = 1.3,
    callback: Callable[[Vector], object] | None = None,
) -> KrylovResult:
    """Solve A x = b by preconditioned conjugate gradients, up to a direction of non-positive curvature.

    Parameters
    ----------
    A : LinearOperator or array_like, shape (n, n)
        Symmetric matrix. If it is not positive definite the solve may end with NONPOSITIVE_CURVATURE.
    b : array_like, shape (n,)
        Right-hand side.
    x0 : array_like, shape (n,), optional
        Starting point, zero by default. A nonzero one costs a product.
    rtol : float, default 1e-6
        Relative tolerance: the solve stops at a recursive residual of rtol·|b| (rtol·|b - A x0| if b is zero). A
        value below the rounding unit of the dtype is raised to it.
    maxiter : int, optional
        Largest number of iterations, n by default. An iteration is one product.
    M : LinearOperator or array_like, shape (n, n), optional
        Preconditioner: symmetric positive definite, near the inverse of A. One application per iteration, not
        counted in ``n_matvec``. If r'Mr <= 0 the solve ends with BREAKDOWN.
    progress : RelativeProgress, optional
        Rule that stops the solve with PROGRESS when the quadratic model has stopped improving. None: the residual
        alone decides.
    backtracking_ratio : float, default 1.3
        Ratio of the grid of stored iterates: those numbered ceil(backtracking_ratio^i), and always the last one.
    callback : callable, optional
        Function called as ``callback(x)`` after each iteration. The array is reused: store a copy.

    Returns
    -------
    KrylovResult
        In float32 if A and b are, else in float64. Zero b without a starting point gives ZERO_RHS and zero,
        without a product.

    Raises
    ------
    ValueError
        If shapes do not fit, b or x0 is not finite, rtol < 0, maxiter < 1, or backtracking_ratio <= 1.

    Notes
    -----
    Cost: one product per iteration. Memory: five n-vectors (x, r, p, Ap, scratch), one for ``lowest``, one
    per stored iterate, and one with M. b is not copied.

    If b is zero but x0 is not, the solve runs and may find curvature at a stationary point.

    References
    ----------
    Saad (2003), Algorithm 9.1; Martens (2010), sections 4.4 and 4.6.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba import cg
    >>> result = cg(np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0]))
    >>> result.status.name, result.n_matvec, np.round(result.x, 4).tolist()
    ('CONVERGED', 2, [0.0909, 0.6364])
    """
    system = prepare(A, b, x0=x0, rtol=rtol, maxiter=maxiter, M=M)
    record = Record(system, backtracking_ratio)
    r, limit, trivial = start(system, record)
    if trivial is not None:
        return trivial
    return Solve(system, record, r, limit, progress).run(callback)


class Solve:
    """The state of one solve: the vectors and scalars that one iteration passes to the next."""

    def __init__(
        self, system: System, record: Record, r: Vector, limit: float, progress: RelativeProgress | None
    ) -> None:
        self.system, self.record, self.limit, self.progress = system, record, limit, progress
        self.r = r
        z = system.precondition(r)
        # r'r, and r'z where z = Mr; the two are equal without a preconditioner.
        self.rr = dot(r, r)
        self.rz = self.rr if z is r else dot(r, z)
        self.p = z.copy()
        # p'M^-1p, and in the same norm the length of all steps and the first residual (in the norm of M).
        self.pp, self.steps, self.first = self.rz, 0.0, math.sqrt(max(self.rz, 0.0))
        # The largest diagonal entry of the tridiagonal matrix T, its last pivot, and the largest |Ap| / |p|.
        self.largest = self.pivot = self.beta = self.gain = 0.0
        self.norms = (0.0, 0.0)
        self.scratch = np.empty_like(r)
        # An upper bound of |x|: before a step it shows whether x stays finite.
        self.reach = math.sqrt(dot(system.x, system.x))
        self.models = [self._model()] if progress else []
        self.n_steps = 0

    def run(self, callback: Callable[[Vector], object] | None) -> KrylovResult:
        """Iterate until a stopping test holds."""
        for index in range(1, self.system.maxiter + 1):
            status = self._step()
            if status is not None:
                return self.record.finish(self.n_steps, self.r, status)
            self.record.iterate(index, self.r)
            if callback is not None:
                callback(self.system.x)
            status = self._stop()
            if status is not None:
                return self.record.finish(index, self.r, status)
            if index < self.system.maxiter:
                self._turn()
        return self.record.finish(self.system.maxiter, self.r, KrylovStatus.MAXITER)

    def _step(self) -> KrylovStatus | None:
        """Take the step along p; if it cannot be taken, return why and leave x and r unchanged."""
        p, pp = self.p, dot(self.p, self.p)
        if not (math.isfinite(self.rz) and math.isfinite(pp)):
            return KrylovStatus.NONFINITE
        if self.rz <= 0:
            return KrylovStatus.BREAKDOWN
        Ap = self.system.product(p)
        curvature = dot(p, Ap)
        if not math.isfinite(curvature):
            return KrylovStatus.NONFINITE
        p_norm, Ap_norm = math.sqrt(pp), math.sqrt(dot(Ap, Ap))
        # For the step along p.
        self.norms = (p_norm, Ap_norm)
        flat = curvature <= float(np.finfo(self.system.dtype).eps) * p_norm * Ap_norm
        rounding = self._is_rounding(curvature)
        self.gain = max(self.gain, Ap_norm / p_norm if pp > 0 else 0.0)
        flat = flat or (rounding and curvature <= self.system.noise(self.gain) * pp)
        self.record.direction(p, curvature, pp, ends=flat)
        if flat:
            return self._at_flat(Ap)
        return KrylovStatus.BREAKDOWN if rounding else self._step_along(self.rz / curvature, Ap)

    def _at_flat(self, Ap: Vector) -> KrylovStatus:
        """Return the status with which the solve ends if p has no positive curvature."""
        return KrylovStatus.NONPOSITIVE_CURVATURE

    def _is_rounding(self, curvature: float) -> bool:
        """Whether p'Ap is rounding, relative to the tridiagonal matrix so far."""
        before, self.pivot = self.pivot, curvature / self.rz
        self.largest = max(self.largest, abs(self.pivot + self.beta * before))
        return curvature <= self.system.noise(self.largest) * self.pp

    def _step_along(self, alpha: float, Ap: Vector) -> KrylovStatus | None:
        """Step to the minimum of the model along p, at length ``alpha``."""
        self.steps += alpha * math.sqrt(self.pp)
        if math.isfinite(self.steps) and self.system.hides(self.largest * self.steps, self.first):
            return KrylovStatus.BREAKDOWN
        return self._move(alpha, Ap)

    def _move(self, alpha: float, Ap: Vector) -> KrylovStatus | None:
        p_norm, Ap_norm = self.norms
        reach = self.reach + alpha * p_norm
        if not self.system.holds(alpha, reach, math.sqrt(self.rr) + alpha * Ap_norm):
            return KrylovStatus.NONFINITE
        add_scaled(self.system.x, alpha, self.p, self.scratch)
        add_scaled(self.r, -alpha, Ap, self.scratch)
        self.reach = reach
        self.rr = dot(self.r, self.r)
        self.n_steps += 1
        return None

    def _stop(self) -> KrylovStatus | None:
        if math.sqrt(self.rr) <= self.limit:
            return KrylovStatus.CONVERGED
        if self.progress is not None:
            self.models.append(self._model())
            if self.progress.stops(self.models):
                return KrylovStatus.PROGRESS
        return None

    def _turn(self) -> None:
        """Make p the next direction, conjugate to the last."""
        z = self.system.precondition(self.r)
        rz = self.rr if z is self.r else dot(self.r, z)
        with np.errstate(over="ignore", invalid="ignore"):
            np.multiply(self.p, rz / self.rz, out=self.p)
            np.add(self.p, z, out=self.p)
        self.beta, self.rz = rz / self.rz, rz
        self.pp = rz + self.beta * self.beta * self.pp

    def _model(self) -> float:
        return curvature_and_model(self.system.b, self.system.x, self.r)[1]
