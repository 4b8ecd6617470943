"""The sum over rows of the squares of each row's gradient: the diagonal of the empirical Fisher matrix.

For a dense layer a row's gradient is the outer product a d' of its input and its delta, so the squares, summed over
the rows, are (A∘A)'(D∘D): one GEMM a layer, and no array of one gradient for each row.

Conventions and the layout of the primal pass are those of :mod:`hfnumba.kernels.passes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hfnumba.kernels.activations import ACTIVATION_CODES
from hfnumba.kernels.blas import gemm
from hfnumba.kernels.blocks import load_block, work_size
from hfnumba.kernels.jit import kernel
from hfnumba.kernels.losses import LOSS_CODES
from hfnumba.kernels.passes import add_row_sums, gradient_pass


@kernel
def _squares(source: Any, target: Any) -> Any:
    """The squares of a block, as a block of the same shape at the start of the flat ``target``; may be in place."""
    rows, n = source.shape
    squared = target[: rows * n].reshape(rows, n)
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
    squared = target[: rows * n].reshape(rows, n)
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
def squares_pass(
    theta: Any, sizes: Any, act: int, loss: int, X: Any, labels: Any, targets: Any, weights: Any, scale: Any,
    offset: Any, block: int, work: Any, kept: Any, out: Any,
) -> None:  # fmt: skip
    """The (weighted) sum over the rows of X of each row's gradient, squared entry by entry, into ``out`` (n_params,).

    ``kept`` is the primal pass of these rows, or empty: then it is computed again for each block.
    """
    n_features, width, widest = block * sizes[0], 2 * sizes[1:].sum(), _widest(sizes)
    scratch = work[n_features + block * width :]
    nothing = out[:0]
    for start in range(0, X.shape[0], block):
        stop = min(start + block, X.shape[0])
        rows, beta = stop - start, 0.0 if start == 0 else 1.0
        if kept.size > 0:
            primal = kept[start * width : stop * width]
        else:
            primal = work[n_features : n_features + rows * width]
            gradient_pass(
                theta, sizes, act, loss, X[start:stop], labels[start:stop], targets[start:stop], weights[start:stop],
                scale, offset, rows, work, primal, nothing,
            )  # fmt: skip
        below = _squares(load_block(X, start, stop, sizes[0], scale, offset, work), work)
        at, position = 0, 0
        for layer in range(sizes.size - 1):
            n_in, n_out = sizes[layer], sizes[layer + 1]
            size = rows * n_out
            value = primal[position : position + size].reshape(rows, n_out)
            delta = primal[position + size : position + 2 * size].reshape(rows, n_out)
            if weights.size == 0:
                delta = _squares(delta, scratch)
            else:
                delta = _weighted_squares(delta, weights[start:stop], scratch)
            end = at + n_in * n_out
            gemm(True, False, below, delta, beta, out[at:end].reshape(n_in, n_out))
            add_row_sums(delta, out[end : end + n_out], start == 0)
            below = _squares(value, scratch[rows * widest :])
            at = end + n_out
            position += 2 * size


def exercise() -> None:
    """Run the pass once on a tiny network, for the dtypes of ordinary runs: what compiles compiles here."""
    sizes = np.array([3, 2, 2])
    theta, nothing = np.zeros(14, np.float32), np.zeros(0, np.float32)
    labels, targets = np.zeros(2, np.int32), np.zeros((2, 2), np.float32)
    work = np.zeros(work_size((3, 2, 2), 16), np.float32)
    act, loss = ACTIVATION_CODES["tanh"], LOSS_CODES["softmax_cross_entropy"]
    X = np.zeros((2, 3), np.uint8)
    squares_pass(
        theta, sizes, act, loss, X, labels, targets, nothing, np.float32(1), np.float32(0), 16, work, nothing,
        theta.copy(),
    )  # fmt: skip
