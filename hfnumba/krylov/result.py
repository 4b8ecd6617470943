"""Result of a Krylov solver: iterates for backtracking, the curvature of its directions, why it stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.krylov.stopping import on_grid
from hfnumba.krylov.system import System
from hfnumba.krylov.vectors import dot


class KrylovStatus(Enum):
    """Why a solver stopped; the value is a sentence with a remedy where one is needed."""

    CONVERGED = "the residual met the tolerance"
    PROGRESS = "the quadratic model no longer improved enough to be worth more products"
    MAXITER = "the iteration limit was reached; raise maxiter if the model still improved"
    NONPOSITIVE_CURVATURE = (
        "a direction of non-positive curvature was met; step along it, or raise the damping for a definite system"
    )
    LEAST_SQUARES = (
        "the system is singular and inconsistent to rounding, and its least residual was reached; raise the damping "
        "for a definite system"
    )
    BOUNDARY = "the boundary of the trust region was reached; enlarge the radius if the model is accurate there"
    BREAKDOWN = "the recurrence broke down to rounding; use the best iterate so far, or raise the damping"
    ZERO_RHS = "the right-hand side is zero, so is the solution; the point is already stationary"
    NONFINITE = "a product or step was not finite; raise the damping"


@dataclass(frozen=True)
class Iterate:
    """An iterate stored for backtracking; its curvature and model value cost no product.

    Attributes
    ----------
    index : int
        Number of the iteration, from 1.
    x : ndarray, shape (n,)
        The iterate.
    curvature : float
        x'Ax.
    model : float
        Value of the quadratic model, x'Ax/2 - b'x.
    residual_norm : float
        Norm of the recursive residual b - Ax.
    """

    index: int
    x: NDArray[np.floating[Any]]
    curvature: float
    model: float
    residual_norm: float


@dataclass(frozen=True)
class CurvedDirection:
    """A search direction of the solver with its curvature, a by-product of the recurrence.

    Attributes
    ----------
    d : ndarray, shape (n,)
        The direction.
    curvature : float
        d'Ad.
    squared_norm : float
        d'd.
    """

    d: NDArray[np.floating[Any]]
    curvature: float
    squared_norm: float

    @property
    def rayleigh(self) -> float:
        """The quotient d'Ad / d'd."""
        return self.curvature / self.squared_norm


@dataclass(frozen=True)
class KrylovResult:
    """The outcome of a solve of A x = b.

    Attributes
    ----------
    x : ndarray
        The last iterate: that before a direction of non-positive curvature or a breakdown, unless a trust region
        bounds the step along that direction.
    iterates : tuple of Iterate
        Iterates stored for backtracking, oldest first; the last is ``x``. Empty if no step was taken.
    lowest : CurvedDirection or None
        The direction with the lowest Rayleigh quotient d'Ad/d'd so far (of either sign); after
        NONPOSITIVE_CURVATURE and LEAST_SQUARES the direction that ended the solve.
    rayleighs : tuple of float
        Rayleigh quotients of all directions, in order. For a damped operator subtract the damping.
    status : KrylovStatus
        Reason why the solver stopped.
    n_matvec : int
        Number of products.
    """

    x: NDArray[np.floating[Any]]
    iterates: tuple[Iterate, ...]
    lowest: CurvedDirection | None
    rayleighs: tuple[float, ...]
    status: KrylovStatus
    n_matvec: int


def curvature_and_model(
    b: NDArray[np.floating[Any]], x: NDArray[np.floating[Any]], r: NDArray[np.floating[Any]]
) -> tuple[float, float]:
    """Return x'Ax = x'(b - r) and x'Ax/2 - b'x = -x'(b + r)/2, where r = b - Ax: two dots, no product."""
    along_b, along_r = dot(b, x), dot(r, x)
    return along_b - along_r, -(along_b + along_r) / 2


class Record:
    """Collects the result of a running solver.

    Memory: one n-vector for the lowest direction and one for each stored iterate.

    Parameters
    ----------
    system : System
        System whose ``x`` is the current iterate.
    backtracking_ratio : float
        Ratio of the grid of stored iterates, > 1.
    """

    def __init__(self, system: System, backtracking_ratio: float) -> None:
        if not backtracking_ratio > 1:
            raise ValueError(
                f"expected backtracking_ratio > 1, got {backtracking_ratio}; 1.3 stores 1, 2, 3, 4, 5, 7, 9, 11, …"
            )
        self._system = system
        self._ratio = backtracking_ratio
        self._iterates: list[Iterate] = []
        self._rayleighs: list[float] = []
        self._lowest: CurvedDirection | None = None

    def direction(
        self, d: NDArray[np.floating[Any]], curvature: float, squared_norm: float, *, ends: bool = False
    ) -> None:
        """Record a direction with d'Ad and d'd; it is copied if it is the lowest so far, or if it ends the solve.

        A zero vector has no curvature and is ignored.
        """
        if squared_norm == 0:
            return
        direction = CurvedDirection(d, curvature, squared_norm)
        self._rayleighs.append(direction.rayleigh)
        if self._lowest is None:
            self._lowest = replace(direction, d=d.copy())
        elif ends or direction.rayleigh < self._lowest.rayleigh:
            np.copyto(self._lowest.d, d)
            self._lowest = replace(direction, d=self._lowest.d)

    def iterate(self, index: int, r: NDArray[np.floating[Any]]) -> None:
        """Store a copy of the current x if ``index`` is on the grid."""
        if on_grid(index, self._ratio):
            self._iterates.append(self._describe(index, self._system.x.copy(), r))

    def finish(self, index: int, r: NDArray[np.floating[Any]], status: KrylovStatus) -> KrylovResult:
        """Make the result, with the current x as iterate ``index`` (0: no step was taken) and last stored one."""
        x = self._system.x
        if self._iterates and self._iterates[-1].index == index:
            self._iterates.pop()
        if index:
            self._iterates.append(self._describe(index, x, r))
        return KrylovResult(
            x, tuple(self._iterates), self._lowest, tuple(self._rayleighs), status, self._system.n_matvec
        )

    def _describe(self, index: int, x: NDArray[np.floating[Any]], r: NDArray[np.floating[Any]]) -> Iterate:
        curvature, model = curvature_and_model(self._system.b, x, r)
        return Iterate(index, x, curvature, model, float(np.sqrt(dot(r, r))))


def start(system: System, record: Record) -> tuple[NDArray[np.floating[Any]], float, KrylovResult | None]:
    """Return the first residual, the residual norm to reach, and a result if no iteration is needed."""
    if system.is_zero():
        return system.b, 0.0, record.finish(0, system.b, KrylovStatus.ZERO_RHS)
    r = system.residual()
    norm = float(np.sqrt(dot(r, r)))
    limit = system.limit(norm)
    if not np.isfinite(norm):
        return r, limit, record.finish(0, r, KrylovStatus.NONFINITE)
    if norm <= limit:
        return r, limit, record.finish(0, r, KrylovStatus.CONVERGED)
    return r, limit, None
