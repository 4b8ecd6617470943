"""exp, expm1 of non-positive numbers, tanh, sigmoids, softplus and the normal distribution, in loops that vectorise.

For float32 these are polynomials after range reduction (libm's calls stop vectorisation and cost 10 to 50 times
more); for float64 they are libm's. :data:`ERROR_BOUNDS` has the largest relative errors of the float32 versions in
units of 2^-24 where the result is a normal number (sigmoid: below 2^-126 it may be 0); the tests check them. Those
of pairs of results hold for each of the two.

e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2. The Taylor polynomial of e^r - 1 of degree 7 has a relative
error under 2^-27 there. Infinities and NaN come out as IEEE 754 has them.

The normal distribution function at -x, x >= 0, is e^(-x^2/2) t Q(2t - 1) with t = 1 / (1 + 0.425 x), as in Abramowitz
and Stegun (1964, 7.1.26). Q is the polynomial of degree 9 with the smallest relative error on 0 <= t <= 1, 1.4 units of
2^-24, by Lawson's iteration on Chebyshev points.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from hfnumba.activations import exp, expm1_nonpositive, normal, sigmoid, sigmoids, softplus, tanh
from hfnumba.kernels.jit import OPTIONS, inlined, kernel

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

_N0, _N1, _N2, _N3, _N4 = map(_F, (2.96694188e-1, 1.72861149e-1, 4.31647820e-2, -9.01265940e-3, -5.79079308e-3))
_N5, _N6, _N7, _N8, _N9 = map(_F, (1.77889409e-3, 7.68439189e-4, -4.83687507e-4, -6.13551065e-5, 8.10823606e-5))
_N_SCALE, _SQRT_2PI_INVERSE = _F(0.425), _F(1.0 / math.sqrt(2.0 * math.pi))
# From here on the density is 0 in float32.
_NORMAL_MAX = _F(15.0)
_HIGH_BITS = np.int32(-(1 << 12))

ERROR_BOUNDS = {
    "exp": 2.0,
    "expm1_nonpositive": 2.0,
    "tanh": 3.0,
    "sigmoid": 3.0,
    "softplus": 5.0,
    "sigmoids": 4.0,
    "normal": 8.0,
}


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
def _sigmoids32(x: Any) -> Any:
    e = _exp32(-abs(x))
    larger = _ONE / (_ONE + e)
    smaller = e * larger
    # A NaN comes back in both.
    return (smaller, larger) if x < 0 else (larger, smaller)


@inlined
def _normal32(x: Any) -> Any:
    a = abs(x)
    a = _NORMAL_MAX if a > _NORMAL_MAX else a
    # a^2 = high^2 + (a - high)(a + high); the first square is exact, with 12 bits for high.
    high = bits_float(np.int32(float_bits(a) & _HIGH_BITS))
    rest = -_HALF * (a - high) * (a + high)
    e = _exp32(-_HALF * high * high)
    e = e + e * _exp_m1_reduced(rest)
    t = _ONE / (_ONE + _N_SCALE * a)
    u = (t + t) - _ONE
    tail = _N4 + u * (_N5 + u * (_N6 + u * (_N7 + u * (_N8 + u * _N9))))
    below = e * (t * (_N0 + u * (_N1 + u * (_N2 + u * (_N3 + u * tail)))))
    return (_ONE - below if x > 0 else below), e * _SQRT_2PI_INVERSE


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


@kernel
def _sigmoids64(x: Any) -> Any:
    return 1.0 / (1.0 + math.exp(-x)), 1.0 / (1.0 + math.exp(x))


@kernel
def _normal64(x: Any) -> Any:
    return math.erfc(-x / math.sqrt(2.0)) / 2.0, math.exp(-x * x / 2.0) / math.sqrt(2.0 * math.pi)


def _by_dtype(python: Any, single: Any, double: Any, options: dict[str, Any] = OPTIONS) -> None:
    """Compiled code that calls ``python`` gets the float32 or the float64 version, by the argument's type."""

    @overload(python, jit_options=options)
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
_by_dtype(sigmoids, _sigmoids32, _sigmoids64)
_by_dtype(normal, _normal32, _normal64, OPTIONS | {"forceinline": True})
