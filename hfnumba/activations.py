"""Activations and their derivatives over a block of rows; each derivative is a function of the activation's value.

With a = phi(z): phi'(z) and the ratio r = phi''(z) / phi'(z) are

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

This is plain Python, so that the names are there without Numba; :mod:`hfnumba.kernels.activations` compiles it. A new
activation is a name in :data:`ACTIVATIONS` and a branch in each function. Elementary functions are called by the names
below, which compiled code replaces by those of :mod:`hfnumba.kernels.elementary`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ACTIVATIONS = ("tanh", "sigmoid", "relu", "softplus", "identity")
TANH, SIGMOID, RELU, SOFTPLUS, IDENTITY = range(len(ACTIVATIONS))


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


def times_derivative(code: int, a: Any, e: Any) -> None:
    """e <- phi'(z) e, in place, from a = phi(z); both (rows, n)."""
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


def times_derivative_plus(code: int, a: Any, e: Any, second: Any) -> None:
    """e <- phi'(z) e + second, in place, from a = phi(z); all (rows, n). One pass where two would wait for memory."""
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
        else:
            for j in range(n):
                y[j] = y[j] + s[j]


def directional(code: int, a: Any, delta: Any, rz: Any, bias: Any, second: Any) -> None:
    """The R-operator of an activation: with Rz = rz + bias, second <- r(a) delta Rz and rz <- phi'(z) Rz = Ra.

    All (rows, n) but the bias direction (n,). ``second`` is what phi'' adds to R(delta) (Pearlmutter 1994, eq. 18).
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
        else:
            for j in range(n):
                s[j] = 0
                r[j] = r[j] + bias[j]
