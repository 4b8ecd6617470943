"""LAPACK routines of SciPy that release the interpreter's lock, so that threads can factor matrices side by side.

SciPy's own wrappers hold the lock. The routines are the same: their addresses come from
:mod:`scipy.linalg.cython_lapack` and :mod:`scipy.linalg.cython_blas`, and ctypes releases the lock for a call.
Matrices are in Fortran order, float32 or float64.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOWER, _NORMAL, _NOT_UNIT = b"L", b"N", b"N"
_MARGIN = 0.01
"""Error of an explicit inverse, over its smallest eigenvalue, up to which it is used, by a bound of the condition."""


class OperationCount:
    """Floating-point operations of the routines of this module, in this process so far; measurements take differences.

    Attributes
    ----------
    total : int
    """

    def __init__(self) -> None:
        self.total, self._lock = 0, threading.Lock()

    def add(self, n: int) -> None:
        """Count n operations."""
        with self._lock:
            self.total += n


OPERATIONS = OperationCount()


@functools.cache
def _routine(module: str, name: str, n_arguments: int) -> Callable[..., None]:
    from scipy.linalg import cython_blas, cython_lapack  # noqa: PLC0415 - slow to import

    capsule = {"blas": cython_blas, "lapack": cython_lapack}[module].__pyx_capi__[name]
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address = api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)(address)


def _prefix(array: NDArray[Any]) -> str:
    return "s" if array.dtype == np.float32 else "d"


def _integer(number: int) -> Any:
    return ctypes.byref(ctypes.c_int(number))


def cholesky(matrix: NDArray[Any]) -> bool:
    """Replace the lower triangle of a symmetric ``matrix`` (n, n) by its Cholesky factor L; n³/3 operations.

    Returns
    -------
    bool
        Whether the matrix is positive definite to rounding; if not, its contents are useless.
    """
    n, info = len(matrix), ctypes.c_int()
    OPERATIONS.add(n**3 // 3)
    _routine("lapack", f"{_prefix(matrix)}potrf", 5)(
        ctypes.c_char_p(_LOWER), _integer(n), matrix.ctypes.data, _integer(max(1, n)), ctypes.byref(info)
    )
    return info.value == 0


def inverse(factor: NDArray[Any]) -> NDArray[Any] | None:
    """Return the lower triangle of (LL')⁻¹ for a Cholesky factor L (n, n) in the lower triangle; 2n³/3 operations.

    What is above the diagonal is that of ``factor``. None if LL' is so ill-conditioned that rounding may make the
    inverse indefinite, as triangular solves do not. The diagonal of L gives a lower bound of the condition number.
    """
    diagonal = factor.diagonal()
    bound = float(diagonal.max(initial=0) / diagonal.min(initial=np.inf)) ** 2
    # Over the norm of the inverse, its smallest eigenvalue is 1 / condition, and its error about eps · condition.
    if not bound**2 * np.finfo(factor.dtype).eps < _MARGIN:
        return None
    n, info, inverted = len(factor), ctypes.c_int(), factor.copy(order="F")
    OPERATIONS.add(2 * n**3 // 3)
    _routine("lapack", f"{_prefix(factor)}potri", 5)(
        ctypes.c_char_p(_LOWER), _integer(n), inverted.ctypes.data, _integer(max(1, n)), ctypes.byref(info)
    )
    return inverted if info.value == 0 else None


def unpack(packed: NDArray[Any], square: NDArray[Any]) -> None:
    """Write the lower triangle of a matrix in rectangular full packed format into that of ``square``, in place.

    Parameters
    ----------
    packed : ndarray, shape (n (n + 1) / 2,), contiguous
    square : ndarray, shape (n, n), in Fortran order or the leading part of such a matrix
        Its upper triangle stays as it is.
    """
    n, info = len(square), ctypes.c_int()
    _routine("lapack", f"{_prefix(packed)}tfttr", 7)(
        ctypes.c_char_p(_NORMAL),
        ctypes.c_char_p(_LOWER),
        _integer(n),
        packed.ctypes.data,
        square.ctypes.data,
        _integer(_leading(square)),
        ctypes.byref(info),
    )


def solve_triangular(factor: NDArray[Any], right: NDArray[Any], *, side: str, transpose: bool) -> None:
    """Replace ``right`` (m, k) by op(L)⁻¹ right (``side`` "L") or right op(L)⁻¹ ("R"), in place.

    Parameters
    ----------
    factor : ndarray, shape (n, n)
        L in the lower triangle; n = m or k by the side.
    right : ndarray, shape (m, k), in Fortran order, or some rows and columns of such a matrix
    side : {"L", "R"}
    transpose : bool
        Whether op(L) is L'.
    """
    _triangular("trsm", factor, right, side, transpose)


def multiply_triangular(factor: NDArray[Any], right: NDArray[Any], *, side: str, transpose: bool) -> None:
    """Replace ``right`` (m, k) by op(L) right or right op(L), in place; see :func:`solve_triangular`."""
    _triangular("trmm", factor, right, side, transpose)


def multiply_symmetric(matrix: NDArray[Any], right: NDArray[Any], out: NDArray[Any], *, side: str) -> None:
    """Write matrix @ right (``side`` "L") or right @ matrix ("R") into ``out``.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        A symmetric matrix, in the lower triangle; n = m or k by the side.
    right, out : ndarray, shape (m, k), in Fortran order, or some rows and columns of such matrices
    side : {"L", "R"}
    """
    m, k = right.shape
    OPERATIONS.add(2 * m * k * len(matrix))
    number = ctypes.c_float if right.dtype == np.float32 else ctypes.c_double
    one, zero = number(1.0), number(0.0)
    _routine("blas", f"{_prefix(right)}symm", 12)(
        ctypes.c_char_p(side.encode()),
        ctypes.c_char_p(_LOWER),
        _integer(m),
        _integer(k),
        ctypes.byref(one),
        matrix.ctypes.data,
        _integer(max(1, len(matrix))),
        right.ctypes.data,
        _integer(_leading(right)),
        ctypes.byref(zero),
        out.ctypes.data,
        _integer(_leading(out)),
    )


def _triangular(routine: str, factor: NDArray[Any], right: NDArray[Any], side: str, transpose: bool) -> None:
    m, k = right.shape
    OPERATIONS.add(m * k * len(factor))
    one = (ctypes.c_float if right.dtype == np.float32 else ctypes.c_double)(1.0)
    _routine("blas", f"{_prefix(right)}{routine}", 11)(
        ctypes.c_char_p(side.encode()),
        ctypes.c_char_p(_LOWER),
        ctypes.c_char_p(b"T" if transpose else b"N"),
        ctypes.c_char_p(_NOT_UNIT),
        _integer(m),
        _integer(k),
        ctypes.byref(one),
        factor.ctypes.data,
        _integer(max(1, len(factor))),
        right.ctypes.data,
        _integer(_leading(right)),
    )


def _leading(matrix: NDArray[Any]) -> int:
    """Return the distance of two columns in memory, in elements."""
    return max(1, len(matrix), matrix.strides[1] // matrix.itemsize)
