"""Krylov solvers for symmetric operators, definite or not, that are known by their products. NumPy only.

A solver is called as ``solver(A, b, *, x0, rtol, maxiter, …)`` and returns a :class:`KrylovResult`. The parameters that
solvers share are described once, at :func:`cg`; the others say where they differ.
"""

from hfnumba.krylov.bicgstab import bicgstab
from hfnumba.krylov.cg import cg
from hfnumba.krylov.lanczos import lanczos
from hfnumba.krylov.minres import minres
from hfnumba.krylov.operator import FunctionOperator, LinearOperator, as_operator, shifted
from hfnumba.krylov.result import CurvedDirection, Iterate, KrylovResult, KrylovStatus
from hfnumba.krylov.steihaug import steihaug
from hfnumba.krylov.stopping import RelativeProgress

__all__ = [
    "CurvedDirection",
    "FunctionOperator",
    "Iterate",
    "KrylovResult",
    "KrylovStatus",
    "LinearOperator",
    "RelativeProgress",
    "as_operator",
    "bicgstab",
    "cg",
    "lanczos",
    "minres",
    "shifted",
    "steihaug",
]
