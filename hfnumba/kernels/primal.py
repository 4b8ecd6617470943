"""The primal pass of a block of rows: forward and backward through the network.

Notation: layer l maps A_{l-1} (rows, n_{l-1}) to A_l = phi(A_{l-1} W_l + b_l); theta holds W_1, b_1, W_2, b_2, ...,
each W_l row-major of shape (n_{l-1}, n_l). The primal pass of a block is A_1, D_1, ..., A_L, D_L one after another
(D_l = dL/dZ_l), 2 (n_1 + ... + n_L) numbers a row; the output layer's A_L is p. Layers whose activation has 4 numbers a
unit (:mod:`hfnumba.activations`) have phi'(Z_l) and phi''(Z_l) dL/dA_l after D_l. So the last two matrices of a layer
are always those from which derivatives follow. Products and the Fisher diagonal are made of the primal pass. It is
either stored for all rows or computed again block by block: to read the two matrices more takes less time than to
compute the derivatives anew.

Rows may have weights: an array of one a row, or an empty one for none. They multiply each row's loss and D_L, and so
all that follows from D_L; what is summed are w_i f_i, w_i grad f_i and their products.
"""

from __future__ import annotations

from typing import Any

from hfnumba.kernels.activations import activate, activate_with_derivatives, multiply, times_derivative
from hfnumba.kernels.arguments import Block
from hfnumba.kernels.blas import gemm
from hfnumba.kernels.blocks import load_block
from hfnumba.kernels.jit import kernel
from hfnumba.kernels.losses import weighted_output_layer


@kernel
def matrix(flat: Any, offset: int, n_rows: int, n_columns: int) -> Any:
    """View ``n_rows * n_columns`` numbers of a flat array, from ``offset`` on, as a matrix."""
    return flat[offset : offset + n_rows * n_columns].reshape(n_rows, n_columns)


@kernel
def add_row_sums(d: Any, out: Any, first: bool) -> None:
    """Add the rows of d (rows, n) to ``out`` (n,), which the ``first`` block overwrites."""
    rows, n = d.shape
    if first:
        for j in range(n):
            out[j] = 0
    for i in range(rows):
        row = d[i]
        for j in range(n):
            out[j] += row[j]


@kernel
def read_block(layers: Any, data: Any, start: int) -> Any:
    """Read the block of rows that begins at ``start``."""
    stop = min(start + data.block, data.X.shape[0])
    x = load_block(data.X, start, stop, layers.sizes[0], data.scale, data.offset, data.work)
    targets = data.targets[start:stop] if data.targets.shape[0] > 0 or data.labels.size > 0 else x
    return Block(x, data.labels[start:stop], targets, data.weights[start:stop])


@kernel
def activate_layer(layers: Any, layer: int, z: Any, bias: Any, primal: Any) -> None:
    """z <- phi(z + bias), in place, and the derivatives into the layer's place in ``primal`` if it has any there."""
    rows, n = z.shape
    code, end = layers.activations[layer], layers.starts[layer + 1]
    if end - layers.starts[layer] > 2 * n:
        first, second = matrix(primal, rows * (end - 2 * n), rows, n), matrix(primal, rows * (end - n), rows, n)
        activate_with_derivatives(code, z, bias, first, second)
    else:
        activate(code, z, bias)


@kernel
def forward(theta: Any, layers: Any, block: Any, primal: Any) -> Any:
    """Write A_1 .. A_L and D_L of a block into ``primal``; return (sum of losses, sum of errors)."""
    sizes, rows, n_layers = layers.sizes, block.x.shape[0], layers.sizes.size - 1
    a, at = block.x, 0
    sums = (0.0, 0.0)
    for layer in range(n_layers):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        bias = theta[at + n_in * n_out : at + n_in * n_out + n_out]
        position = rows * layers.starts[layer]
        z = matrix(primal, position, rows, n_out)
        gemm(False, False, a, matrix(theta, at, n_in, n_out), 0.0, z)
        if layer < n_layers - 1:
            activate_layer(layers, layer, z, bias, primal)
        else:
            delta = matrix(primal, position + rows * n_out, rows, n_out)
            sums = weighted_output_layer(layers.loss, z, bias, block.labels, block.targets, block.weights, delta)
        a = z
        at += (n_in + 1) * n_out
    return sums


@kernel
def backward(theta: Any, layers: Any, x: Any, primal: Any, gradient: Any, first: bool) -> None:
    """Write D_{L-1} .. D_1 of a block into ``primal``, and add its gradient to ``gradient`` unless that is empty.

    Where layers have 4 numbers a unit, phi'' dL/dA takes the place of phi''.
    """
    sizes, rows = layers.sizes, x.shape[0]
    starts, at = layers.starts, theta.size
    beta = 0.0 if first else 1.0
    for layer in range(sizes.size - 2, -1, -1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        at -= (n_in + 1) * n_out
        delta = matrix(primal, rows * (starts[layer] + n_out), rows, n_out)
        below = x if layer == 0 else matrix(primal, rows * starts[layer - 1], rows, n_in)
        if gradient.size > 0:
            gemm(True, False, below, delta, beta, matrix(gradient, at, n_in, n_out))
            add_row_sums(delta, gradient[at + n_in * n_out : at + (n_in + 1) * n_out], first)
        if layer > 0:
            delta_below = matrix(primal, rows * (starts[layer - 1] + n_in), rows, n_in)
            gemm(False, True, delta, matrix(theta, at, n_in, n_out), 0.0, delta_below)
            source = matrix(primal, rows * (starts[layer] - 2 * n_in), rows, n_in)
            if starts[layer] - starts[layer - 1] > 2 * n_in:
                multiply(matrix(primal, rows * (starts[layer] - n_in), rows, n_in), delta_below)
            times_derivative(layers.activations[layer - 1], source, delta_below)


@kernel
def primal_of_block(
    theta: Any, layers: Any, data: Any, start: int, stored: Any, is_stored: bool, gradient: Any
) -> Any:  # fmt: skip
    """Return the block at ``start``, its primal pass, and its sums of losses and of errors.

    The primal pass is read from ``stored``, which has those of all rows, if it ``is_stored`` (the sums are then 0).
    Otherwise it is computed, into ``stored`` or, if that is empty, into scratch memory, and the block's gradient is
    added to ``gradient`` unless that is empty.
    """
    block = read_block(layers, data, start)
    width, sums = layers.starts[-1], (0.0, 0.0)
    if stored.size > 0:
        primal = stored[start * width : (start + block.x.shape[0]) * width]
    else:
        primal = data.work[data.block * layers.sizes[0] :]
    if not is_stored:
        sums = forward(theta, layers, block, primal)
        backward(theta, layers, block.x, primal, gradient, start == 0)
    return block, primal, sums
