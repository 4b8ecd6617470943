"""The linearization of an objective at one theta, and the operators on its curvature sample: one round a product."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.evaluations import EmpiricalFisherProduct, Product
from hfnumba.engine.protocol import Evaluation
from hfnumba.errors import UsageError
from hfnumba.krylov.linear_operator import LinearOperator
from hfnumba.krylov.operator import Operator
from hfnumba.krylov.preconditioners import PRECONDITIONERS
from hfnumba.krylov.submatrix import SubmatrixOperator
from hfnumba.objective import RowSample, Vector

if TYPE_CHECKING:
    from hfnumba.engine.objective import RoundObjective

_AT_ONCE, _AT_ONCE_BYTES = 8, 8 << 20
"""Largest number of products in one round, and of bytes of their vectors: a host has a sum of each on each thread."""


class Point(NamedTuple):
    """Parts of a linearization: theta's name in the rounds, and the answers of its own round.

    ``sums`` are the parts of the preconditioner of that name.
    """

    name: str
    sample: RowSample | None
    value: float
    error: float
    gradient: Vector
    preconditioner: str
    sums: Mapping[str, NDArray[Any]]


class RoundLinearization:
    """Value and gradient of f at one theta, and its curvature matrices on the curvature sample.

    In the formulas, z(theta) are the n_L outputs of a row before the link, J = dz/dtheta is their Jacobian
    (n_L, n_params), l(z) is the loss of the row, g = dl/dz its gradient and Q = d²l/dz² its Hessian (n_L, n_L), which
    is positive semi-definite. E is the mean over the rows of the sample. P is the matrix of the penalty, diagonal with
    l2 for weights and 0 for biases.

    Parameters
    ----------
    objective : RoundObjective
        Objective that made it; users call :meth:`hfnumba.engine.RoundObjective.linearize`.
    point : Point
        Answers of the round at theta.

    Attributes
    ----------
    theta : ndarray, shape (n_params,)
        The point, a copy.
    value, error : float
        f over all rows (with its penalty), and the error rate.
    gradient : ndarray, shape (n_params,)
        Gradient of f over all rows.

    Notes
    -----
    The workers store the primal pass on the curvature sample as long as this object (or an operator of it) lives:
    :attr:`hfnumba.network.Network.primal_width` numbers a row, 2 (n_1 + … + n_L) for most activations.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba import ArrayObjective, Network
    >>> X, y = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    >>> network = Network([4, 3, 2])
    >>> lin = ArrayObjective(network, X, y).linearize(network.initialize(seed=0))
    >>> H, G = lin.hessian(), lin.gauss_newton()
    >>> v = np.ones(network.n_params, np.float32)
    >>> (H @ v).shape, bool(v @ (G @ v) >= 0)
    ((23,), True)
    """

    def __init__(self, objective: RoundObjective, point: Point) -> None:
        self.objective, self.point = objective, point
        self.theta = objective.vectors.live[point.name]
        self.value, self.error, self.gradient = point.value, point.error, point.gradient
        weakref.finalize(self, objective.vectors.release, point.name)

    def __repr__(self) -> str:
        rows = self.objective.n_rows if self.point.sample is None else self.point.sample.n_rows
        return (
            f"<{type(self).__name__}: f = {self.value:.6g}, {self.theta.size:,} parameters, curvature on {rows:,} rows>"
        )

    def hessian(self) -> CurvatureOperator:
        """Return the exact Hessian H = E[J'QJ + sum_k g_k d²z_k/dtheta²] + P on the curvature sample.

        Products are exact, by the R-operator (Pearlmutter 1994, "Fast exact multiplication by the Hessian"):
        Hv = d/de gradient(theta + e v) at e = 0. No matrix is formed. H is symmetric and may be indefinite.

        Returns
        -------
        CurvatureOperator
            Of order n_params. A product costs one round and 6 GEMMs a layer (2 for the first).
        """
        return CurvatureOperator(self, lambda theta, v, rows: Product(theta, v, True, rows))

    def gauss_newton(self) -> CurvatureOperator:
        """Return the generalised Gauss–Newton matrix G = E[J'QJ] + P on the curvature sample, positive semi-definite.

        It is the Hessian without the curvature of the network, g_k d²z_k/dtheta² (Schraudolph 2002, "Fast curvature
        matrix-vector products for second-order gradient descent"). With p the predicted probabilities, Q is
        diag(p) - pp' for softmax cross-entropy, diag(p (1 - p)) for sigmoid cross-entropy, and I for squared error.

        Returns
        -------
        CurvatureOperator
            Of order n_params. A product costs one round and 4 GEMMs a layer (2 for the first).
        """
        return CurvatureOperator(self, lambda theta, v, rows: Product(theta, v, False, rows))

    def fisher(self) -> CurvatureOperator:
        """Return the Fisher matrix F = E[J' E_t[gg'] J] + P, which is the Gauss–Newton matrix for all losses here.

        The inner expectation is over targets t that the network's outputs predict: classes with probabilities p, or
        values with variance 1. Then E_t[gg'] = Q (Martens 2020, "New insights and perspectives on the natural gradient
        method", section 9.2).

        Returns
        -------
        CurvatureOperator
            The result of :meth:`gauss_newton`, at the same cost.
        """
        return self.gauss_newton()

    def empirical_fisher(self) -> CurvatureOperator:
        """Return the empirical Fisher matrix E[J'gg'J] + P on the curvature sample.

        It is the mean of the outer products of the rows' gradients J'g. The targets are those of the data, so it is
        not the Fisher matrix (Kunstner, Balles and Hennig 2019, "Limitations of the empirical Fisher approximation").

        Returns
        -------
        CurvatureOperator
            Of order n_params. A product costs one round and 2 GEMMs a layer.
        """
        return CurvatureOperator(self, EmpiricalFisherProduct)

    def preconditioner(self, name: str, damping: float) -> LinearOperator:
        """Return the preconditioner on the curvature sample, near the inverse of B + damping·I. No round.

        Parameters
        ----------
        name : str
            "fisher" or "kfac": the one that :meth:`hfnumba.engine.RoundObjective.linearize` was asked for.
        damping : float
            Shift of the solver's matrix, > 0.

        Returns
        -------
        LinearOperator
            Symmetric positive definite, of order n_params.

        Raises
        ------
        UsageError
            If the linearization was asked for another one.
        """
        if name != self.point.preconditioner or name not in PRECONDITIONERS:
            raise UsageError(
                f"expected the preconditioner {self.point.preconditioner!r} that this linearization was asked for, "
                f"got {name!r}; give linearize the name"
            )
        f = self.objective
        penalty = f.dtype.type(f.l2) * f.network.weights_only(np.ones_like(self.theta)) if f.l2 else None
        return PRECONDITIONERS[name](damping=damping, penalty=penalty, **self.point.sums)


@dataclass(frozen=True, eq=False, repr=False)
class CurvatureOperator(Operator):
    """A curvature matrix on the curvature sample of a linearization, with the penalty's. A product costs one round.

    Attributes
    ----------
    linearization : RoundLinearization
        Linearization that it belongs to, and keeps alive.
    product : callable
        Returns the evaluation of a product from the names of theta and of the vector, and the sample.
    """

    linearization: RoundLinearization
    product: Callable[[str, str, RowSample | None], Evaluation]

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_params, n_params)``."""
        n = self.linearization.objective.n_params
        return n, n

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the products."""
        return self.linearization.objective.dtype

    def matvec(self, v: Vector) -> Vector:
        """Return the product with ``v`` (n_params,). One round."""
        return self._products([v])[0]

    def matmat(self, V: NDArray[Any]) -> NDArray[Any]:
        """Return the products with the columns of ``V`` (n_params, k), to the bits of :meth:`matvec`.

        A round takes 8 columns, or as many as have 8 MB in all, at least one; its cost in arithmetic is that of as
        many products.
        """
        columns = np.ascontiguousarray(V.T, self.dtype)
        step = min(_AT_ONCE, max(1, _AT_ONCE_BYTES // (columns.itemsize * self.shape[0])))
        product = np.empty(V.shape, self.dtype)
        for start in range(0, len(columns), step):
            for k, column in enumerate(self._products(list(columns[start : start + step])), start):
                product[:, k] = column
        return product

    def layer_blocks(self) -> tuple[SubmatrixOperator, ...]:
        """Return the diagonal block of each layer's parameters, weights before biases, from the first layer on.

        Returns
        -------
        tuple of SubmatrixOperator
            One for each layer. A product with a block costs as much as one with the whole matrix.
        """
        ends = np.cumsum([0, *((a + 1) * b for a, b in pairwise(self.linearization.objective.network.sizes))]).tolist()
        return tuple(SubmatrixOperator(self, start, stop) for start, stop in pairwise(ends))

    def _products(self, vectors: list[Vector]) -> list[Vector]:
        f, point = self.linearization.objective, self.linearization.point
        vectors = [f.checked(v) for v in vectors]
        names: list[str] = []
        try:
            for v in vectors:
                # One by one: if one fails, those before it are released.
                names.append(f.vectors.acquire(v))
            answers = f.evaluate(*[self.product(point.name, name, point.sample) for name in names])
        finally:
            for name in names:
                f.vectors.release(name)
        products: list[Vector] = [answer["product"] for answer in answers]
        if f.l2:
            for total, v in zip(products, vectors, strict=True):
                np.add(total, f.dtype.type(f.l2) * f.network.weights_only(v), out=total)
        return products
