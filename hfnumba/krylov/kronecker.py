"""The Kronecker-factored preconditioner of K-FAC: the inverse of a damped (A ⊗ G) for each layer of a network.

Source: Martens and Grosse, "Optimizing neural networks with Kronecker-factored approximate curvature" (ICML 2015),
sections 3 and 6.3.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.krylov.lapack import cholesky, multiply_triangular, solve_triangular
from hfnumba.krylov.linear_operator import Vector
from hfnumba.krylov.operator import Operator
from hfnumba.processors import available_processors

_log = logging.getLogger(__name__)
_MORE, _MAX_INCREASES = 10.0, 12
"""Factor of a layer's damping where rounding has made a factor indefinite, and how often it is applied."""


@dataclass(frozen=True)
class FactoredLayer:
    """Cholesky factors of a layer's damped A (n_in + 1) and G (n_out), in the lower triangles of Fortran arrays.

    For a factor of which only the diagonal is computed, a vector with the Cholesky factor's diagonal.
    """

    A: NDArray[Any]
    G: NDArray[Any]

    @property
    def size(self) -> int:
        """Number of the layer's parameters."""
        return len(self.A) * len(self.G)


class FactoredCurvature(Operator):
    """The inverse of a block-diagonal matrix F with a block (A + a·I) ⊗ (G + g·I) for each layer.

    With L = L_A ⊗ L_G of Cholesky factors F = LL', so that it can also serve as a metric: |x|² = x'Fx = |L'x|².

    Parameters
    ----------
    layers : sequence of FactoredLayer
    n_increased : int
        Number of factors that needed more damping, as rounding had made them indefinite.

    Notes
    -----
    A product costs 4 triangular solves a layer, 2 m k (m + k) operations for factors of order m and k. Layers are
    solved on threads, each by one of them, so the bits do not depend on the number of threads.

    A :class:`~hfnumba.krylov.structured.BlockDiagonalOperator` of Kronecker operators is the same matrix; its inverse
    has explicit inverses, made in float64 on one thread, and no factor L.
    """

    def __init__(self, layers: Iterable[FactoredLayer], n_increased: int = 0) -> None:
        self.layers, self.n_increased = tuple(layers), n_increased

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix, ``(n, n)``."""
        n = sum(layer.size for layer in self.layers)
        return (n, n)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the products."""
        return self.layers[0].A.dtype

    def matvec(self, v: Vector) -> Vector:
        """Return F⁻¹ v."""
        return self._applied(solve_triangular, v, (False, True))

    def solve_lower(self, v: Vector) -> Vector:
        """Return L⁻¹ v."""
        return self._applied(solve_triangular, v, (False,))

    def solve_upper(self, v: Vector) -> Vector:
        """Return L'⁻¹ v."""
        return self._applied(solve_triangular, v, (True,))

    def multiply_upper(self, v: Vector) -> Vector:
        """Return L'v."""
        return self._applied(multiply_triangular, v, (True,))

    def _applied(self, apply: Callable[..., None], v: Vector, transposes: tuple[bool, ...]) -> Vector:
        x: Vector = np.array(v, self.dtype)

        def change(layer: FactoredLayer, part: Vector) -> None:
            # Row-major (m, k) parameters are the transpose V' in Fortran's order: A acts on its right, G on its left.
            V = part.reshape(len(layer.A), len(layer.G)).T
            for transpose in transposes:
                for factor, side, transposed in ((layer.G, "L", transpose), (layer.A, "R", not transpose)):
                    if factor.ndim == 1:
                        _scale(V, factor if apply is multiply_triangular else 1 / factor, side)
                    else:
                        apply(factor, V, side=side, transpose=transposed)

        parts = np.split(x, np.cumsum([layer.size for layer in self.layers])[:-1])
        _on_threads([partial(change, layer, part) for layer, part in zip(self.layers, parts, strict=True)])
        return x


def _scale(matrix: NDArray[Any], scale: Vector, side: str) -> None:
    """Multiply the rows ("L") or columns ("R") of a matrix by those of ``scale``, in place."""
    matrix *= scale[:, None] if side == "L" else scale


