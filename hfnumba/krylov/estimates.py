"""Trace and diagonal of a matrix that is given only through products: exact, or estimated with a standard error.

Sources: Hutchinson, "A stochastic estimator of the trace of the influence matrix" (1990); Bekas, Kokiopoulou and Saad,
"An estimator for the diagonal of a matrix" (2007); Meyer, Musco, Musco and Woodruff, "Hutch++: optimal stochastic
trace estimation" (2021), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Products = Callable[[NDArray[Any]], NDArray[Any]]

_AT_ONCE = 8
"""Number of vectors in a call for products; an operator may compute these together."""


class Estimate(NamedTuple):
    """An estimate with its standard error, both float64.

    Attributes
    ----------
    value : float or ndarray
        The estimate.
    standard_error : float or ndarray
        Standard deviation of ``value`` over the random vectors, estimated from their spread. 0 for an exact value.
    """

    value: Any
    standard_error: Any


def estimated_trace(
    products: Products, n: int, dtype: np.dtype[Any], *, exact: bool, probes: int, seed: int
) -> Estimate:
    """Return the trace of a symmetric matrix of order n.

    Parameters
    ----------
    products : callable
        Returns the products with the columns of a matrix (n, k).
    dtype : dtype
        The dtype of the vectors.
    exact : bool
        Whether to take the products with all unit vectors.
    probes : int
        Number of products, at least 6.
    seed : int

    Raises
    ------
    ValueError
        If there are fewer than 6 probes.

    Notes
    -----
    Hutch++: a third of the products find a basis Q of the range of A times random signs, a third give the trace of
    Q'AQ, and a third of random signs z give z'(I - QQ')A(I - QQ')z, whose mean is the rest of the trace. The estimate
    is unbiased, and its standard error is that of the rest. Memory: 2/3 ``probes`` n-vectors.
    """
    _checked(probes)
    if exact or n <= probes:
        return Estimate(float(_exact_diagonal(products, n, dtype).sum()), 0.0)
    rng, third = np.random.default_rng(seed), probes // 3
    sketch = np.concatenate([products(_signs(rng, n, k, dtype)) for k in _groups(third)], axis=1)
    Q = np.linalg.qr(sketch.astype(np.float64))[0].astype(dtype)
    inside = sum(float(np.einsum("ij,ij->", part, products(part), dtype=np.float64)) for part in _split(Q))
    samples: list[float] = []
    for k in _groups(probes - 2 * third):
        Z = _signs(rng, n, k, dtype)
        Z = Z - Q @ (Q.T @ Z)
        samples += np.einsum("ij,ij->j", Z, products(Z), dtype=np.float64).tolist()
    return Estimate(inside + float(np.mean(samples)), _standard_error(np.array(samples)))


def estimated_diagonal(
    products: Products, n: int, dtype: np.dtype[Any], *, exact: bool, probes: int, seed: int
) -> Estimate:
    """Return the diagonal (n,) of a symmetric matrix of order n; parameters are those of :func:`estimated_trace`.

    Notes
    -----
    The mean of z∘Az over vectors z of random signs, which is unbiased. The error of an entry is that of the other
    entries of its row: a matrix far from diagonal needs many probes.
    """
    _checked(probes)
    if exact or n <= probes:
        return Estimate(_exact_diagonal(products, n, dtype), np.zeros(n))
    rng, total, squares = np.random.default_rng(seed), np.zeros(n), np.zeros(n)
    first = np.zeros(n)
    for number, k in enumerate(_groups(probes)):
        Z = _signs(rng, n, k, dtype)
        values = (Z * products(Z)).astype(np.float64)
        if number == 0:
            # Squares of differences from a value near the mean lose no digits.
            first = values.mean(axis=1)
        total += (values - first[:, None]).sum(axis=1)
        squares += np.square(values - first[:, None]).sum(axis=1)
    variance = np.maximum(squares - total**2 / probes, 0.0) / (probes - 1)
    return Estimate(first + total / probes, np.sqrt(variance / probes))


def _checked(probes: int) -> None:
    if probes < 6:
        raise ValueError(f"expected at least 6 probes, got {probes}; fewer have no usable standard error")


def _exact_diagonal(products: Products, n: int, dtype: np.dtype[Any]) -> NDArray[np.float64]:
    diagonal, start = np.empty(n), 0
    for k in _groups(n):
        units, columns = np.zeros((n, k), dtype), np.arange(k)
        units[start + columns, columns] = 1
        diagonal[start : start + k] = products(units)[start + columns, columns]
        start += k
    return diagonal


def _groups(total: int) -> Iterator[int]:
    """Yield sizes of groups with that total."""
    for start in range(0, total, _AT_ONCE):
        yield min(_AT_ONCE, total - start)


def _split(V: NDArray[Any]) -> list[NDArray[Any]]:
    return [V[:, start : start + _AT_ONCE] for start in range(0, V.shape[1], _AT_ONCE)]


def _signs(rng: np.random.Generator, n: int, k: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return random signs (n, k)."""
    return (2 * rng.integers(0, 2, (n, k), np.int8) - 1).astype(dtype)


def _standard_error(samples: NDArray[np.float64]) -> float:
    return float(samples.std(ddof=1) / np.sqrt(samples.size))
