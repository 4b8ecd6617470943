"""The evaluations of a whole network over one partition, row block by row block while a block is in cache.

One call works on the rows of one partition in one thread; threads take different partitions. So a sum's order is
fixed by the partition alone. Within a partition the sums grow inside GEMM (beta = 1 after the first block), which
neither zeroes nor adds accumulators.

Notation: layer l maps A_{l-1} (rows, n_{l-1}) to A_l = phi(A_{l-1} W_l + b_l); theta holds W_1, b_1, W_2, b_2, ...,
each W_l row-major of shape (n_{l-1}, n_l). The *primal pass* of a block is A_1, D_1, ..., A_L, D_L one after another
(D_l = dL/dZ_l), 2 (n_1 + ... + n_L) numbers a row; the output layer's A_L is p. It is what products need, and it is
either kept for all rows or recomputed block by block.

Rows may have weights: an array of one a row, or an empty one for none. They multiply each row's loss and D_L, and so
all that follows from D_L; what is summed are w_i f_i, w_i grad f_i and their products.

Products follow Pearlmutter (1994), Fast exact multiplication by the Hessian; Gauss-Newton products Schraudolph (2002).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hfnumba.kernels.activations import ACTIVATION_CODES, activate, directional, times_derivative, times_derivative_plus
from hfnumba.kernels.blas import gemm
from hfnumba.kernels.blocks import load_block, work_size
from hfnumba.kernels.jit import kernel
from hfnumba.kernels.losses import LOSS_CODES, times_output_curvature, weigh, weighted_output_layer


@kernel
def _weights(theta: Any, offset: int, n_in: int, n_out: int) -> Any:
    return theta[offset : offset + n_in * n_out].reshape(n_in, n_out)


@kernel
def _segment(flat: Any, offset: int, rows: int, n: int) -> Any:
    return flat[offset : offset + rows * n].reshape(rows, n)


@kernel
def add_row_sums(d: Any, out: Any, first: bool) -> None:
    """Add the rows of d (rows, n) to ``out`` (n,), which holds nothing yet if this is the ``first`` block."""
    rows, n = d.shape
    if first:
        for j in range(n):
            out[j] = 0
    for i in range(rows):
        row = d[i]
        for j in range(n):
            out[j] += row[j]


@kernel
def _forward(
    theta: Any, sizes: Any, act: int, loss: int, x: Any, labels: Any, targets: Any, weights: Any, primal: Any
) -> Any:
    """A_1 .. A_L and D_L of a block into ``primal``; returns (sum of losses, sum of errors)."""
    rows, n_layers = x.shape[0], sizes.size - 1
    a, at, position = x, 0, 0
    sums = (0.0, 0.0)
    for layer in range(n_layers):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        bias = theta[at + n_in * n_out : at + n_in * n_out + n_out]
        z = _segment(primal, position, rows, n_out)
        gemm(False, False, a, _weights(theta, at, n_in, n_out), 0.0, z)
        if layer < n_layers - 1:
            activate(act, z, bias)
        else:
            delta = _segment(primal, position + rows * n_out, rows, n_out)
            sums = weighted_output_layer(loss, z, bias, labels, targets, weights, delta)
        a = z
        at += (n_in + 1) * n_out
        position += 2 * rows * n_out
    return sums


@kernel
def _backward(theta: Any, sizes: Any, act: int, x: Any, primal: Any, gradient: Any, first: bool) -> None:
    """D_{L-1} .. D_1 of a block into ``primal``, and its gradient into ``gradient`` unless that is empty."""
    rows, at, position = x.shape[0], theta.size, 2 * x.shape[0] * sizes[1:].sum()
    beta = 0.0 if first else 1.0
    for layer in range(sizes.size - 2, -1, -1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        at -= (n_in + 1) * n_out
        position -= 2 * rows * n_out
        delta = _segment(primal, position + rows * n_out, rows, n_out)
        below = x if layer == 0 else _segment(primal, position - 2 * rows * n_in, rows, n_in)
        if gradient.size > 0:
            gemm(True, False, below, delta, beta, _weights(gradient, at, n_in, n_out))
            add_row_sums(delta, gradient[at + n_in * n_out : at + (n_in + 1) * n_out], first)
        if layer > 0:
            delta_below = _segment(primal, position - rows * n_in, rows, n_in)
            gemm(False, True, delta, _weights(theta, at, n_in, n_out), 0.0, delta_below)
            times_derivative(act, below, delta_below)


@kernel
def _tangent_forward(
    theta: Any,
    v: Any,
    sizes: Any,
    act: int,
    loss: int,
    exact: bool,
    x: Any,
    weights: Any,
    primal: Any,
    tangent: Any,
) -> None:
    """R(A_1) .. R(A_{L-1}) of a block, what phi'' adds to R(D_l) (if exact), and Q R(Z_L), into ``tangent``."""
    rows, n_layers = x.shape[0], sizes.size - 1
    a, ra, at, position = x, x, 0, 0
    for layer in range(n_layers):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        vbias = v[at + n_in * n_out : at + (n_in + 1) * n_out]
        rz = _segment(tangent, position, rows, n_out)
        value = _segment(primal, position, rows, n_out)
        gemm(False, False, a, _weights(v, at, n_in, n_out), 0.0, rz)
        if layer > 0:
            gemm(False, False, ra, _weights(theta, at, n_in, n_out), 1.0, rz)
        if layer == n_layers - 1:
            times_output_curvature(loss, value, vbias, rz)
            weigh(weights, rz)
        elif exact:
            delta = _segment(primal, position + rows * n_out, rows, n_out)
            second = _segment(tangent, position + rows * n_out, rows, n_out)
            directional(act, value, delta, rz, vbias, second)
        else:
            rz += vbias
            times_derivative(act, value, rz)
        a, ra = value, rz
        at += (n_in + 1) * n_out
        position += 2 * rows * n_out


@kernel
def _tangent_backward(
    theta: Any,
    v: Any,
    sizes: Any,
    act: int,
    exact: bool,
    x: Any,
    primal: Any,
    tangent: Any,
    out: Any,
    first: bool,
) -> None:
    """Add a block's product to ``out``. R(D_l) takes the place of R(A_l), which is no longer needed by then."""
    rows, at, position = x.shape[0], theta.size, 2 * x.shape[0] * sizes[1:].sum()
    beta = 0.0 if first else 1.0
    for layer in range(sizes.size - 2, -1, -1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        at -= (n_in + 1) * n_out
        position -= 2 * rows * n_out
        below_at = position - 2 * rows * n_in
        delta = _segment(primal, position + rows * n_out, rows, n_out)
        rdelta = _segment(tangent, position, rows, n_out)
        below = x if layer == 0 else _segment(primal, below_at, rows, n_in)
        product = _weights(out, at, n_in, n_out)
        gemm(True, False, below, rdelta, beta, product)
        add_row_sums(rdelta, out[at + n_in * n_out : at + (n_in + 1) * n_out], first)
        if layer > 0:
            rbelow = _segment(tangent, below_at, rows, n_in)
            if exact:
                gemm(True, False, rbelow, delta, 1.0, product)
            gemm(False, True, rdelta, _weights(theta, at, n_in, n_out), 0.0, rbelow)
            if exact:
                gemm(False, True, delta, _weights(v, at, n_in, n_out), 1.0, rbelow)
                second = _segment(tangent, below_at + rows * n_in, rows, n_in)
                times_derivative_plus(act, below, rbelow, second)
            else:
                times_derivative(act, below, rbelow)


@kernel
def loss_pass(
    theta: Any, sizes: Any, act: int, loss: int, X: Any, labels: Any, targets: Any, weights: Any, scale: Any,
    offset: Any, block: int, work: Any,
) -> Any:  # fmt: skip
    """Sums of (weighted) losses, and of errors, over the rows of X."""
    total, errors = 0.0, 0.0
    n_features = block * sizes[0]
    for start in range(0, X.shape[0], block):
        stop = min(start + block, X.shape[0])
        x = load_block(X, start, stop, sizes[0], scale, offset, work)
        y, t, w = labels[start:stop], targets[start:stop], weights[start:stop]
        part = _forward(theta, sizes, act, loss, x, y, t, w, work[n_features:])
        total += part[0]
        errors += part[1]
    return total, errors


@kernel
def gradient_pass(
    theta: Any, sizes: Any, act: int, loss: int, X: Any, labels: Any, targets: Any, weights: Any, scale: Any,
    offset: Any, block: int, work: Any, kept: Any, gradient: Any,
) -> Any:  # fmt: skip
    """As :func:`loss_pass`, with the sum of gradients into ``gradient`` and the primal pass into ``kept``.

    Either may be an empty array; then it is not computed, or not kept.
    """
    total, errors = 0.0, 0.0
    n_features, width = block * sizes[0], 2 * sizes[1:].sum()
    for start in range(0, X.shape[0], block):
        stop = min(start + block, X.shape[0])
        x = load_block(X, start, stop, sizes[0], scale, offset, work)
        primal = kept[start * width : stop * width] if kept.size > 0 else work[n_features:]
        y, t, w = labels[start:stop], targets[start:stop], weights[start:stop]
        part = _forward(theta, sizes, act, loss, x, y, t, w, primal)
        _backward(theta, sizes, act, x, primal, gradient, start == 0)
        total += part[0]
        errors += part[1]
    return total, errors


@kernel
def product_pass(
    theta: Any, sizes: Any, act: int, loss: int, X: Any, labels: Any, targets: Any, weights: Any, scale: Any,
    offset: Any, block: int, work: Any, kept: Any, v: Any, exact: bool, out: Any,
) -> None:  # fmt: skip
    """The sum over the rows of Hessian (``exact``) or Gauss-Newton times v, into ``out``.

    ``kept`` is the primal pass of these rows, or empty: then it is computed again for each block.
    """
    n_features, width = block * sizes[0], 2 * sizes[1:].sum()
    primal = work[n_features:]
    tangent = work[n_features + block * width :]
    nothing = out[:0]
    for start in range(0, X.shape[0], block):
        stop = min(start + block, X.shape[0])
        x = load_block(X, start, stop, sizes[0], scale, offset, work)
        y, t, w = labels[start:stop], targets[start:stop], weights[start:stop]
        if kept.size > 0:
            primal = kept[start * width : stop * width]
        else:
            _forward(theta, sizes, act, loss, x, y, t, w, primal)
            _backward(theta, sizes, act, x, primal, nothing, start == 0)
        _tangent_forward(theta, v, sizes, act, loss, exact, x, w, primal, tangent)
        _tangent_backward(theta, v, sizes, act, exact, x, primal, tangent, out, start == 0)


@kernel
def line_pass(
    theta: Any, sizes: Any, act: int, loss: int, X: Any, labels: Any, targets: Any, weights: Any, scale: Any,
    offset: Any, block: int, work: Any, directions: Any, alphas: Any, tails: Any, losses: Any, errors: Any,
) -> None:  # fmt: skip
    """Add the rows' losses and errors at theta + alpha d, for all directions and step lengths, reading X once.

    The first layer is linear: X (W + alpha D) = XW + alpha XD, two products for all step lengths of a direction.

    Parameters
    ----------
    directions : ndarray, shape (n_directions, n_params)
    alphas : ndarray, shape (n_alphas,)
    tails : ndarray, shape (n_directions, n_alphas, n_params - n_0 n_1)
        theta + alpha d from the first layer's bias on.
    losses, errors : ndarray of float64, shape (n_directions, n_alphas)
    """
    n_in, n_out = sizes[0], sizes[1]
    n_features, n_first = block * n_in, block * n_out
    upper = sizes[1:]
    for start in range(0, X.shape[0], block):
        stop = min(start + block, X.shape[0])
        rows = stop - start
        x = load_block(X, start, stop, sizes[0], scale, offset, work)
        y, t, w = labels[start:stop], targets[start:stop], weights[start:stop]
        xw = _segment(work, n_features, rows, n_out)
        xd = _segment(work, n_features + n_first, rows, n_out)
        z = _segment(work, n_features + 2 * n_first, rows, n_out)
        delta = _segment(work, n_features + 3 * n_first, rows, n_out)
        rest = work[n_features + 3 * n_first :]
        gemm(False, False, x, _weights(theta, 0, n_in, n_out), 0.0, xw)
        for i in range(directions.shape[0]):
            gemm(False, False, x, _weights(directions[i], 0, n_in, n_out), 0.0, xd)
            for j in range(alphas.size):
                tail = tails[i, j]
                for row in range(rows):
                    for column in range(n_out):
                        z[row, column] = xw[row, column] + alphas[j] * xd[row, column]
                bias = tail[:n_out]
                if upper.size == 1:
                    part = weighted_output_layer(loss, z, bias, y, t, w, delta)
                else:
                    activate(act, z, bias)
                    part = _forward(tail[n_out:], upper, act, loss, z, y, t, w, rest)
                losses[i, j] += part[0]
                errors[i, j] += part[1]


@kernel
def output_pass(
    theta: Any, sizes: Any, act: int, loss: int, x: Any, labels: Any, targets: Any, block: int, work: Any, out: Any
) -> None:  # fmt: skip
    """Outputs p of rows, a multiple of ``block``, into ``out``; labels and targets (of one block) may be any valid."""
    n_out = sizes[sizes.size - 1]
    for start in range(0, x.shape[0], block):
        _forward(theta, sizes, act, loss, x[start : start + block], labels, targets, theta[:0], work)
        out[start : start + block] = _segment(work, 2 * block * sizes[1:-1].sum(), block, n_out)


def exercise() -> None:
    """Run every pass once on a tiny network, for the dtypes of ordinary runs: what compiles compiles here."""
    sizes = np.array([3, 2, 2])
    theta = np.zeros(14, np.float32)
    labels, targets = np.zeros(2, np.int32), np.zeros((2, 2), np.float32)
    work, nothing = np.zeros(work_size((3, 2, 2), 16), np.float32), np.zeros(0, np.float32)
    act, loss = ACTIVATION_CODES["tanh"], LOSS_CODES["softmax_cross_entropy"]
    rows = (np.zeros((2, 3), np.uint8), labels, targets, nothing, np.float32(1), np.float32(0), 16, work)
    loss_pass(theta, sizes, act, loss, *rows)
    gradient_pass(theta, sizes, act, loss, *rows, nothing, theta.copy())
    product_pass(theta, sizes, act, loss, *rows, nothing, theta, True, theta.copy())
    tails, sums = np.zeros((1, 1, 8), np.float32), np.zeros((1, 1))
    line_pass(theta, sizes, act, loss, *rows, theta[None], np.ones(1, np.float32), tails, sums, sums.copy())
