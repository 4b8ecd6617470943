"""Products with the empirical Fisher matrix over the rows of one partition: the sum of g g'v over their gradients g.

For a dense layer a row's gradient is the outer product a d' of its input, with a 1 for the bias, and its delta. So g'v
is the sum over the layers of a'V d, and the product is the gradient of deltas that are multiplied by it: two GEMMs a
layer, and no array of one gradient for each row.

Arguments are those of :mod:`hfnumba.kernels.passes`, notation that of :mod:`hfnumba.kernels.primal`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hfnumba.kernels.arguments import Layers, RowData, example
from hfnumba.kernels.blas import gemm
from hfnumba.kernels.jit import kernel
from hfnumba.kernels.primal import add_row_sums, matrix, primal_of_block


@kernel
def _slopes(layers: Any, block: Any, primal: Any, v: Any, scratch: Any, slopes: Any) -> None:
    """Write g'v of each row of a block into ``slopes``; with weights w, of the gradient without them.

    Deltas carry the weights, and so does this product: g (w g'v / w) is w times g g'v. 0 where a weight is 0.
    """
    sizes, starts, n = layers.sizes, layers.starts, block.x.shape[0]
    slopes[:n] = 0
    below, at = block.x, 0
    for layer in range(sizes.size - 1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        moved, bias = matrix(scratch, 0, n, n_out), v[at + n_in * n_out : at + (n_in + 1) * n_out]
        delta = matrix(primal, n * (starts[layer] + n_out), n, n_out)
        gemm(False, False, below, matrix(v, at, n_in, n_out), 0.0, moved)
        for i in range(n):
            total = slopes[i] * 0
            for j in range(n_out):
                total += delta[i, j] * (moved[i, j] + bias[j])
            slopes[i] += total
        below = matrix(primal, n * starts[layer], n, n_out)
        at += (n_in + 1) * n_out
    if block.weights.size > 0:
        for i in range(n):
            slopes[i] = slopes[i] / block.weights[i] if block.weights[i] > 0 else slopes[i] * 0


@kernel
def empirical_fisher_pass(theta: Any, network: Any, rows: Any, stored: Any, v: Any, out: Any) -> None:
    """Write the (weighted) sum over the rows of g g'v into ``out``, for the vector ``v`` (n_params,)."""
    layers, data = Layers(*network), RowData(*rows)
    sizes, starts, slopes = layers.sizes, layers.starts, np.empty(data.block, theta.dtype)
    scratch = data.work[data.block * (sizes[0] + starts[-1]) :]
    for start in range(0, data.X.shape[0], data.block):
        block, primal, _ = primal_of_block(theta, layers, data, start, stored, stored.size > 0, stored[:0])
        n, beta = block.x.shape[0], 0.0 if start == 0 else 1.0
        _slopes(layers, block, primal, v, scratch, slopes)
        below, at = block.x, 0
        for layer in range(sizes.size - 1):
            n_in, n_out = sizes[layer], sizes[layer + 1]
            delta, scaled = matrix(primal, n * (starts[layer] + n_out), n, n_out), matrix(scratch, 0, n, n_out)
            for i in range(n):
                for j in range(n_out):
                    scaled[i, j] = delta[i, j] * slopes[i]
            end = at + n_in * n_out
            gemm(True, False, below, scaled, beta, matrix(out, at, n_in, n_out))
            add_row_sums(scaled, out[end : end + n_out], start == 0)
            below = matrix(primal, n * starts[layer], n, n_out)
            at = end + n_out


def exercise() -> None:
    """Run the pass once on a tiny network, which compiles it."""
    theta, network, rows = example()
    empirical_fisher_pass(theta, network, rows, theta[:0], theta, theta.copy())
