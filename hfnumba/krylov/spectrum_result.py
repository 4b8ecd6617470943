"""Result of :func:`hfnumba.krylov.spectrum.spectrum`: eigenvalues, counts and density, with errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hfnumba.html import curves, table
from hfnumba.krylov.estimates import Estimate
from hfnumba.krylov.quadrature import Quadrature

_LEAST = 1e-6
"""Smallest density that is drawn."""


class Eigenvalue(NamedTuple):
    """Ritz value with an error bound: an eigenvalue is within the distance ``residual`` of ``value``.

    Attributes
    ----------
    value : float
        Ritz value.
    residual : float
        Norm of its residual, at least a rounding unit.
    """

    value: float
    residual: float


class Count(NamedTuple):
    """Estimate of a number of eigenvalues, with bounds.

    Attributes
    ----------
    value, standard_error : float or ndarray
        Mean over the random vectors, and its standard error.
    lower, upper : float or ndarray
        Means of bounds that hold for the quadrature of each random vector (inequalities of Chebyshev, Markov and
        Stieltjes): what more vectors would not change, but more steps. The standard error comes in addition.
    """

    value: Any
    standard_error: Any
    lower: Any
    upper: Any


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Extreme eigenvalues and spectral density of a symmetric matrix, the result of :func:`hfnumba.spectrum`.

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
        """Estimate the number of eigenvalues below x.

        The quadrature puts the eigenvalues that it does not resolve onto one Ritz value, such as the many near 0 of a
        network's Hessian: an x close to them has wide bounds.

        Parameters
        ----------
        x : array_like
            Numbers, in the units of the eigenvalues.

        Returns
        -------
        Count
            Estimates of the shape of ``x``.
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
            Numbers, in the units of the eigenvalues.
        width : float, optional
            Standard deviation of the Gaussian; :attr:`width` by default.

        Returns
        -------
        Estimate
            Densities of the shape of ``x``, whose integral is 1.

        Raises
        ------
        ValueError
            If the width is not positive and finite.
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
        """Return everything as values that JSON has.

        Returns
        -------
        dict
            Attributes by their names, and the estimates ``n_negative`` and ``trace``.
        """
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
        """Return the main results as texts, for a table.

        Returns
        -------
        list of (str, str)
            Name and text of each.
        """
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


def _listed(values: tuple[Eigenvalue, ...]) -> str:
    return ", ".join(f"{one.value:.5g} ± {one.residual:.1g}" for one in values)


def _mean(samples: list[Any]) -> Estimate:
    values = np.array(samples)
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    mean = values.mean(axis=0)
    return Estimate(float(mean), float(error)) if values.ndim == 1 else Estimate(mean, error)


def _floats(estimate: Estimate | Count) -> dict[str, float]:
    return {name: float(value) for name, value in estimate._asdict().items()}
