"""The Kronecker-factored preconditioner of K-FAC: the inverse of a damped (A ⊗ G) for each layer of a network.

Source: Martens and Grosse, "Optimizing neural networks with Kronecker-factored approximate curvature" (ICML 2015),
sections 3 and 6.3.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import UsageError
from hfnumba.krylov.lapack import (
    cholesky,
    inverse,
    multiply_symmetric,
    multiply_triangular,
    solve_triangular,
    unpack,
)
from hfnumba.krylov.linear_operator import Vector
from hfnumba.krylov.operator import Operator
from hfnumba.processors import available_processors
from hfnumba.threads import Team

_log = logging.getLogger(__name__)
_MORE, _MAX_INCREASES = 10.0, 12
"""Factor of a layer's damping where rounding has made a factor indefinite, and how often it is applied."""

_PIECE = 256
"""Rows or columns at most that one thread solves for at a time."""

_LARGEST_INVERSE = 1.5
"""Order of a factor, over that of the layer's other one, up to which products use its inverse: a product with it takes
half the time of two triangular solves, but inverting a large factor takes longer than a few products save."""


class FactoredLayer(NamedTuple):
    """Cholesky factors of a layer's damped A (n_in + 1) and G (n_out), in the lower triangles of Fortran arrays.

    For a factor of which only the diagonal is computed, a vector with the Cholesky factor's diagonal.
    """

    A: NDArray[Any]
    G: NDArray[Any]

    @property
    def size(self) -> int:
        """Number of the layer's parameters."""
        return len(self.A) * len(self.G)


class Part(NamedTuple):
    """Columns ("L") or rows ("R") of a matrix that a factor acts on from a side, and where the result goes."""

    source: NDArray[Any]
    target: NDArray[Any]
    side: str


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
    A product F⁻¹v costs 2 m k (m + k) operations a layer with factors of order m and k. The first one inverts each
    factor that is well-conditioned and whose order is at most 1.5 times that of the layer's other one: 2m³/3 operations
    and m² numbers. The other factors, and all products with L, take triangular solves. Threads share the layers' rows
    and columns in parts that do not depend on their number, nor do the bits.

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
        inverses = self._inverses

        def solve(place: tuple[int, int], part: Part) -> None:
            inverted = inverses[place]
            if inverted is None:
                self._change(solve_triangular, (False, True), place, part)
            else:
                multiply_symmetric(inverted, part.source, part.target, side=part.side)

        return self._applied(solve, v)

    def solve_lower(self, v: Vector) -> Vector:
        """Return L⁻¹ v."""
        return self._applied(partial(self._change, solve_triangular, (False,)), v)

    def solve_upper(self, v: Vector) -> Vector:
        """Return L'⁻¹ v."""
        return self._applied(partial(self._change, solve_triangular, (True,)), v)

    def multiply_upper(self, v: Vector) -> Vector:
        """Return L'v."""
        return self._applied(partial(self._change, multiply_triangular, (True,)), v)

    @functools.cached_property
    def _inverses(self) -> dict[tuple[int, int], NDArray[Any] | None]:
        """Inverses of the damped factors that products multiply by, by number of the layer and 0 for A, 1 for G."""
        places = [(k, i) for k in range(len(self.layers)) for i in range(2)]
        return dict(zip(places, _on_threads([partial(self._inverse, *place) for place in places]), strict=True))

    def _inverse(self, k: int, i: int) -> NDArray[Any] | None:
        factor, other = self.layers[k][i], self.layers[k][1 - i]
        return inverse(factor) if factor.ndim == 2 and len(factor) <= _LARGEST_INVERSE * len(other) else None

    def _change(
        self, apply: Callable[..., None], transposes: tuple[bool, ...], place: tuple[int, int], part: Part
    ) -> None:  # fmt: skip
        """Apply a routine for triangular matrices with a factor's Cholesky factor, transposed or not, one by one."""
        factor, target = self.layers[place[0]][place[1]], part.target
        target[...] = part.source
        for transpose in transposes:
            if factor.ndim == 1:
                scale = factor if apply is multiply_triangular else 1 / factor
                target *= scale[:, None] if part.side == "L" else scale
            else:
                apply(factor, target, side=part.side, transpose=transpose if part.side == "L" else not transpose)

    def _applied(self, act: Callable[[tuple[int, int], Part], None], v: Vector) -> Vector:
        """Return what ``act`` makes of a vector, first with all factors G, then with all factors A."""
        x: Vector = np.require(v, self.dtype, "C")
        # Row-major (m, k) parameters are the transpose V' in Fortran's order: A acts on its right, G on its left.
        for i, side in ((1, "L"), (0, "R")):
            y = np.empty_like(x)
            tasks = []
            for k, (V, W) in enumerate(zip(self._matrices(x), self._matrices(y), strict=True)):
                # G acts on each column by itself, A on each row.
                for piece in _pieces(V.shape[i]):
                    at = (slice(None), piece) if side == "L" else (piece,)
                    tasks.append(partial(act, (k, i), Part(V[at], W[at], side)))
            _on_threads(tasks)
            x = y
        return x

    def _matrices(self, x: Vector) -> list[NDArray[Any]]:
        parts = np.split(x, np.cumsum([layer.size for layer in self.layers])[:-1])
        return [part.reshape(len(layer.A), len(layer.G)).T for layer, part in zip(self.layers, parts, strict=True)]


