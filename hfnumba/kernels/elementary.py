"""exp, expm1 of non-positive numbers, tanh, sigmoid, log1p on [0, 1] and softplus, in loops that vectorise.

For float32 these are polynomials after range reduction (libm's calls stop vectorisation and cost 10 to 50 times
more); for float64 they are libm's. :data:`ERROR_BOUNDS` has the largest relative errors of the float32 versions in
units of 2^-24 where the result is a normal number (sigmoid: below 2^-126 it may be 0); the tests check them.

e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2. The Taylor polynomial of e^r - 1 of degree 7 has a relative
error under 2^-27 there. Infinities and NaN come out as IEEE 754 has them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from hfnumba.activations import exp, expm1_nonpositive, sigmoid, softplus, tanh
from hfnumba.kernels.jit import OPTIONS, kernel

_F = np.float32
_LOG2E = _F(1.4426950408889634)
# ln 2 in two parts; the first has trailing zero bits, so that n times it is exact.
_LN2_HIGH, _LN2_LOW = _F(0.693359375), _F(-2.12194440054690583e-4)
# Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits of the sum.
_ROUNDER = _F(12582912.0)
_ROUNDER_BITS = np.int32(0x4B400000)
_ONE, _TWO, _HALF = _F(1.0), _F(2.0), _F(0.5)
_C3, _C4, _C5, _C6, _C7 = (_F(1.0 / math.factorial(k)) for k in range(3, 8))
_L1, _L2, _L3, _L4, _L5, _L6 = (_F(1.0 / (2 * k + 1)) for k in range(1, 7))
_EXP_MIN, _EXP_MAX = _F(-104.0), _F(89.0)
# Below these e^x - 1 rounds to -1, so that the clamp changes no result.
_EXPM1_MIN = _F(-20.0)

ERROR_BOUNDS = {"exp": 2.0, "expm1_nonpositive": 2.0, "tanh": 3.0, "sigmoid": 3.0, "softplus": 5.0}


def _reinterpret(source: Any, target: Any) -> Any:
    @intrinsic
    def cast(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], context.get_value_type(target))

        return (target(source), codegen) if value == source else None

    return cast


float_bits = _reinterpret(types.float32, types.int32)
bits_float = _reinterpret(types.int32, types.float32)


@kernel
def _exp_m1_reduced(r: Any) -> Any:
    """e^r - 1 for |r| <= ln 2 / 2, without cancellation."""
    tail = _C3 + r * (_C4 + r * (_C5 + r * (_C6 + r * _C7)))
    return r + r * r * (_HALF + r * tail)


@kernel
def _power_of_two(n: Any) -> Any:
    """2^n from its exponent bits, for -126 <= n <= 127."""
    return bits_float(np.int32((n + np.int32(127)) << np.int32(23)))


@kernel
def _exp32(x: Any) -> Any:
    # Written so that a NaN fails both comparisons and passes through.
    x = _EXP_MIN if x < _EXP_MIN else x
    x = _EXP_MAX if x > _EXP_MAX else x
    shifted = x * _LOG2E + _ROUNDER
    n = shifted - _ROUNDER
    q = _exp_m1_reduced((x - n * _LN2_HIGH) - n * _LN2_LOW)
    # Two factors: 2^n alone would leave the exponent's range for subnormal results and just below overflow.
    k = np.int32(float_bits(shifted) - _ROUNDER_BITS)
    half = np.int32(k >> np.int32(1))
    return (_ONE + q) * _power_of_two(half) * _power_of_two(np.int32(k - half))


@kernel
def _expm1_nonpositive32(x: Any) -> Any:
    x = _EXPM1_MIN if x < _EXPM1_MIN else x
    shifted = x * _LOG2E + _ROUNDER
    n = shifted - _ROUNDER
    q = _exp_m1_reduced((x - n * _LN2_HIGH) - n * _LN2_LOW)
    scale = _power_of_two(np.int32(float_bits(shifted) - _ROUNDER_BITS))
    return scale * q + (scale - _ONE)


@kernel
def _tanh32(x: Any) -> Any:
    # tanh|x| = -E / (E + 2), E = e^(-2|x|) - 1: exact near 0, where 1 - 2/(e^2x + 1) would cancel.
    e = _expm1_nonpositive32(-_TWO * abs(x))
    t = -e / (e + _TWO)
    return -t if x < 0 else t


@kernel
def _sigmoid32(x: Any) -> Any:
    return _ONE / (_ONE + _exp32(-x))


@kernel
def _log1p_unit32(t: Any) -> Any:
    # log(1 + t) = 2 artanh(z), z = t / (2 + t) <= 1/3: seven odd terms leave a relative error of 2^-26.
    z = t / (_TWO + t)
    u = z * z
    tail = _L1 + u * (_L2 + u * (_L3 + u * (_L4 + u * (_L5 + u * _L6))))
    return _TWO * (z + z * u * tail)


@kernel
def _softplus32(x: Any) -> Any:
    positive = x if x > 0 else _F(0.0)
    # A NaN has to survive: it fails x > 0, and comes back through the exponential.
    return positive + _log1p_unit32(_exp32(-abs(x)))


@kernel
def _softplus64(x: Any) -> Any:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@kernel
def _sigmoid64(x: Any) -> Any:
    return 1.0 / (1.0 + math.exp(-x))


def _by_dtype(python: Any, single: Any, double: Any) -> None:
    """Compiled code that calls ``python`` gets the float32 or the float64 version, by the argument's type."""

    @overload(python, jit_options=OPTIONS)
    def choose(x: Any) -> Any:
        function = single if x == types.float32 else double

        # Numba compares the two signatures, annotations included.
        def compiled(x: Any) -> Any:
            return function(x)

        return compiled


_by_dtype(exp, _exp32, math.exp)
_by_dtype(expm1_nonpositive, _expm1_nonpositive32, math.expm1)
_by_dtype(tanh, _tanh32, math.tanh)
_by_dtype(sigmoid, _sigmoid32, _sigmoid64)
_by_dtype(softplus, _softplus32, _softplus64)
