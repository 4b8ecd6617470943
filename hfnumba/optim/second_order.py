"""What each second-order method is made of: a matrix for the quadratic model, a solver, and a rule of trust."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hfnumba.krylov.bicgstab import bicgstab
from hfnumba.krylov.cg import cg
from hfnumba.krylov.lanczos import lanczos
from hfnumba.krylov.minres import minres
from hfnumba.krylov.result import KrylovResult
from hfnumba.krylov.steihaug import steihaug
from hfnumba.optim.trust import Damped, Priced, Radius, TrustRule

_DAMPED = "its steps are bounded by a damping"
_OF_STEIHAUG = {
    "damping": "its steps are bounded by a trust radius",
    "preconditioner": "the trust region would be an ellipsoid, and there is no damping to make the preconditioner of",
}
_OF_LANCZOS = {
    "radius": _DAMPED,
    "backtracking_ratio": "its candidates are steps of several dampings",
    "candidates": "its candidates are steps of several dampings",
    "preconditioner": "the absolute value of a scaled matrix is not that of the matrix, and its dampings share a basis",
}


@dataclass(frozen=True)
class Composition:
    """The matrix B of the model, the solver of B x = -g, and how far its answer is trusted.

    Attributes
    ----------
    curvature : {"exact", "gauss-newton", "hybrid"}
    solver : callable
    default_iterations : int
        Solver iterations that cost about 10 products; see :class:`hfnumba.optim.hessian_free.HessianFree`.
    trust : TrustRule
    without : mapping of str to str
        Settings of :class:`hfnumba.optim.hessian_free.HessianFree` that mean nothing to this method, and why.
    """

    curvature: Literal["exact", "gauss-newton", "hybrid"]
    solver: Callable[..., KrylovResult]
    default_iterations: int
    trust: TrustRule = field(default_factory=Damped)
    without: Mapping[str, str] = field(default_factory=lambda: {"radius": _DAMPED})


COMPOSITIONS = {
    "hf-cg": Composition("exact", cg, 10),
    "gn-cg": Composition("gauss-newton", cg, 10),
    "hybrid-cg": Composition("hybrid", cg, 10),
    "hf-bicgstab": Composition("exact", bicgstab, 5),
    "hf-minres": Composition("exact", minres, 10),
    "hf-steihaug": Composition("exact", steihaug, 10, Radius(), _OF_STEIHAUG),
    "hf-lanczos": Composition("exact", lanczos, 12, Priced(), _OF_LANCZOS),
}