def _pieces(n: int) -> list[slice]:
    """Divide n rows or columns into parts for threads; a function of n alone, as bits may depend on the parts."""
    n_parts = -(-n // _PIECE)
    return [slice(k * n // n_parts, (k + 1) * n // n_parts) for k in range(n_parts)]


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
    read = [partial(_square, factors, f"{kind}{k}") for k in range(1, len(factors) // 3 + 1) for kind in "AG"]
    squares = _on_threads(read)
    dampings = [shift * part for A, G in zip(squares[::2], squares[1::2], strict=True) for part in _balanced(A, G)]
    tasks = zip(squares, dampings, read, strict=True)
    done = _on_threads([partial(_damped_cholesky, *task) for task in tasks])
    roots = [root for root, _ in done]
    layers = [FactoredLayer(A, G) for A, G in zip(roots[::2], roots[1::2], strict=True)]
    return FactoredCurvature(layers, sum(n for _, n in done))


def _square(factors: Mapping[str, Vector], name: str) -> NDArray[Any]:
    """Return a factor as a new Fortran array with a valid lower triangle; 0 where it is not finite.

    The diagonal as a vector where only that is known.
    """
    inputs = factors[f"a{name[1:]}"] if name[0] == "A" else None
    if f"diag_{name}" in factors:
        diagonal = factors[f"diag_{name}"]
        known: NDArray[Any] = diagonal.copy() if inputs is None else np.append(diagonal, inputs.dtype.type(1))
        return known if np.isfinite(known).all() else np.zeros_like(known)
    packed = np.ascontiguousarray(factors[name])
    n = (math.isqrt(8 * packed.size + 1) - 1) // 2
    order = n if inputs is None else n + 1
    square: NDArray[Any] = np.empty((order, order), packed.dtype, order="F")
    unpack(packed, square[:n, :n])
    finite = np.isfinite(packed).all()
    if inputs is not None:
        square[n, :n], square[n, n] = inputs, 1
        finite = finite and np.isfinite(inputs).all()
    return square if finite else np.zeros_like(square)


def _balanced(A: NDArray[Any], G: NDArray[Any]) -> tuple[float, float]:
    """Return π and 1/π, the shares of two factors in the damping."""
    mean_a, mean_g = (float((M if M.ndim == 1 else M.diagonal()).mean(dtype=np.float64)) for M in (A, G))
    ratio = math.sqrt(mean_a / mean_g) if mean_a > 0 and mean_g > 0 else 1.0
    return ratio, 1 / ratio


def _damped_cholesky(M: NDArray[Any], damping: float, read: Callable[[], NDArray[Any]]) -> tuple[NDArray[Any], int]:
    """Return the Cholesky factor of damped M, in place of M, and whether it needed more; ``read`` makes M again."""
    if M.ndim == 1:
        _note_diagonal(len(M))
        return np.sqrt(M + M.dtype.type(damping)), 0
    for n_increased in range(_MAX_INCREASES):
        factor = M if n_increased == 0 else read()
        np.einsum("ii->i", factor)[...] += M.dtype.type(damping * _MORE**n_increased)
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


def _on_threads[T](tasks: Sequence[Callable[[], T]]) -> list[T]:
    results: dict[int, T] = {}

    def work(i: int, _: int | None) -> None:
        results[i] = tasks[i]()

    _team().spread(work, range(len(tasks)))
    return [results[i] for i in range(len(tasks))]


@functools.cache
def _team() -> Team:
    """Return threads that stay: to start some takes as long as to solve for a layer."""
    try:
        return Team(available_processors(), "kronecker")
    except UsageError:  # The system allows fewer threads, of which the bits do not depend.
        return Team(1, "kronecker")
