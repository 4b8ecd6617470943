"""Kronecker factors of the Gauss–Newton matrix over the rows of one partition: sums of outer products, layer by layer.

For a dense layer the Gauss–Newton matrix of a row is (ā ā') ⊗ (J'QJ), where ā is the layer's input with a 1 for the
bias, J the derivative of the network's outputs in the layer's outputs Z_l, and Q the curvature of the loss. K-FAC
(Martens and Grosse 2015, section 3) takes the product of the means for the mean of the products: A ⊗ G.

J'QJ of a row is estimated by one outer product d d' of a random delta: at the outputs d = R s, where RR' = Q and s is a
vector of random signs, from where it goes backward through the network as any delta does. So E[dd'] = J'QJ, which is
the Fisher matrix for all losses. This is curvature propagation (Martens, Sutskever and Swersky 2012). Martens and
Grosse draw a label from the network's outputs instead, which has the same mean; where the network is sure of a label,
such deltas are nearly always 0 and large once in a while.

Arguments are those of :mod:`hfnumba.kernels.passes`, notation that of :mod:`hfnumba.kernels.primal`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hfnumba.kernels.arguments import Layers, RowData, example
from hfnumba.kernels.blas import add_outer_products
from hfnumba.kernels.jit import kernel
from hfnumba.kernels.losses import SIGMOID_CROSS_ENTROPY, SOFTMAX_CROSS_ENTROPY
from hfnumba.kernels.primal import add_row_sums, backward, forward, matrix, read_block

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _ONE = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(1)
_WORD = 64

MAX_ORDER = 8192
"""Largest order of a factor that is computed whole; of a larger one the pass computes the diagonal."""


@kernel
def factor_size(order: int) -> Any:
    """Return how many numbers a factor of an order has: those of a packed triangle, or of a diagonal."""
    return order * (order + 1) // 2 if order <= MAX_ORDER else order


@kernel
def _random_word(key: Any, counter: Any) -> Any:
    """The 64 random bits that belong to a counter: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = np.uint64(key) + (np.uint64(counter) + _ONE) * _STEP
    z = (z ^ (z >> _30)) * _MIX_1
    z = (z ^ (z >> _27)) * _MIX_2
    return z ^ (z >> _31)


@kernel
def _random_signs(key: Any, row: int, signs: Any) -> None:
    """Fill ``signs`` (n,) with the random signs of a row: one bit each, a function of key, row and place."""
    n = signs.size
    n_words = (n + _WORD - 1) // _WORD
    for k in range(n_words):
        word = _random_word(key, row * n_words + k)
        for j in range(k * _WORD, min(n, (k + 1) * _WORD)):
            signs[j] = 1 - 2 * np.int64(word & _ONE)
            word = word >> _ONE


@kernel
def random_deltas(code: int, p: Any, key: Any, first_row: int, delta: Any) -> None:
    """Write random vectors with mean 0 and covariance Q into ``delta``, for the outputs p (rows, n) of a block.

    Softmax: d = √p∘s - p (√p's), since RR' = diag(p) - 2pp' + pp'; sigmoid: d = √(p (1 - p))∘s; squared error: d = s.
    """
    rows, n = p.shape
    for i in range(rows):
        d, q = delta[i], p[i]
        _random_signs(key, first_row + i, d)
        if code == SOFTMAX_CROSS_ENTROPY:
            total = d[0] * 0
            for j in range(n):
                d[j] = d[j] * math.sqrt(q[j])
                total += d[j]
            for j in range(n):
                d[j] = d[j] - q[j] * total
        elif code == SIGMOID_CROSS_ENTROPY:
            for j in range(n):
                d[j] = d[j] * math.sqrt(q[j] * (1 - q[j]))


@kernel
def _scaled_rows(source: Any, weights: Any, target: Any) -> Any:
    """Rows times the square roots of their weights, at the start of the flat ``target``, which may be the source."""
    rows, n = source.shape
    scaled = matrix(target, 0, rows, n)
    for i in range(rows):
        root = math.sqrt(weights[i])
        for j in range(n):
            # Not 0 times what may not be finite.
            scaled[i, j] = source[i, j] * root if root > 0 else weights[i]
    return scaled


