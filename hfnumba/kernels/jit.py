"""Compilation of kernels: decorators and their flags."""

from __future__ import annotations

from typing import Any

from numba import njit

# "contract" (fused multiply-add) preserves NaN and infinities; the flags of fastmath=True do not, so it is not used.
# error_model="numpy" makes 1/0 an infinity instead of an exception, whose branch would stop vectorisation.
# A function that C would call is compiled beside each one unless that is declined; nothing calls it.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "no_cfunc_wrapper": True,
}


def kernel(function: Any) -> Any:
    """Compile on first call, release the GIL, cache on disk."""
    return njit(**OPTIONS)(function)


def reduction(function: Any) -> Any:
    """As :func:`kernel`, for bare sums: reassociation lets the loop run in vector lanes (NaN is still NaN)."""
    return njit(**OPTIONS | {"fastmath": {"contract", "reassoc"}})(function)


def inlined(function: Any) -> Any:
    """As :func:`kernel`, always part of its caller: a long function that is called would stop vectorisation."""
    return njit(**OPTIONS | {"forceinline": True})(function)
