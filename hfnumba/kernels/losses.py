"""Losses of a block of rows at the output layer, in their canonical form.

Each loss is paired with the link that makes delta = dL/dz simple and Q = d2L/dz2 positive semi-definite:

==========================  ===================================  ==========  =================
loss of one row             with                                 delta       Q
==========================  ===================================  ==========  =================
softmax cross-entropy       p = softmax(z), label y              p - e_y     diag(p) - pp'
sigmoid cross-entropy       p = sigmoid(z), targets t            p - t       diag(p (1 - p))
squared error ||z - t||²/2  p = z, targets t                     p - t       I
==========================  ===================================  ==========  =================

``p`` is part of the primal pass and what prediction returns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from hfnumba.activations import exp, sigmoid, softplus
from hfnumba.kernels.elementary import bits_float, float_bits
from hfnumba.kernels.jit import OPTIONS, kernel, reduction

SOFTMAX_CROSS_ENTROPY, SIGMOID_CROSS_ENTROPY, SQUARED_ERROR = range(3)
LOSS_CODES = {
    "softmax_cross_entropy": SOFTMAX_CROSS_ENTROPY,
    "sigmoid_cross_entropy": SIGMOID_CROSS_ENTROPY,
    "squared_error": SQUARED_ERROR,
}


@reduction
def _sum(x: Any) -> Any:
    total = x[0] * 0
    for j in range(x.size):
        total += x[j]
    return total


@reduction
def _dot(x: Any, y: Any) -> Any:
    total = x[0] * 0
    for j in range(x.size):
        total += x[j] * y[j]
    return total


def row_maximum(x: Any) -> Any:
    """The largest element; NaN if there is a NaN with a clear sign bit."""
    return x.max()


@kernel
def _maximum_by_bits(x: Any) -> Any:
    # A float maximum does not vectorise while NaN has to be respected; the maximum of integers does. Flipping the
    # other bits of negative numbers makes the order of the bit patterns that of the floats.
    best = np.int32(-(2**31))
    for j in range(x.size):
        bits = float_bits(x[j])
        key = np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        best = key if key > best else best
    return bits_float(np.int32(best ^ ((best >> np.int32(31)) & np.int32(0x7FFFFFFF))))


@kernel
def _maximum_by_value(x: Any) -> Any:
    best = x[0]
    for j in range(x.size):
        best = x[j] if x[j] > best else best
    return best


@overload(row_maximum, jit_options=OPTIONS)
def _choose_maximum(x: Any) -> Any:
    function = _maximum_by_bits if x.dtype == types.float32 else _maximum_by_value

    def compiled(x: Any) -> Any:
        return function(x)

    return compiled


@kernel
def _is_misclassified(z: Any, label: int, largest: Any) -> bool:
    """Whether the first largest output is not the label's (all outputs equal: class 0 is predicted)."""
    if z[label] != largest:
        return True
    for j in range(label):  # noqa: SIM110 - a generator does not compile
        if z[j] == largest:
            return True
    return False


@kernel
def _softmax_rows(z: Any, bias: Any, labels: Any, delta: Any) -> Any:
    loss, errors = 0.0, 0.0
    rows, n = z.shape
    for i in range(rows):
        row, d, label = z[i], delta[i], labels[i]
        for j in range(n):
            row[j] = row[j] + bias[j]
        largest = row_maximum(row)
        errors += _is_misclassified(row, label, largest)
        shortfall = np.float64(largest) - np.float64(row[label])
        for j in range(n):
            row[j] = exp(row[j] - largest)
        total = _sum(row)
        loss += math.log(np.float64(total)) + shortfall
        inverse = 1 / total
        for j in range(n):
            row[j] = row[j] * inverse
            d[j] = row[j]
        d[label] -= 1
    return loss, errors


