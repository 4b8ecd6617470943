"""Lanczos bases of random vectors, and the Gauss quadratures that they give of a matrix's spectral density."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfnumba.krylov.linear_operator import LinearOperator, Vector, new_products
from hfnumba.krylov.vectors import add_scaled, dot


class Quadrature(NamedTuple):
    """Gauss quadrature of one random vector: Ritz values, ascending, their weights, of sum 1, and their residuals."""

    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]
    residuals: NDArray[np.float64]


def grow(operator: LinearOperator, bases: list[Basis], steps: int) -> int:
    """Extend all bases to that number of vectors, or until they are invariant; return the number of products."""
    n_matvec = 0
    for _ in range(steps):
        growing = [basis for basis in bases if basis.following is not None]
        if not growing:
            break
        products = new_products(operator, np.stack([basis.extend() for basis in growing], axis=1))
        n_matvec += len(growing)
        if not np.isfinite(products).all():
            raise ArithmeticError("a product of the matrix is not finite; check theta and the rows that it is made of")
        for k, basis in enumerate(growing):
            basis.take(np.ascontiguousarray(products[:, k]))
    return n_matvec


class Basis:
    """A Lanczos basis, reorthogonalised twice at each step, and its tridiagonal matrix."""

    def __init__(self, start: Vector) -> None:
        self.vectors: list[Vector] = []
        self.diagonal: list[float] = []
        self.beside: list[float] = []
        self.largest = 0.0
        self.scratch = np.empty_like(start)
        self.following: Vector | None = start / start.dtype.type(math.sqrt(dot(start, start)))

    def extend(self) -> Vector:
        """Append the following vector; return it."""
        assert self.following is not None
        self.vectors.append(self.following)
        return self.following

    def take(self, w: Vector) -> None:
        """Orthogonalise the product of the last vector; what is left is the following one."""
        self.largest = max(self.largest, math.sqrt(dot(w, w)))
        self.diagonal.append(dot(self.vectors[-1], w))
        for _ in range(2):
            for q in self.vectors:
                add_scaled(w, -dot(q, w), q, self.scratch)
        size = math.sqrt(dot(w, w))
        self.beside.append(size)
        invariant = size <= 8 * float(np.finfo(w.dtype).eps) * self.largest or len(self.vectors) == w.size
        self.following = None if invariant else w / w.dtype.type(size)

    def quadrature(self) -> Quadrature:
        """Return the eigenvalues of the tridiagonal matrix, and the squares of the first entries of its vectors.

        The residual of a Ritz vector is the last entry times the norm of what is left of the last product.
        """
        T = np.diag(self.diagonal) + np.diag(self.beside[:-1], 1) + np.diag(self.beside[:-1], -1)
        nodes, vectors = np.linalg.eigh(T)
        rounding = float(np.finfo(self.scratch.dtype).eps) * self.largest
        return Quadrature(nodes, vectors[0] ** 2, np.maximum(np.abs(vectors[-1]) * self.beside[-1], rounding))
