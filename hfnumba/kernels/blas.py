"""Single-threaded GEMM and rank-k updates of SciPy's BLAS and LAPACK, callable from compiled code, row-major.

The addresses of ``sgemm``/``dgemm`` come from :mod:`scipy.linalg.cython_blas`, those of ``ssfrk``/``dsfrk`` from
:mod:`scipy.linalg.cython_lapack`; they are declared as external symbols. Of the ways to reach BLAS from compiled code
this is the one that Numba can still cache on disk.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic, overload
from threadpoolctl import ThreadpoolController

from hfnumba.kernels.jit import OPTIONS

_NO_TRANSPOSE, _TRANSPOSE, _LOWER = np.int8(ord("N")), np.int8(ord("T")), np.int8(ord("L"))


def _external(module: str, name: str, n_arguments: int) -> Any:
    """A Fortran routine as an external symbol; its arguments are pointers, passed as integers of their size."""
    symbol = f"hfnumba_{name}"
    llvmlite.binding.add_symbol(symbol, get_cython_function_address(f"scipy.linalg.{module}", name))
    return types.ExternalFunction(symbol, types.void(*[types.intp] * n_arguments))


_sgemm = _external("cython_blas", "sgemm", 13)
_dgemm = _external("cython_blas", "dgemm", 13)
_ssfrk = _external("cython_lapack", "ssfrk", 10)
_dsfrk = _external("cython_lapack", "dsfrk", 10)


@intrinsic
def _address(typingctx: Any, value: Any) -> Any:
    """The address of a stack slot that holds ``value``: GEMM's scalar arguments without an allocation."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        slot = cgutils.alloca_once_value(builder, args[0])
        return builder.ptrtoint(slot, context.get_value_type(types.intp))

    return types.intp(value), codegen


# Kernels of OpenBLAS that treat all rows of a block of 48, 96 or 192 rows in the same way, in both precisions. The
# sgemm of Haswell and Zen does not: of 12 rows it sums the first 6 in another order than the rest.
_UNIFORM_KERNELS = frozenset({"Nehalem", "Sandybridge", "SkylakeX"})
_UNIFORM_ROWS, _SMALL_ROWS = 96, 8


def _libraries() -> list[dict[str, Any]]:
    return [library for library in ThreadpoolController().info() if library["user_api"] == "blas"]


def arithmetic() -> str:
    """Processor compiled for, and the loaded BLAS with the kernels it chose: what decides the bits beside versions."""
    names = {f"{lib['internal_api']} {lib['version']} for {lib.get('architecture', 'any')}" for lib in _libraries()}
    return ", ".join([llvmlite.binding.get_host_cpu_name(), *sorted(names)])


@functools.cache
def uniform_rows() -> int:
    """Number of rows of A for which a row of A B has the same bits in every place of A; 96 where possible, else 8.

    It depends on the BLAS. Eight rows hold for all OpenBLAS kernels that the tests run under (Prescott, Nehalem,
    Sandybridge, Haswell, Zen, SkylakeX), as they are two tiles of four or one of eight; larger blocks are faster.
    """
    chosen = {library.get("architecture") for library in _libraries()}
    return _UNIFORM_ROWS if chosen and chosen <= _UNIFORM_KERNELS else _SMALL_ROWS


def gemm(transpose_a: bool, transpose_b: bool, a: Any, b: Any, beta: float, c: Any) -> None:
    """C = op(A) op(B) + beta C for C-contiguous matrices of one dtype; with beta = 0, C is written, not read."""
    product = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
    c[...] = product if beta == 0.0 else product + beta * c


@overload(gemm, jit_options=OPTIONS)
def _gemm_compiled(transpose_a: Any, transpose_b: Any, a: Any, b: Any, beta: Any, c: Any) -> Any:
    call = _sgemm if a.dtype == types.float32 else _dgemm
    scalar = np.float32 if a.dtype == types.float32 else np.float64

    def compiled(transpose_a: Any, transpose_b: Any, a: Any, b: Any, beta: Any, c: Any) -> None:
        # Fortran sees each row-major matrix transposed: C' = op(B)' op(A)', so A and B change places.
        depth = a.shape[0] if transpose_a else a.shape[1]
        call(
            _address(_TRANSPOSE if transpose_b else _NO_TRANSPOSE),
            _address(_TRANSPOSE if transpose_a else _NO_TRANSPOSE),
            _address(np.int32(c.shape[1])),
            _address(np.int32(c.shape[0])),
            _address(np.int32(depth)),
            _address(scalar(1.0)),
            b.ctypes.data,
            _address(np.int32(b.shape[1])),
            a.ctypes.data,
            _address(np.int32(a.shape[1])),
            _address(scalar(beta)),
            c.ctypes.data,
            _address(np.int32(c.shape[1])),
        )

    return compiled


def add_outer_products(a: Any, beta: float, c: Any) -> None:
    """C = A'A + beta C for a C-contiguous A (k, n) and a symmetric C in rectangular full packed format.

    ``c`` has the n (n + 1) / 2 numbers of C's lower triangle in the order of LAPACK's RFP format (TRANSR = 'N'), which
    ``scipy.linalg.lapack.stfttr`` turns into a square matrix. It costs k n² operations, half of a GEMM's.
    """
    from scipy.linalg import lapack  # noqa: PLC0415 - slow to import, and compiled code does not need it

    update = lapack.ssfrk if c.dtype == np.float32 else lapack.dsfrk
    c[...] = update(a.shape[1], a.shape[0], 1.0, a.T, beta, np.zeros_like(c) if beta == 0.0 else c, uplo="L")


@overload(add_outer_products, jit_options=OPTIONS)
def _add_outer_products_compiled(a: Any, beta: Any, c: Any) -> Any:
    call = _ssfrk if a.dtype == types.float32 else _dsfrk
    scalar = np.float32 if a.dtype == types.float32 else np.float64

    def compiled(a: Any, beta: Any, c: Any) -> None:
        # Fortran sees the row-major A as its transpose, (n, k): C = A'A needs no transposition there.
        call(
            _address(_NO_TRANSPOSE),
            _address(_LOWER),
            _address(_NO_TRANSPOSE),
            _address(np.int32(a.shape[1])),
            _address(np.int32(a.shape[0])),
            _address(scalar(1.0)),
            a.ctypes.data,
            _address(np.int32(a.shape[1])),
            _address(scalar(beta)),
            c.ctypes.data,
        )

    return compiled


@functools.cache
def limit_blas_threads() -> None:
    """Set every BLAS of this process to one thread, once, for the life of the process.

    Row blocks run in parallel already, and BLAS threads inside them made everything several times slower. In the
    process of the optimiser the bits of a product or a decomposition would depend on the number of threads.
    """
    ThreadpoolController().limit(limits=1, user_api="blas")
