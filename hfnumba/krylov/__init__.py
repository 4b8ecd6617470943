"""Krylov solvers for symmetric operators, definite or not, that are known by their products. NumPy only."""

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
