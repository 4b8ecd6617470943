"""Activations and their derivatives over a block of rows.

For most activations the derivatives are functions of the value. With a = phi(z), phi'(z) and the ratio
r = phi''(z) / phi'(z) are

=========  ============  ========
phi        phi'          r
=========  ============  ========
identity   1             0
relu       [a > 0]       0
tanh       1 - a^2       -2a
sigmoid    a (1 - a)     1 - 2a
softplus   1 - e^-a      e^-a
=========  ============  ========

so that z need not be stored, nor phi' e and phi'' e apart: with delta = phi' e, phi'' e = r delta.
The second derivative of relu is taken as 0 everywhere: its exact Hessian has only the curvature between layers.

Activations that are not monotone have neither: two z have the same value, and r has a pole where phi' is 0. For these
:func:`activate_with_derivatives` computes value and derivatives at once, which share their exponential, and the primal
pass stores phi' and phi'' e beside value and delta: 4 numbers a unit instead of 2 (:func:`numbers_per_unit`). The other
functions take phi' and phi'' e in place of value and delta, so that they only multiply. They are, with the
distribution function P and the density p of the standard normal distribution (Hendrycks and Gimpel 2016), and with
s = sigmoid(z) (Elfwing, Uchibe and Doya 2017):

=========  ============  ==================  ==============================
name       phi           phi'                phi''
=========  ============  ==================  ==============================
gelu       z P(z)        P(z) + z p(z)       (2 - z^2) p(z)
silu       z s           s + z s (1 - s)     s (1 - s) (2 + z (1 - 2s))
=========  ============  ==================  ==============================

This is plain Python, so that the names are there without Numba; :mod:`hfnumba.kernels.activations` compiles it. A new
activation is a name in :data:`ACTIVATIONS` and a branch in each function: before GELU if its derivatives are functions
of its value, else after it, with a branch in :func:`activate_with_derivatives` alone. Elementary functions are called
by the names below, which compiled code replaces by those of :mod:`hfnumba.kernels.elementary`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ACTIVATIONS = ("tanh", "sigmoid", "relu", "softplus", "identity", "gelu", "silu")
TANH, SIGMOID, RELU, SOFTPLUS, IDENTITY, GELU, SILU = range(len(ACTIVATIONS))
OTHER_NAMES = {"linear": "identity"}
"""Other names of activations."""


def numbers_per_unit(code: int) -> int:
    """Return how many numbers a unit has in the primal pass: 2, or 4 where derivatives do not follow from the value."""
    return 4 if code >= GELU else 2


def exp(x: Any) -> Any:
    """e^x."""
    return np.exp(x)


def expm1_nonpositive(x: Any) -> Any:
    """e^x - 1 for x <= 0."""
    return np.expm1(x)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return np.tanh(x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + np.exp(-x))


def softplus(x: Any) -> Any:
    """log(1 + e^x)."""
    return np.logaddexp(0.0, x)


def sigmoids(x: Any) -> Any:
    """1 / (1 + e^-x) and 1 / (1 + e^x), each without cancellation."""
    return 1.0 / (1.0 + np.exp(-x)), 1.0 / (1.0 + np.exp(x))


def normal(x: Any) -> Any:
    """Distribution function and density of the standard normal distribution."""
    return math.erfc(-x / math.sqrt(2.0)) / 2.0, math.exp(-x * x / 2.0) / math.sqrt(2.0 * math.pi)


def activate(code: int, z: Any, bias: Any) -> None:
    """z <- phi(z + bias), in place; z (rows, n), bias (n,)."""
    rows, n = z.shape
    for i in range(rows):
        row = z[i]
        if code == TANH:
            for j in range(n):
                row[j] = tanh(row[j] + bias[j])
        elif code == SIGMOID:
            for j in range(n):
                row[j] = sigmoid(row[j] + bias[j])
        elif code == SOFTPLUS:
            for j in range(n):
                row[j] = softplus(row[j] + bias[j])
        elif code == RELU:
            for j in range(n):
                t = row[j] + bias[j]
                # Not max(t, 0), which could turn a NaN into 0.
                row[j] = t * 0 if t < 0 else t
        else:
            for j in range(n):
                row[j] = row[j] + bias[j]


def activate_with_derivatives(code: int, z: Any, bias: Any, first: Any, second: Any) -> None:
    """z <- phi(z + bias), first <- phi'(z + bias), second <- phi''(z + bias); all (rows, n) but the bias (n,).

    For the activations with 4 numbers a unit.
    """
    rows, n = z.shape
    for i in range(rows):
        row, f, s = z[i], first[i], second[i]
        if code == GELU:
            for j in range(n):
                t = row[j] + bias[j]
                below, density = normal(t)
                slope = t * density
                row[j] = t * below
                f[j] = below + slope
                # Not (2 - t^2) p, where t^2 could overflow beside a density of 0.
                s[j] = 2 * density - t * slope
        else:
            for j in range(n):
                t = row[j] + bias[j]
                p, q = sigmoids(t)
                row[j] = t * p
                f[j] = p + t * p * q
                s[j] = p * q * (2 + t * (q - p))


def multiply(second: Any, e: Any) -> None:
    """second <- phi''(z) e, in place, from second = phi''(z); both (rows, n)."""
    rows, n = e.shape
    for i in range(rows):
        s, y = second[i], e[i]
        for j in range(n):
            s[j] = s[j] * y[j]


def times_derivative(code: int, a: Any, e: Any) -> None:
    """e <- phi'(z) e, in place, from a = phi(z), or phi'(z) with 4 numbers a unit; both (rows, n)."""
    rows, n = a.shape
    for i in range(rows):
        x, y = a[i], e[i]
        if code == TANH:
            for j in range(n):
                y[j] = y[j] * (1 - x[j] * x[j])
        elif code == SIGMOID:
            for j in range(n):
                y[j] = y[j] * (x[j] * (1 - x[j]))
        elif code == SOFTPLUS:
            for j in range(n):
                y[j] = -y[j] * expm1_nonpositive(-x[j])
        elif code == RELU:
            for j in range(n):
                y[j] = y[j] if x[j] > 0 else y[j] * 0
        elif code >= GELU:
            for j in range(n):
                y[j] = y[j] * x[j]


def times_derivative_plus(code: int, a: Any, e: Any, second: Any) -> None:  # noqa: PLR0912 - one for each activation
    """As :func:`times_derivative`, and adds ``second`` (rows, n) to e: one pass where two would wait for memory."""
    rows, n = a.shape
    for i in range(rows):
        x, y, s = a[i], e[i], second[i]
        if code == TANH:
            for j in range(n):
                y[j] = y[j] * (1 - x[j] * x[j]) + s[j]
        elif code == SIGMOID:
            for j in range(n):
                y[j] = y[j] * (x[j] * (1 - x[j])) + s[j]
        elif code == SOFTPLUS:
            for j in range(n):
                y[j] = s[j] - y[j] * expm1_nonpositive(-x[j])
        elif code == RELU:
            for j in range(n):
                y[j] = y[j] + s[j] if x[j] > 0 else y[j] * 0
        elif code >= GELU:
            for j in range(n):
                y[j] = y[j] * x[j] + s[j]
        else:
            for j in range(n):
                y[j] = y[j] + s[j]


def directional(  # noqa: PLR0912 - one for each activation
    code: int, a: Any, delta: Any, rz: Any, bias: Any, second: Any
) -> None:
    """The R-operator of an activation: with Rz = rz + bias, second <- r(a) delta Rz and rz <- phi'(z) Rz = Ra.

    All (rows, n) but the bias direction (n,). ``second`` is what phi'' adds to R(delta) (Pearlmutter 1994, eq. 18).
    With 4 numbers a unit a is phi'(z) and delta phi''(z) e.
    """
    rows, n = a.shape
    for i in range(rows):
        x, d, r, s = a[i], delta[i], rz[i], second[i]
        if code == TANH:
            for j in range(n):
                t = r[j] + bias[j]
                s[j] = -2 * x[j] * d[j] * t
                r[j] = (1 - x[j] * x[j]) * t
        elif code == SIGMOID:
            for j in range(n):
                t = r[j] + bias[j]
                s[j] = (1 - 2 * x[j]) * d[j] * t
                r[j] = x[j] * (1 - x[j]) * t
        elif code == SOFTPLUS:
            for j in range(n):
                t = r[j] + bias[j]
                s[j] = exp(-x[j]) * d[j] * t
                r[j] = -expm1_nonpositive(-x[j]) * t
        elif code == RELU:
            for j in range(n):
                t = r[j] + bias[j]
                s[j] = 0
                r[j] = t if x[j] > 0 else t * 0
        elif code >= GELU:
            for j in range(n):
                t = r[j] + bias[j]
                s[j] = d[j] * t
                r[j] = x[j] * t
        else:
            for j in range(n):
                s[j] = 0
                r[j] = r[j] + bias[j]
