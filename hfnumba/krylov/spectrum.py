"""Spectrum of a symmetric matrix that is given only through products: extreme eigenvalues and spectral density.

Sources: Golub and Welsch (1969) and Bai, Fahey and Golub, "Some large-scale matrix computation problems" (1996) for
stochastic Lanczos quadrature; Lin, Saad and Yang, "Approximating spectral densities of large matrices" (2016), section
3.2; Ghorbani, Krishnan and Xiao, "An investigation into neural net optimization via Hessian eigenvalue density" (2019).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hfnumba.krylov.function_operator import as_operator
from hfnumba.krylov.quadrature import Basis, Quadrature, grow
from hfnumba.krylov.spectrum_result import Eigenvalue, Spectrum

_AT_ONCE, _BASIS_BYTES = 8, 1 << 30
"""Number of bases that grow together, a product of each in one call, and bytes that they may have together."""

_NOISE, _FLAT = 100, 1e-2
"""Multiples of the largest absolute eigenvalue: rounding units below which an eigenvalue has no sign, and the share
below which it counts as flat."""


def spectrum(A: Any, *, probes: int = 8, steps: int = 64, extreme: int = 5, seed: int = 0) -> Spectrum:
    """Compute the extreme eigenvalues and the spectral density of a symmetric matrix from its products.

    Lanczos bases of random vectors, with full reorthogonalisation, give Ritz values and quadratures.

    Parameters
    ----------
    A : LinearOperator or array_like, shape (n, n)
        Symmetric matrix, such as ``objective.linearize(theta).hessian()``.
    probes : int
        Number of random vectors, at least 2; standard errors fall with its square root.
    steps : int
        Number of products for each of them; more resolve the density better, and more of the extreme eigenvalues.
    extreme : int
        Number of extreme eigenvalues at either end, at most half of ``steps``.
    seed : int
        Seed for the random vectors.

    Returns
    -------
    Spectrum
        Extreme eigenvalues, counts and density, each with an error.

    Raises
    ------
    ValueError
        If probes < 2, steps < 2, ``extreme`` does not fit, or the matrix is not square.
    ArithmeticError
        If a product is not finite.

    Notes
    -----
    Cost: ``probes * steps`` products, of up to 8 vectors together where the operator has a ``matmat``, and
    4 n ``steps``² operations for each probe. Memory: ``steps`` + 4 n-vectors for each of the bases that grow together,
    as many as have 1 GB, at most 8 and at least one.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba import spectrum
    >>> found = spectrum(np.diag([5.0, 2.0, 1.0, -3.0]), probes=4, steps=4, extreme=1)
    >>> round(found.highest[0].value, 3), round(found.lowest[0].value, 3), found.n_negative_at_least
    (5.0, -3.0, 1)
    """
    operator = as_operator(A)
    n = operator.shape[0]
    if probes < 2 or steps < 2:
        raise ValueError(f"expected at least 2 probes and 2 steps, got {probes} and {steps}")
    if not 1 <= extreme <= steps // 2:
        raise ValueError(f"expected 1 to {steps // 2} extreme eigenvalues for {steps} steps, got {extreme}")
    dtype = operator.dtype if operator.dtype.kind == "f" else np.dtype(np.float64)
    together = min(_AT_ONCE, max(1, _BASIS_BYTES // (n * dtype.itemsize * (min(steps, n) + 4))))
    rng, quadratures, n_matvec = np.random.default_rng(seed), [], 0
    for start in range(0, probes, together):
        bases = [Basis(rng.standard_normal(n).astype(dtype)) for _ in range(min(together, probes - start))]
        n_matvec += grow(operator, bases, min(steps, n))
        quadratures += [basis.quadrature() for basis in bases]
    return _spectrum(n, dtype, quadratures, extreme, n_matvec)


def _spectrum(n: int, dtype: np.dtype[Any], quadratures: list[Quadrature], extreme: int, n_matvec: int) -> Spectrum:
    lowest, highest = _extreme(quadratures, extreme, 1), _extreme(quadratures, extreme, -1)
    largest = max(abs(lowest[0].value), abs(highest[0].value))
    noise = _NOISE * float(np.finfo(dtype).eps) * largest
    return Spectrum(n, tuple(quadratures), lowest, highest, noise, _FLAT * largest, n_matvec)


def _extreme(quadratures: list[Quadrature], count: int, sign: int) -> tuple[Eigenvalue, ...]:
    """Return the lowest (sign 1) or highest (-1) eigenvalues: of the k-th Ritz values of all bases, the outermost."""
    found = []
    for k in range(min(count, *(one.nodes.size for one in quadratures))):
        at = k if sign == 1 else -1 - k
        best = min(quadratures, key=lambda one: sign * one.nodes[at])
        found.append(Eigenvalue(float(best.nodes[at]), float(best.residuals[at])))
    return tuple(found)