@kernel
def _sigmoid_rows(z: Any, bias: Any, targets: Any, delta: Any) -> Any:
    loss, errors = 0.0, 0.0
    rows, n = z.shape
    for i in range(rows):
        for j in range(n):
            x, t = z[i, j] + bias[j], targets[i, j]
            loss += softplus(x) - t * x
            errors += (x > 0) != (t > 0.5)
            z[i, j] = sigmoid(x)
            delta[i, j] = z[i, j] - t
    return loss, errors / n


@kernel
def _squared_rows(z: Any, bias: Any, targets: Any, delta: Any) -> Any:
    loss = 0.0
    rows, n = z.shape
    for i in range(rows):
        for j in range(n):
            z[i, j] = z[i, j] + bias[j]
            d = z[i, j] - targets[i, j]
            delta[i, j] = d
            loss += np.float64(d) * np.float64(d)
    return 0.5 * loss, loss / n


@kernel
def output_layer(code: int, z: Any, bias: Any, labels: Any, targets: Any, delta: Any) -> Any:
    """z <- p and delta <- dL/dz for the outputs z + bias of a block; returns (sum of losses, sum of errors).

    Parameters
    ----------
    code : int
        One of :data:`LOSS_CODES`.
    z : ndarray, shape (rows, n_outputs)
    bias : ndarray, shape (n_outputs,)
    labels : ndarray of int32, shape (rows,)
        Classes; read by softmax cross-entropy.
    targets : ndarray, shape (rows, n_outputs)
        Read by the other losses.
    delta : ndarray, shape (rows, n_outputs)

    Returns
    -------
    tuple of float
        Losses summed in float64; errors summed over the rows: misclassified rows for softmax, the share of outputs
        on the wrong side of 1/2 for sigmoid, the mean squared deviation over the outputs for squared error.
    """
    if code == SOFTMAX_CROSS_ENTROPY:
        return _softmax_rows(z, bias, labels, delta)
    if code == SIGMOID_CROSS_ENTROPY:
        return _sigmoid_rows(z, bias, targets, delta)
    return _squared_rows(z, bias, targets, delta)


@kernel
def weighted_output_layer(code: int, z: Any, bias: Any, labels: Any, targets: Any, weights: Any, delta: Any) -> Any:
    """As :func:`output_layer`, with each row's loss and delta times its weight; unless ``weights`` is empty.

    Errors are those of the rows with a weight above 0, each counted once. A row of weight 0 leaves nothing behind,
    not even a loss that has overflowed.
    """
    if weights.size == 0:
        return output_layer(code, z, bias, labels, targets, delta)
    loss, errors = 0.0, 0.0
    for i in range(z.shape[0]):
        row = slice(i, i + 1)
        sums = output_layer(code, z[row], bias, labels[row], targets[row], delta[row])
        if weights[i] > 0:
            loss += np.float64(weights[i]) * sums[0]
            errors += sums[1]
    weigh(weights, delta)
    return loss, errors


@kernel
def weigh(weights: Any, rows: Any) -> None:
    """Multiply each row of ``rows`` (rows, n) by its weight, in place; nothing where ``weights`` is empty."""
    for i in range(weights.size):
        row, weight = rows[i], weights[i]
        for j in range(row.size):
            # Not 0 times what may not be finite.
            row[j] = row[j] * weight if weight > 0 else weight


@kernel
def times_output_curvature(code: int, p: Any, bias: Any, rz: Any) -> None:
    """rz <- Q (rz + bias), in place; p and rz (rows, n_outputs), bias (n_outputs,)."""
    rows, n = rz.shape
    for i in range(rows):
        r, q = rz[i], p[i]
        for j in range(n):
            r[j] = r[j] + bias[j]
        if code == SOFTMAX_CROSS_ENTROPY:
            mean = _dot(q, r)
            for j in range(n):
                r[j] = q[j] * (r[j] - mean)
        elif code == SIGMOID_CROSS_ENTROPY:
            for j in range(n):
                r[j] = q[j] * (1 - q[j]) * r[j]
