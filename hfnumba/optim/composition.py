"""What each second-order method is made of: a matrix for the quadratic model, and a solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hfnumba.krylov.bicgstab import bicgstab
from hfnumba.krylov.cg import cg
from hfnumba.krylov.result import KrylovResult


@dataclass(frozen=True)
class Composition:
    """The matrix B of the model, and the solver of (B + damping·I) x = -g.

    Attributes
    ----------
    curvature : {"exact", "gauss-newton", "hybrid"}
    solver : callable
    default_iterations : int
        Solver iterations that cost about 10 products.
    """

    curvature: Literal["exact", "gauss-newton", "hybrid"]
    solver: Callable[..., KrylovResult]
    default_iterations: int


COMPOSITIONS = {
    "hf-cg": Composition("exact", cg, 10),
    "gn-cg": Composition("gauss-newton", cg, 10),
    "hybrid-cg": Composition("hybrid", cg, 10),
    "hf-bicgstab": Composition("exact", bicgstab, 5),
}