def kfac(damping: float, penalty: Vector | None = None, **factors: Vector) -> FactoredCurvature:
    """Return the inverse of (A + π√λ·I) ⊗ (G + √λ/π·I) for each layer, with π² = (tr A / n_A) / (tr G / n_G).

    Source: Martens and Grosse (2015), section 6.3.

    Parameters
    ----------
    damping : float
        Damping λ > 0.
    penalty : ndarray, shape (n_params,), optional
        Diagonal of the penalty's curvature, at least 0. Its largest entry is added to the damping of all parameters.
    **factors : ndarray
        For each layer ``A1``, ``a1``, ``G1``, … as :class:`hfnumba.engine.evaluations.KroneckerFactors` has them, or
        ``diag_A1``, ``diag_G1`` with the diagonals of those that are too large.

    Notes
    -----
    Cost: (m³ + k³)/3 operations and m² + k² numbers a layer, for factors of order m = n_in + 1 and k = n_out. A factor
    that is not finite counts as 0, and one that rounding has made indefinite gets ten times the damping until it is
    not.
    """
    shift = math.sqrt(damping + (0.0 if penalty is None else float(penalty.max(initial=0))))
    done = _on_threads([partial(_factored, factors, layer, shift) for layer in range(1, len(factors) // 3 + 1)])
    return FactoredCurvature([layer for layer, _ in done], sum(n for _, n in done))


def square_factors(factors: Mapping[str, Vector], layer: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return A and G of a layer as Fortran arrays with valid lower triangles; 0 where a factor is not finite.

    The diagonal as a vector where only that is known.
    """
    a = factors[f"a{layer}"]
    n = a.size
    if f"diag_A{layer}" in factors:
        A = np.append(factors[f"diag_A{layer}"], a.dtype.type(1))
    else:
        A = np.zeros((n + 1, n + 1), a.dtype, order="F")
        if n:
            A[:n, :n] = _unpacked(factors[f"A{layer}"])
        A[n, :n], A[n, n] = a, 1
    G = factors[f"diag_G{layer}"] if f"diag_G{layer}" in factors else _unpacked(factors[f"G{layer}"])
    return tuple(M if np.isfinite(M).all() else np.zeros_like(M, order="F") for M in (A, G))  # type: ignore[return-value]


def _unpacked(packed: Vector) -> NDArray[Any]:
    """Return the square matrix of a packed one, its upper triangle 0."""
    from scipy.linalg import lapack  # noqa: PLC0415 - slow to import

    n = (math.isqrt(8 * packed.size + 1) - 1) // 2
    unpack = lapack.stfttr if packed.dtype == np.float32 else lapack.dtfttr
    square: NDArray[Any] = unpack(n, packed, uplo="L")[0]
    return np.asfortranarray(np.tril(square))


def _factored(factors: Mapping[str, Vector], layer: int, shift: float) -> tuple[FactoredLayer, int]:
    """Return the Cholesky factors of a damped layer, and how many needed more damping."""
    A, G = square_factors(factors, layer)
    mean_a, mean_g = (float((M if M.ndim == 1 else M.diagonal()).mean(dtype=np.float64)) for M in (A, G))
    ratio = math.sqrt(mean_a / mean_g) if mean_a > 0 and mean_g > 0 else 1.0
    left, n_left = _damped_cholesky(A, shift * ratio)
    right, n_right = _damped_cholesky(G, shift / ratio)
    return FactoredLayer(left, right), n_left + n_right


def _damped_cholesky(M: NDArray[Any], damping: float) -> tuple[NDArray[Any], int]:
    if M.ndim == 1:
        _note_diagonal(len(M))
        return np.sqrt(M + M.dtype.type(damping)), 0
    for n_increased in range(_MAX_INCREASES):
        factor = M.copy(order="F")
        factor[np.diag_indices(len(M))] += M.dtype.type(damping * _MORE**n_increased)
        if cholesky(factor):
            return factor, min(n_increased, 1)
    # Only a matrix far from positive semi-definite gets here: it counts as 0.
    return np.asfortranarray(np.eye(len(M), dtype=M.dtype) * M.dtype.type(math.sqrt(damping))), 1


@functools.cache
def _note_diagonal(order: int) -> None:
    """Say once for each order that only the diagonal of a factor is used."""
    _log.warning(
        "a layer has a Kronecker factor of order %d, too large to compute whole: its diagonal stands in for it; fewer "
        "features or units make it whole",
        order,
    )


def _on_threads[T](tasks: list[Callable[[], T]]) -> list[T]:
    n_threads = min(len(tasks), available_processors())
    if n_threads == 1:
        return [task() for task in tasks]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(lambda task: task(), tasks))
