"""One Lanczos basis, and the saddle-free Newton step on it for any number of dampings.

Sources: Lanczos (1950), in the form of Algorithm 6.15 of Saad, "Iterative Methods for Sparse Linear Systems"
(2nd ed., 2003), with full reorthogonalisation, done twice (Giraud, Langou and Rozloznik 2005: twice is enough);
Dauphin et al., "Identifying and attacking the saddle point problem in high-dimensional non-convex optimization"
(2014), equation 14 and section 5: the step -|T|^-1 g on a Krylov space, where |T| has the eigenvalues of T without
their signs.

Why a basis instead of a recurrence: the projected matrix is small and explicit, so its absolute value, its spectrum
and the steps of all dampings need no further products. The cost is memory for the basis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.krylov.linear_operator import Vector
from hfnumba.krylov.result import CurvedDirection, Iterate, KrylovResult, KrylovStatus
from hfnumba.krylov.system import System, prepare
from hfnumba.krylov.vectors import add_scaled, dot

_NEW = 1e-3
"""Smallest part of a unit vector outside the Krylov space with which the vector extends the basis."""


def lanczos(
    A: Any,
    b: ArrayLike,
    *,
    dampings: Sequence[float],
    x0: ArrayLike | None = None,
    rtol: float = 1e-6,
    maxiter: int | None = None,
) -> KrylovResult:
    """Return Q (|T| + lambda·I)^-1 Q'b for every damping lambda, where Q is a basis and T = Q'AQ.

    Every iterate is a descent direction of the model x'Ax/2 - b'x, whatever the signs of the eigenvalues.

    Parameters
    ----------
    A : LinearOperator or array_like, shape (n, n)
        Symmetric matrix, not damped.
    b : array_like, shape (n,)
        Right-hand side.
    dampings : sequence of float
        Dampings lambda, each > 0.
    x0 : array_like, shape (n,), optional
        Direction that the basis spans besides b, Ab, A²b, …; its length does not matter. It costs a product, unless
        it is zero or (nearly) in the space already.
    rtol : float, default 1e-6
        Tolerance of invariance: the space counts as invariant when the part of a product outside it is at most rtol
        times the largest product of a basis vector so far. Raised to 8 rounding units of the dtype, below which that
        part is rounding. A space of n vectors is invariant, too.
    maxiter : int, optional
        Largest number of products for the space of b, n by default.

    Returns
    -------
    KrylovResult
        ``iterates`` are the steps, one for each damping in the order given, ``index`` counts them from 1 (steps
        that overflow are omitted); their ``curvature`` and ``model`` are those of A without damping, and
        ``residual_norm`` is |b - A x|. ``rayleighs`` are the Ritz values, ascending; ``lowest`` is the Ritz vector
        of the first. Status CONVERGED if the space became invariant, MAXITER if not, NONFINITE if a product was
        not finite (the basis before it is used), ZERO_RHS if b is zero, whatever x0.

    Raises
    ------
    ValueError
        If shapes do not fit, b or x0 is not finite, a damping is not positive, rtol < 0 or maxiter < 1.

    Notes
    -----
    Cost: one product for each vector of the basis of k vectors, and about 4 k² n operations. Memory: k + 4
    n-vectors, one for ``lowest`` and one for each damping.

    References
    ----------
    Dauphin et al. (2014), equation 14; Saad (2003), Algorithm 6.15.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba import lanczos
    >>> result = lanczos(np.diag([2.0, -1.0]), np.ones(2), dampings=[0.5, 1.0])
    >>> [np.round(step.x, 3).tolist() for step in result.iterates]
    [[0.4, 0.667], [0.333, 0.5]]
    """
    if not (len(dampings) and all(0 < damping < math.inf for damping in dampings)):
        raise ValueError(f"expected finite dampings > 0, got {list(dampings)}; 0.1 is a usual one")
    system = prepare(A, b, x0=x0, rtol=rtol, maxiter=maxiter, M=None)
    if not system.b.any():
        return KrylovResult(np.zeros_like(system.b), (), None, (), KrylovStatus.ZERO_RHS, 0)
    space = _Space(system)
    status = space.grow()
    if status is not KrylovStatus.NONFINITE and system.x.any():
        status = space.include(system.x) or status
    return space.result(dampings, status)


class _Space:
    """An orthonormal basis, the projected matrix, and the parts of its vectors' products outside the space."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.basis: list[Vector] = []
        self.columns: list[NDArray[np.float64]] = []
        self.largest = 0.0
        # Parts of A q outside the space, for the last vector q of the Krylov space and for the included one.
        self.outside: dict[int, Vector] = {}
        self.scratch = np.empty_like(system.b)

    def grow(self) -> KrylovStatus:
        """Span b, Ab, A²b, … until maxiter or until it is invariant."""
        tolerance = max(self.system.rtol, self.system.noise(1.0))
        q = self.system.b / math.sqrt(dot(self.system.b, self.system.b))
        for _ in range(self.system.maxiter):
            w = self._add(q)
            if w is None:
                return KrylovStatus.NONFINITE
            self.outside = {len(self.basis) - 1: w}
            size = math.sqrt(dot(w, w))
            if size <= tolerance * self.largest or len(self.basis) == q.size:
                return KrylovStatus.CONVERGED
            q = w / size
        return KrylovStatus.MAXITER

    def include(self, x: Vector) -> KrylovStatus | None:
        """Extend the space by x unless it is nearly in it; return NONFINITE if its product is not finite."""
        q = x / math.sqrt(dot(x, x))
        self._orthogonalise(q)
        size = math.sqrt(dot(q, q))
        if not size > _NEW:
            return None
        q /= q.dtype.type(size)
        self._orthogonalise(q)
        q /= q.dtype.type(math.sqrt(dot(q, q)))
        w = self._add(q)
        if w is None:
            return KrylovStatus.NONFINITE
        for other in self.outside.values():
            add_scaled(other, -dot(q, other), q, self.scratch)
        self.outside[len(self.basis) - 1] = w
        return None

    def result(self, dampings: Sequence[float], status: KrylovStatus) -> KrylovResult:
        """Solve the projected systems."""
        zero = np.zeros_like(self.system.b)
        if not self.basis:
            return KrylovResult(zero, (), None, (), status, self.system.n_matvec)
        T, rhs = self._projected(), np.zeros(len(self.basis))
        rhs[0] = math.sqrt(dot(self.system.b, self.system.b))
        values, vectors = np.linalg.eigh(T)
        steps = [vectors @ ((vectors.T @ rhs) / (np.abs(values) + damping)) for damping in dampings]
        iterates = [self._iterate(index, y, T, rhs) for index, y in enumerate(steps, 1)]
        finite = tuple(iterate for iterate in iterates if iterate is not None)
        d = self._combine(vectors[:, 0])
        squared_norm = dot(d, d)
        lowest = CurvedDirection(d, float(values[0]) * squared_norm, squared_norm)
        x = finite[-1].x if finite else zero
        return KrylovResult(x, finite, lowest, tuple(values.tolist()), status, self.system.n_matvec)

    def _add(self, q: Vector) -> Vector | None:
        """Append q; return the part of A q outside the space, None (and q is not appended) if it is not finite."""
        w = self.system.product(q)
        size = math.sqrt(dot(w, w))
        if not math.isfinite(size):
            return None
        w = w.copy()
        self.basis.append(q)
        self.columns.append(self._orthogonalise(w) + self._orthogonalise(w))
        self.largest = max(self.largest, size)
        return w

    def _orthogonalise(self, w: Vector) -> NDArray[np.float64]:
        """Subtract from w its part in the space; return the coordinates of that part."""
        coordinates = np.array([dot(q, w) for q in self.basis])
        for coordinate, q in zip(coordinates.tolist(), self.basis, strict=True):
            add_scaled(w, -coordinate, q, self.scratch)
        return coordinates

    def _projected(self) -> NDArray[np.float64]:
        n = len(self.basis)
        T = np.zeros((n, n))
        for j, column in enumerate(self.columns):
            T[: j + 1, j] = T[j, : j + 1] = column
        return T

    def _combine(self, y: NDArray[np.float64]) -> Vector:
        out = np.zeros_like(self.system.b)
        for coordinate, q in zip(y.tolist(), self.basis, strict=True):
            add_scaled(out, coordinate, q, self.scratch)
        return out

    def _iterate(
        self, index: int, y: NDArray[np.float64], T: NDArray[np.float64], rhs: NDArray[np.float64]
    ) -> Iterate | None:
        """Make the iterate with coordinates y; None if it overflows. b - A x is a part inside plus one outside."""
        if not self.system.holds(*np.abs(y).tolist()):
            return None
        x = self._combine(y)
        if not np.isfinite(x).all():
            return None
        inside = rhs - T @ y
        beyond = np.zeros_like(x)
        for number, w in self.outside.items():
            add_scaled(beyond, float(y[number]), w, self.scratch)
        curvature = float(y @ T @ y)
        residual = math.sqrt(float(inside @ inside) + dot(beyond, beyond))
        return Iterate(index, x, curvature, curvature / 2 - float(rhs @ y), residual)
