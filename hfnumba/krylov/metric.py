"""Solvers in another metric: A x = b in the variable y = L'x, where F = LL' is a symmetric positive definite matrix.

CG with a preconditioner M = F⁻¹ makes this change of variable without L. Solvers that measure lengths, such as a trust
region or the absolute value of a matrix, need it: the region |y| <= radius is the ellipsoid x'Fx <= radius², and |A|
becomes L |L⁻¹ A L'⁻¹| L', which is positive definite for any metric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from hfnumba.krylov.function_operator import FunctionOperator, as_operator
from hfnumba.krylov.linear_operator import Vector
from hfnumba.krylov.result import KrylovResult


class Metric(Protocol):
    """A preconditioner M = F⁻¹ whose F has a factor L, F = LL'."""

    def solve_lower(self, v: Vector) -> Vector:
        """Return L⁻¹ v as a new vector."""
        ...

    def solve_upper(self, v: Vector) -> Vector:
        """Return L'⁻¹ v as a new vector."""
        ...

    def multiply_upper(self, v: Vector) -> Vector:
        """Return L' v as a new vector."""
        ...


def with_metric(solver: Callable[..., KrylovResult]) -> Callable[..., KrylovResult]:
    """Return the solver with an argument ``M``, a :class:`Metric` or None, in whose metric it then works.

    Its result is that of the original variable x. What the solver measures is in the metric: ``radius``, ``dampings``
    (multiples of F instead of I), residual norms, and Rayleigh quotients d'Ad / d'Fd. Each product costs two solves
    with L more, and each vector of the result one.
    """

    def solve(
        A: Any, b: ArrayLike, *, M: Metric | None = None, x0: ArrayLike | None = None, **settings: Any
    ) -> KrylovResult:
        if M is None:
            return solver(A, b, x0=x0, **settings)
        right, operator = np.asarray(b), as_operator(A)
        scaled = FunctionOperator(right.size, lambda v: M.solve_lower(operator.matvec(M.solve_upper(v))), right.dtype)
        start = None if x0 is None else M.multiply_upper(np.asarray(x0))
        return _in_x(solver(scaled, M.solve_lower(right), x0=start, **settings), M)

    return solve


def _in_x(result: KrylovResult, M: Metric) -> KrylovResult:
    """Return a result in y = L'x as one in x; curvature and model are the same in both."""
    iterates = tuple(replace(one, x=M.solve_upper(one.x)) for one in result.iterates)
    lowest = None if result.lowest is None else replace(result.lowest, d=M.solve_upper(result.lowest.d))
    return replace(result, x=M.solve_upper(result.x), iterates=iterates, lowest=lowest)