@kernel
def _add_weighted_row_sums(scaled: Any, weights: Any, out: Any, first: bool) -> None:
    """As :func:`add_row_sums` of weighted rows, from rows times the square roots of their weights."""
    rows, n = scaled.shape
    if first:
        for j in range(n):
            out[j] = 0
    for i in range(rows):
        root = math.sqrt(weights[i])
        for j in range(n):
            out[j] += root * scaled[i, j]


@kernel
def _add_squares(source: Any, beta: Any, out: Any) -> None:
    """Diagonal of A'A + beta diag(out) for A (rows, n), into ``out`` (n,)."""
    rows, n = source.shape
    if beta == 0:
        for j in range(n):
            out[j] = 0
    for i in range(rows):
        row = source[i]
        for j in range(n):
            out[j] += row[j] * row[j]


@kernel
def _add_factor(source: Any, beta: Any, out: Any) -> None:
    """Add the outer products of the rows of ``source`` (rows, n) to a factor, whole or only its diagonal."""
    if source.shape[1] <= MAX_ORDER:
        add_outer_products(source, beta, out)
    else:
        _add_squares(source, beta, out)


@kernel
def add_factors_of_block(
    theta: Any, layers: Any, data: Any, block: Any, primal: Any, key: Any, start: int, out: Any
) -> None:  # fmt: skip
    """Add what :func:`kronecker_pass` sums over the block of rows at ``start``, whose forward pass is in ``primal``.

    The primal pass, and the features in scratch memory, are of no use after it.
    """
    sizes, starts = layers.sizes, layers.starts
    n, n_out, beta, first, at = block.x.shape[0], sizes[sizes.size - 1], 0.0 if start == 0 else 1.0, start == 0, 0
    last = n * starts[-2]
    outputs, deltas = matrix(primal, last, n, n_out), matrix(primal, last + n * n_out, n, n_out)
    random_deltas(layers.loss, outputs, key, start, deltas)
    backward(theta, layers, block.x, primal, theta[:0], first)
    for layer in range(sizes.size - 1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        below = block.x if layer == 0 else matrix(primal, n * starts[layer - 1], n, n_in)
        delta = matrix(primal, n * (starts[layer] + n_out), n, n_out)
        sums = out[at + factor_size(n_in) :][:n_in]
        if block.weights.size == 0:
            add_row_sums(below, sums, first)
        else:
            below = _scaled_rows(below, block.weights, data.work if layer == 0 else primal[n * starts[layer - 1] :])
            delta = _scaled_rows(delta, block.weights, primal[n * (starts[layer] + n_out) :])
            _add_weighted_row_sums(below, block.weights, sums, first)
        _add_factor(below, beta, out[at : at + factor_size(n_in)])
        at += factor_size(n_in) + n_in
        _add_factor(delta, beta, out[at : at + factor_size(n_out)])
        at += factor_size(n_out)


@kernel
def kronecker_pass(theta: Any, network: Any, rows: Any, key: Any, out: Any) -> None:
    """Write the (weighted) sums over the rows of each layer's outer products into ``out``.

    Parameters
    ----------
    key : uint64
        Key of the random deltas of this partition; rows are counted from its first.
    out : ndarray, flat
        For each layer the packed matrix Σ a a' of its inputs, their sum Σ a (n_in,), and the packed matrix Σ d d' of
        its deltas; packed as :func:`hfnumba.kernels.blas.add_outer_products` does. Of a matrix of an order above
        :data:`MAX_ORDER` it has the diagonal.
    """
    layers, data = Layers(*network), RowData(*rows)
    primal = data.work[data.block * layers.sizes[0] :]
    for start in range(0, data.X.shape[0], data.block):
        block = read_block(layers, data, start)
        forward(theta, layers, block, primal)
        add_factors_of_block(theta, layers, data, block, primal, key, start, out)


def exercise() -> None:
    """Run the pass once on a tiny network, which compiles it."""
    theta, network, rows = example()
    kronecker_pass(theta, network, rows, _ONE, np.zeros(20, np.float32))
