"""Losses, gradients, losses along lines and outputs of a whole network over the rows of one partition.

A block of rows goes through the whole network while it is in cache. One call works on the rows of one partition in one
thread; threads take different partitions. So a sum's order is fixed by the partition alone. Within a partition the sums
grow inside GEMM (beta = 1 after the first block), which neither zeroes nor adds accumulators.

Every pass takes ``theta`` (n_params,), then the members of :class:`hfnumba.kernels.arguments.Layers` and of
:class:`hfnumba.kernels.arguments.RowData` as plain tuples ``network`` and ``rows``. ``stored`` is the primal pass of
all rows (:mod:`hfnumba.kernels.primal`), or empty where there is no memory for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hfnumba.kernels.arguments import Block, Layers, RowData, example
from hfnumba.kernels.blas import gemm
from hfnumba.kernels.jit import kernel
from hfnumba.kernels.losses import weighted_output_layer
from hfnumba.kernels.primal import activate_layer, forward, matrix, primal_of_block, read_block


@kernel
def loss_pass(theta: Any, network: Any, rows: Any) -> Any:
    """Return the sums of (weighted) losses, and of errors, over the rows."""
    layers, data = Layers(*network), RowData(*rows)
    total, errors = 0.0, 0.0
    primal = data.work[data.block * layers.sizes[0] :]
    for start in range(0, data.X.shape[0], data.block):
        sums = forward(theta, layers, read_block(layers, data, start), primal)
        total += sums[0]
        errors += sums[1]
    return total, errors


@kernel
def gradient_pass(theta: Any, network: Any, rows: Any, stored: Any, gradient: Any) -> Any:
    """As :func:`loss_pass`, with the sum of gradients into ``gradient`` and the primal pass into ``stored``.

    Either may be an empty array; then it is not computed, or not stored.
    """
    layers, data = Layers(*network), RowData(*rows)
    total, errors = 0.0, 0.0
    for start in range(0, data.X.shape[0], data.block):
        _, _, sums = primal_of_block(theta, layers, data, start, stored, False, gradient)
        total += sums[0]
        errors += sums[1]
    return total, errors


@kernel
def line_pass(theta: Any, network: Any, rows: Any, directions: Any, alphas: Any, tails: Any, losses: Any) -> None:
    """Add the rows' losses at theta + alpha d, for all directions and step lengths, reading the rows once.

    The first layer is linear: X (W + alpha D) = XW + alpha XD, two products for all step lengths of a direction.

    Parameters
    ----------
    directions : ndarray, shape (n_directions, n_params)
    alphas : ndarray, shape (n_alphas,)
    tails : ndarray, shape (n_directions, n_alphas, n_params - n_0 n_1)
        theta + alpha d from the first layer's bias on.
    losses : ndarray of float64, shape (n_directions, n_alphas)
    """
    layers, data = Layers(*network), RowData(*rows)
    n_in, n_out = layers.sizes[0], layers.sizes[1]
    n_features, n_first = data.block * n_in, data.block * n_out
    upper = Layers(layers.sizes[1:], layers.activations[1:], layers.starts[1:], layers.loss)
    for start in range(0, data.X.shape[0], data.block):
        block = read_block(layers, data, start)
        n = block.x.shape[0]
        xw = matrix(data.work, n_features, n, n_out)
        xd = matrix(data.work, n_features + n_first, n, n_out)
        z = matrix(data.work, n_features + 2 * n_first, n, n_out)
        delta = matrix(data.work, n_features + 3 * n_first, n, n_out)
        primal = data.work[n_features + 3 * n_first :]
        above = Block(z, block.labels, block.targets, block.weights)
        gemm(False, False, block.x, matrix(theta, 0, n_in, n_out), 0.0, xw)
        for i in range(directions.shape[0]):
            gemm(False, False, block.x, matrix(directions[i], 0, n_in, n_out), 0.0, xd)
            for j in range(alphas.size):
                tail = tails[i, j]
                for row in range(n):
                    for column in range(n_out):
                        z[row, column] = xw[row, column] + alphas[j] * xd[row, column]
                bias = tail[:n_out]
                if upper.sizes.size == 1:
                    sums = weighted_output_layer(
                        layers.loss, z, bias, block.labels, block.targets, block.weights, delta
                    )
                else:
                    activate_layer(layers, 0, z, bias, primal)
                    sums = forward(tail[n_out:], upper, above, primal)
                losses[i, j] += sums[0]


@kernel
def output_pass(
    theta: Any, network: Any, x: Any, labels: Any, targets: Any, block: int, work: Any, out: Any
) -> None:  # fmt: skip
    """Outputs p of rows, a multiple of ``block``, into ``out``; labels and targets (of one block) may be any valid."""
    layers = Layers(*network)
    n_out = layers.sizes[layers.sizes.size - 1]
    for start in range(0, x.shape[0], block):
        forward(theta, layers, Block(x[start : start + block], labels, targets, theta[:0]), work)
        out[start : start + block] = matrix(work, block * layers.starts[-2], block, n_out)


def exercise() -> None:
    """Run the passes of ordinary runs once on a tiny network, which compiles them."""
    theta, network, rows = example()
    none, losses = theta[:0], np.zeros((1, 1))
    loss_pass(theta, network, rows)
    gradient_pass(theta, network, rows, none, theta.copy())
    line_pass(theta, network, rows, theta[None], np.ones(1, np.float32), np.zeros((1, 1, 8), np.float32), losses)
