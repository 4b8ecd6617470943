"""Krylov solvers for symmetric operators, definite or indefinite, given only through matrix-vector products.

NumPy only.

A solver is called as ``solver(A, b, *, x0, rtol, maxiter, …)`` and returns a :class:`KrylovResult`. Parameters that
solvers share are described once, at :func:`cg`; the other docstrings describe the differences.
"""

from hfnumba.krylov.bicgstab import bicgstab
from hfnumba.krylov.cg import cg
from hfnumba.krylov.estimates import Estimate
from hfnumba.krylov.function_operator import FunctionOperator, as_operator
from hfnumba.krylov.lanczos import lanczos
from hfnumba.krylov.linear_operator import LinearOperator
from hfnumba.krylov.minres import minres
from hfnumba.krylov.operator import Operator, shifted
from hfnumba.krylov.result import CurvedDirection, Iterate, KrylovResult, KrylovStatus
from hfnumba.krylov.spectrum import spectrum
from hfnumba.krylov.spectrum_result import Spectrum
from hfnumba.krylov.steihaug import steihaug
from hfnumba.krylov.stopping import RelativeProgress
from hfnumba.krylov.structured import BlockDiagonalOperator, DiagonalOperator, KroneckerOperator
from hfnumba.krylov.submatrix import SubmatrixOperator

__all__ = [
    "BlockDiagonalOperator",
    "CurvedDirection",
    "DiagonalOperator",
    "Estimate",
    "FunctionOperator",
    "Iterate",
    "KroneckerOperator",
    "KrylovResult",
    "KrylovStatus",
    "LinearOperator",
    "Operator",
    "RelativeProgress",
    "Spectrum",
    "SubmatrixOperator",
    "as_operator",
    "bicgstab",
    "cg",
    "lanczos",
    "minres",
    "shifted",
    "spectrum",
    "steihaug",
]
