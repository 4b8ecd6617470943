"""The linearization of an objective at one theta, and the operators on its curvature sample: one round a product."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.evaluations import Product
from hfnumba.errors import UsageError
from hfnumba.krylov.operator import LinearOperator, Operator
from hfnumba.krylov.preconditioners import PRECONDITIONERS
from hfnumba.objective import RowSample, Vector

if TYPE_CHECKING:
    from hfnumba.engine.objective import RoundObjective


class Point(NamedTuple):
    """What a linearization is made of: theta's name in the rounds, and the answers of its own round.

    ``sums`` are those that the preconditioner of that name is made of.
    """

    name: str
    sample: RowSample | None
    value: float
    error: float
    gradient: Vector
    preconditioner: str
    sums: Mapping[str, NDArray[Any]]


class RoundLinearization:
    """See :class:`hfnumba.objective.Linearization`.

    The workers store the primal pass on the curvature sample as long as this object (or an operator of it) lives:
    :attr:`hfnumba.network.Network.primal_width` numbers a row, 2 (n_1 + … + n_L) for most activations.
    """

    def __init__(self, objective: RoundObjective, point: Point) -> None:
        self.objective, self.point = objective, point
        self.theta = objective.vectors.live[point.name]
        self.value, self.error, self.gradient = point.value, point.error, point.gradient
        weakref.finalize(self, objective.vectors.release, point.name)

    def hessian(self) -> CurvatureOperator:
        """Return the exact Hessian on the curvature sample. A product: one round, 6 GEMMs a layer (2 for the first)."""
        return CurvatureOperator(self, exact=True)

    def gauss_newton(self) -> CurvatureOperator:
        """Return the Gauss-Newton matrix J'QJ (Schraudolph 2002) on the curvature sample, positive semi-definite.

        A product costs one round and 4 GEMMs a layer (2 for the first).
        """
        return CurvatureOperator(self, exact=False)

    def preconditioner(self, name: str, damping: float) -> LinearOperator:
        """Return the preconditioner that was named when this was made; no round."""
        if name != self.point.preconditioner or name not in PRECONDITIONERS:
            raise UsageError(
                f"expected the preconditioner {self.point.preconditioner!r} that this linearization was asked for, "
                f"got {name!r}; give linearize the name"
            )
        f = self.objective
        penalty = f.dtype.type(f.l2) * f.network.weights_only(np.ones_like(self.theta)) if f.l2 else None
        return PRECONDITIONERS[name](damping=damping, penalty=penalty, **self.point.sums)


@dataclass(frozen=True, eq=False)
class CurvatureOperator(Operator):
    """The Hessian (``exact``) or the Gauss-Newton matrix on the curvature sample of a linearization.

    A product costs one round.
    """

    linearization: RoundLinearization
    exact: bool

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
        """Multiply with ``v`` (n_params,). One round."""
        f, point = self.linearization.objective, self.linearization.point
        v = f.checked(v)
        with f.vectors.using(v) as name:
            (answer,) = f.evaluate(Product(point.name, name, self.exact, point.sample))
        product: Vector = answer["product"]
        if f.l2:
            product += f.dtype.type(f.l2) * f.network.weights_only(v)
        return product
