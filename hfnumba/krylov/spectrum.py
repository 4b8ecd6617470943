"""Spectrum of a symmetric matrix that is given only through products: extreme eigenvalues and spectral density.

Sources: Golub and Welsch (1969) and Bai, Fahey and Golub, "Some large-scale matrix computation problems" (1996) for
stochastic Lanczos quadrature; Lin, Saad and Yang, "Approximating spectral densities of large matrices" (2016), section
3.2; Ghorbani, Krishnan and Xiao, "An investigation into neural net optimization via Hessian eigenvalue density" (2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hfnumba.html import curves, table
from hfnumba.krylov.estimates import Estimate
from hfnumba.krylov.operator import as_operator
from hfnumba.krylov.quadrature import Basis, Quadrature, grow

_AT_ONCE, _BASIS_BYTES = 8, 1 << 30
"""Number of bases that grow together, a product of each in one call, and bytes that they may have together."""

_NOISE, _FLAT = 100, 1e-2
"""Multiples of the largest absolute eigenvalue: rounding units below which an eigenvalue has no sign, and the share
below which it counts as flat."""

_LEAST = 1e-6
"""Smallest density that is drawn."""


class Eigenvalue(NamedTuple):
    """A Ritz value, with the norm of its residual, at least a rounding unit: an eigenvalue is within that distance."""

    value: float
    residual: float


class Count(NamedTuple):
    """Estimate of a number of eigenvalues; numbers, or arrays of one shape.

    Attributes
    ----------
    value, standard_error
        Mean over the random vectors, and its standard error.
    lower, upper
        Means of bounds that hold for the quadrature of each random vector (inequalities of Chebyshev, Markov and
        Stieltjes): what more vectors would not change, but more steps. The standard error comes in addition.
    """

    value: Any
    standard_error: Any
    lower: Any
    upper: Any


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Result of :func:`spectrum`.

    Standard errors are those of a mean over the random vectors.

    Attributes
    ----------
    order : int
        Order n of the matrix.
    quadratures : tuple of Quadrature
        One for each random vector.
    lowest, highest : tuple of Eigenvalue
        Lowest eigenvalues, ascending, and highest, descending. They are Ritz values, so that the k-th lowest eigenvalue
        is not above the k-th of ``lowest``, and the k-th highest is not below that of ``highest``, but for rounding.
    noise : float
        Absolute value up to which the sign of an eigenvalue may be rounding: 100 rounding units of the largest.
    flat : float
        Absolute value up to which an eigenvalue counts as flat, neither positive nor negative: 1 % of the largest.
    n_matvec : int
        Number of products.
    """

    order: int
    quadratures: tuple[Quadrature, ...]
    lowest: tuple[Eigenvalue, ...]
    highest: tuple[Eigenvalue, ...]
    noise: float
    flat: float
    n_matvec: int

    def count_below(self, x: ArrayLike) -> Count:
        """Estimate the number of eigenvalues below x, a number or an array.

        The quadrature puts the eigenvalues that it does not resolve onto one Ritz value, such as the many near 0 of a
        network's Hessian: an x close to them has wide bounds.
        """
        points = np.asarray(x, np.float64)
        values, lower, upper = [], [], []
        for one in self.quadratures:
            total = self.order * np.concatenate([[0.0], np.cumsum(one.weights)])
            below = np.searchsorted(one.nodes, points)
            values.append(total[below])
            lower.append(total[np.maximum(below - 1, 0)])
            upper.append(total[np.minimum(below + 1, one.nodes.size)])
        return Count(*_mean(values), np.mean(lower, axis=0), np.mean(upper, axis=0))

    @property
    def n_negative(self) -> Count:
        """Estimate of the number of eigenvalues below ``-flat``."""
        return self.count_below(-self.flat)

    @property
    def n_negative_at_least(self) -> int:
        """Number of negative eigenvalues that the matrix has for certain, but for rounding.

        It is the largest number of Ritz values below ``-noise`` of one basis (Cauchy's interlacing theorem).
        """
        return max(int(np.searchsorted(one.nodes, -self.noise)) for one in self.quadratures)

    @property
    def trace(self) -> Estimate:
        """Estimate of the trace; :meth:`hfnumba.krylov.Operator.trace` has a better one."""
        return _mean([self.order * float(one.weights @ one.nodes) for one in self.quadratures])

    @property
    def width(self) -> float:
        """A hundredth of the distance between the lowest and the highest eigenvalue, or of that to 0."""
        low, high = min(self.lowest[0].value, 0.0), max(self.highest[0].value, 0.0)
        return (high - low) / 100 or 1.0

    def density(self, x: ArrayLike, width: float | None = None) -> Estimate:
        """Estimate the spectral density at x: the share of eigenvalues per unit, smoothed by a Gaussian.

        Parameters
        ----------
        x : array_like
        width : float, optional
            Standard deviation of the Gaussian; :attr:`width` by default.
        """
        points, sigma = np.asarray(x, np.float64), self.width if width is None else width
        if not 0 < sigma < math.inf:
            raise ValueError(f"expected a finite width > 0, got {sigma}")
        densities = []
        for one in self.quadratures:
            kernel = np.exp(-0.5 * ((points[..., None] - one.nodes) / sigma) ** 2) / (math.sqrt(2 * math.pi) * sigma)
            densities.append(kernel @ one.weights)
        return _mean(densities)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as values that JSON has."""
        return {
            "order": self.order,
            "n_matvec": self.n_matvec,
            "noise": self.noise,
            "flat": self.flat,
            "lowest": [one._asdict() for one in self.lowest],
            "highest": [one._asdict() for one in self.highest],
            "n_negative": _floats(self.n_negative),
            "n_negative_at_least": self.n_negative_at_least,
            "trace": _floats(self.trace),
            "quadratures": [{"nodes": one.nodes.tolist(), "weights": one.weights.tolist()} for one in self.quadratures],
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return names and texts of what is known, for a table."""
        negative, trace = self.n_negative, self.trace
        return [
            ("order", str(self.order)),
            ("highest eigenvalues", _listed(self.highest)),
            ("lowest eigenvalues", _listed(self.lowest)),
            (
                f"number below {-self.flat:.3g} (1 % of the largest)",
                f"{negative.value:.0f} ± {negative.standard_error:.0f}, "
                f"bounds {negative.lower:.0f} and {negative.upper:.0f}",
            ),
            ("number of negative ones, at least", str(self.n_negative_at_least)),
            ("trace", f"{trace.value:.4g} ± {trace.standard_error:.2g}"),
            ("products", str(self.n_matvec)),
        ]

    def _repr_html_(self) -> str:
        low, high = self.lowest[0].value - 3 * self.width, self.highest[0].value + 3 * self.width
        x = np.linspace(low, high, 301)
        points = [pair for pair in zip(x.tolist(), self.density(x).value.tolist(), strict=True) if pair[1] > _LEAST]
        return table("Spectrum", self.rows()) + curves("eigenvalue", {"spectral density": points})

    def __repr__(self) -> str:
        low, high, negative = self.lowest[0].value, self.highest[0].value, self.n_negative
        return (
            f"Spectrum(order {self.order}, eigenvalues {low:.4g} … {high:.4g}, "
            f"{negative.value:.0f} below {-self.flat:.2g}, {self.n_matvec} products)"
        )


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


def _listed(values: tuple[Eigenvalue, ...]) -> str:
    return ", ".join(f"{one.value:.5g} ± {one.residual:.1g}" for one in values)


def _mean(samples: list[Any]) -> Estimate:
    values = np.array(samples)
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    mean = values.mean(axis=0)
    return Estimate(float(mean), float(error)) if values.ndim == 1 else Estimate(mean, error)


def _floats(estimate: Estimate | Count) -> dict[str, float]:
    return {name: float(value) for name, value in estimate._asdict().items()}
