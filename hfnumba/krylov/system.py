"""The validated system that a Krylov solver works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.krylov.function_operator import as_operator
from hfnumba.krylov.linear_operator import LinearOperator, Vector, new_product
from hfnumba.krylov.vectors import dot

_NOISE = 8
"""Rounding units, relative to the largest product, below which a product of a unit vector counts as rounding."""


@dataclass
class System:
    """A validated system A x = b in one dtype, and the count of its products. Made by :func:`prepare`.

    Attributes
    ----------
    x : ndarray
        Current iterate, first the starting point; the solver updates it in place.
    dtype : dtype
        float32 if both A and b are, else float64.
    """

    A: LinearOperator
    b: Vector
    x: Vector
    M: LinearOperator | None
    dtype: np.dtype[Any]
    rtol: float
    maxiter: int
    n_matvec: int = 0

    def product(self, v: Vector) -> Vector:
        """Return A v and count it."""
        self.n_matvec += 1
        return self._apply(self.A, v)

    def precondition(self, r: Vector) -> Vector:
        """Return M r, or r itself (not a copy) without a preconditioner. Not counted."""
        return r if self.M is None else self._apply(self.M, r)

    def residual(self) -> Vector:
        """Return b - A x as a new array; no product where x is zero."""
        if not self.x.any():
            return self.b.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            return np.subtract(self.b, self.product(self.x))

    def limit(self, first_residual_norm: float) -> float:
        """Return the residual norm that counts as solved: rtol·|b|, or rtol·|r0| where b is zero.

        rtol is raised to the rounding unit of the dtype, below which the recursive residual is unrelated to x.
        """
        norm = float(np.sqrt(dot(self.b, self.b))) or first_residual_norm
        return max(self.rtol, float(np.finfo(self.dtype).eps)) * norm

    def is_zero(self) -> bool:
        """Whether b is zero and there is no starting point either."""
        return not (self.b.any() or self.x.any())

    def noise(self, largest: float) -> float:
        """Return the size up to which a product of a unit vector is rounding, if the largest is ``largest``."""
        return _NOISE * float(np.finfo(self.dtype).eps) * largest

    def hides(self, product_norm: float, residual_norm: float) -> bool:
        """Whether the rounding of a product may exceed a residual, given their norms."""
        return float(np.finfo(self.dtype).eps) * product_norm > residual_norm

    def holds(self, *magnitudes: float) -> bool:
        """Whether numbers of these magnitudes are finite in the dtype."""
        largest = float(np.finfo(self.dtype).max)
        return all(magnitude < largest for magnitude in magnitudes)

    def _apply(self, operator: LinearOperator, v: Vector) -> Vector:
        result = new_product(operator, v)
        if result.shape != v.shape:
            raise ValueError(
                f"expected a product of shape {v.shape}, got {result.shape}; correct the operator's matvec"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            return result.astype(self.dtype, copy=False)


def prepare(A: Any, b: ArrayLike, *, x0: ArrayLike | None, rtol: float, maxiter: int | None, M: Any | None) -> System:
    """Check the arguments of a solver and convert them to one dtype.

    Raises
    ------
    ValueError
        If shapes do not fit, a vector is not finite or not real, rtol is negative or maxiter < 1.
    """
    operator = as_operator(A)
    n = operator.shape[0]
    if tuple(operator.shape) != (n, n):
        raise ValueError(f"expected a square operator, got shape {operator.shape}; solve a square system")
    preconditioner = None if M is None else as_operator(M)
    if preconditioner is not None and tuple(preconditioner.shape) != (n, n):
        raise ValueError(f"expected M of shape {(n, n)} as A has, got {tuple(preconditioner.shape)}")
    if not 0 <= rtol < np.inf:
        raise ValueError(f"expected rtol >= 0, got {rtol}; pass a relative tolerance such as 1e-6")
    if maxiter is not None and not (isinstance(maxiter, (int, np.integer)) and maxiter >= 1):
        raise ValueError(f"expected a whole number maxiter >= 1, got {maxiter}; None means the order of A")
    right = np.asarray(b)
    if operator.dtype.kind not in "biuf":
        raise ValueError(f"expected a real operator, got dtype {operator.dtype}; pass a real A")
    dtype = _dtype(operator.dtype, right.dtype)
    right = _vector("b", right, n, dtype)
    norm = np.sqrt(dot(right, right))
    if right.any() and not 1e-100 < norm < 1e100:
        raise ValueError(f"expected |b| between 1e-100 and 1e100 or zero, got {norm:.1e}; scale the system")
    x = np.zeros(n, dtype) if x0 is None else np.array(_vector("x0", np.asarray(x0), n, dtype))
    return System(operator, right, x, preconditioner, dtype, float(rtol), n if maxiter is None else int(maxiter))


def _dtype(A: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """Return float32 if both fit into it, else float64."""
    fits = all(np.can_cast(dtype, np.float32) for dtype in (A, b))
    return np.dtype(np.float32 if fits else np.float64)


def _vector(name: str, values: NDArray[Any], n: int, dtype: np.dtype[Any]) -> Vector:
    if values.shape != (n,):
        raise ValueError(f"expected {name} of shape ({n},) to fit the operator, got {values.shape}")
    if values.dtype.kind not in "biuf":
        raise ValueError(f"expected real numbers in {name}, got dtype {values.dtype}")
    with np.errstate(over="ignore"):
        vector = values.astype(dtype, copy=False)
    if not np.isfinite(vector).all():
        raise ValueError(f"expected finite numbers in {name}, got NaN or infinity; check what it was computed from")
    return vector
