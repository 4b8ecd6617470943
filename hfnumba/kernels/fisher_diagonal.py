"""The diagonal of the empirical Fisher matrix over the rows of one partition: the sum of each row's squared gradient.

For a dense layer a row's gradient is the outer product a d' of its input and its delta, so the squares, summed over
the rows, are (A∘A)'(D∘D): one GEMM a layer, and no array of one gradient for each row.

Arguments are those of :mod:`hfnumba.kernels.passes`, notation that of :mod:`hfnumba.kernels.primal`.
"""

from __future__ import annotations

from typing import Any

from hfnumba.kernels.arguments import Layers, RowData, example
from hfnumba.kernels.blas import gemm
from hfnumba.kernels.jit import kernel
from hfnumba.kernels.primal import add_row_sums, matrix, primal_of_block


@kernel
def _squares(source: Any, target: Any) -> Any:
    """The squares of a block, as a block of the same shape at the start of the flat ``target``; may be in place."""
    rows, n = source.shape
    squared = matrix(target, 0, rows, n)
    for i in range(rows):
        for j in range(n):
            squared[i, j] = source[i, j] * source[i, j]
    return squared


@kernel
def _weighted_squares(source: Any, weights: Any, target: Any) -> Any:
    """The squares of deltas that carry their rows' weights w, divided by w: w times the squares without them.

    0 where a weight is 0. The order of the operations keeps the squares of small and large weights in range.
    """
    rows, n = source.shape
    squared = matrix(target, 0, rows, n)
    for i in range(rows):
        for j in range(n):
            squared[i, j] = source[i, j] * (source[i, j] / weights[i]) if weights[i] > 0 else weights[i]
    return squared


@kernel
def _widest(sizes: Any) -> int:
    """The width of the widest layer. Numba takes most of a second to compile ``max`` of an array."""
    widest = 0
    for n in sizes[1:]:
        widest = max(widest, n)
    return widest


@kernel
def fisher_diagonal_pass(theta: Any, network: Any, rows: Any, stored: Any, out: Any) -> None:
    """Write the (weighted) sum over the rows of each row's gradient, squared entry by entry, into ``out``."""
    layers, data = Layers(*network), RowData(*rows)
    sizes, widest = layers.sizes, _widest(layers.sizes)
    scratch = data.work[data.block * (sizes[0] + layers.starts[-1]) :]
    for start in range(0, data.X.shape[0], data.block):
        block, primal, _ = primal_of_block(theta, layers, data, start, stored, stored.size > 0, stored[:0])
        n, beta = block.x.shape[0], 0.0 if start == 0 else 1.0
        below = _squares(block.x, data.work)
        at = 0
        for layer in range(sizes.size - 1):
            n_in, n_out = sizes[layer], sizes[layer + 1]
            value = matrix(primal, n * layers.starts[layer], n, n_out)
            delta = matrix(primal, n * (layers.starts[layer] + n_out), n, n_out)
            if block.weights.size == 0:
                delta = _squares(delta, scratch)
            else:
                delta = _weighted_squares(delta, block.weights, scratch)
            end = at + n_in * n_out
            gemm(True, False, below, delta, beta, matrix(out, at, n_in, n_out))
            add_row_sums(delta, out[end : end + n_out], start == 0)
            below = _squares(value, scratch[n * widest :])
            at = end + n_out


def exercise() -> None:
    """Run the pass once on a tiny network, which compiles it."""
    theta, network, rows = example()
    fisher_diagonal_pass(theta, network, rows, theta[:0], theta.copy())
