"""Components of each second-order method: a matrix for the quadratic model, a solver, and a trust rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hfnumba.krylov.bicgstab import bicgstab
from hfnumba.krylov.cg import cg
from hfnumba.krylov.lanczos import lanczos
from hfnumba.krylov.metric import with_metric
from hfnumba.krylov.minres import minres
from hfnumba.krylov.result import KrylovResult
from hfnumba.krylov.steihaug import steihaug
from hfnumba.optim.trust import Damped, DampingCandidates, Radius, TrustRule

Matrix = Literal["exact", "gauss-newton", "hybrid"]

_DAMPED = "its steps are bounded by a damping"
_NOT_STEIHAUG = {
    "damping": "its steps are bounded by a trust radius",
}
_NOT_LANCZOS = {
    "radius": _DAMPED,
    "backtracking_ratio": "its candidates are steps of several dampings",
    "candidates": "its candidates are steps of several dampings",
}


@dataclass(frozen=True)
class SecondOrderMethod:
    """Matrix B of the model, solver of B x = -g, and rule that bounds its steps.

    Attributes
    ----------
    summary : str
        One line for help texts.
    matrix : {"exact", "gauss-newton", "hybrid"}
        Hessian, Gauss–Newton matrix, or the Gauss–Newton matrix in the iteration after a solve that met non-positive
        curvature and the Hessian otherwise.
    solver : callable
    default_iterations : int
        Number of solver iterations that cost about 10 products; see :class:`hfnumba.optim.hessian_free.HessianFree`.
    factored_iterations : int
        The same with the preconditioner "kfac", with which a few are enough.
    trust : TrustRule
    without : mapping of str to str
        Settings of :class:`hfnumba.optim.hessian_free.HessianFree` without a meaning for this method, and the reason.
    in_paper : bool
        Whether the paper compares this method.
    """

    summary: str
    matrix: Matrix
    solver: Callable[..., KrylovResult]
    default_iterations: int
    factored_iterations: int = 3
    trust: TrustRule = field(default_factory=Damped)
    without: Mapping[str, str] = field(default_factory=lambda: {"radius": _DAMPED})
    in_paper: bool = False


SECOND_ORDER_METHODS = {
    "hf-cg": SecondOrderMethod("exact Hessian, CG", "exact", cg, 10, in_paper=True),
    "gn-cg": SecondOrderMethod("Gauss–Newton matrix, CG", "gauss-newton", cg, 10, in_paper=True),
    "hybrid-cg": SecondOrderMethod(
        "exact Hessian, or the Gauss–Newton matrix after negative curvature, CG", "hybrid", cg, 10, in_paper=True
    ),
    "hf-bicgstab": SecondOrderMethod("exact Hessian, Bi-CG-STAB", "exact", bicgstab, 5, 2, in_paper=True),
    "hf-minres": SecondOrderMethod("exact Hessian, MINRES", "exact", minres, 10),
    "hf-steihaug": SecondOrderMethod(
        "exact Hessian, Steihaug's CG in a trust region", "exact", with_metric(steihaug), 10, 3, Radius(), _NOT_STEIHAUG
    ),
    "hf-lanczos": SecondOrderMethod(
        "absolute value of the exact Hessian on a Lanczos basis, five dampings compete",
        "exact",
        with_metric(lanczos),
        12,
        3,
        DampingCandidates(),
        _NOT_LANCZOS,
    ),
}
"""Rows of :data:`hfnumba.optim.methods.METHODS` that :class:`hfnumba.optim.hessian_free.HessianFree` implements."""
