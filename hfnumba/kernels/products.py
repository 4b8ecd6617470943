"""Products with the Hessian and the Gauss–Newton matrix over the rows of one partition.

Products follow Pearlmutter (1994), Fast exact multiplication by the Hessian; Gauss–Newton products Schraudolph (2002).
R(A) is the derivative of A in the direction v. Arguments are those of :mod:`hfnumba.kernels.passes`, notation that of
:mod:`hfnumba.kernels.primal`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hfnumba.kernels.activations import directional, times_derivative, times_derivative_plus
from hfnumba.kernels.arguments import Layers, RowData, example
from hfnumba.kernels.blas import gemm
from hfnumba.kernels.jit import kernel
from hfnumba.kernels.losses import times_output_curvature, weigh
from hfnumba.kernels.primal import add_row_sums, matrix, primal_of_block


@kernel
def _tangent_forward(
    theta: Any, v: Any, layers: Any, exact: bool, block: Any, primal: Any, tangent: Any
) -> None:  # fmt: skip
    """R(A_1) .. R(A_{L-1}) of a block, what phi'' adds to R(D_l) (if exact), and R(Z_L), into ``tangent``.

    R(Z_L) lacks the output's bias, which :func:`times_output_curvature` adds.
    """
    sizes, rows, n_layers = layers.sizes, block.x.shape[0], layers.sizes.size - 1
    a, ra, at, position = block.x, block.x, 0, 0
    starts = layers.starts
    for layer in range(n_layers):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        vbias = v[at + n_in * n_out : at + (n_in + 1) * n_out]
        rz = matrix(tangent, position, rows, n_out)
        value = matrix(primal, rows * starts[layer], rows, n_out)
        source = matrix(primal, rows * (starts[layer + 1] - 2 * n_out), rows, n_out)
        gemm(False, False, a, matrix(v, at, n_in, n_out), 0.0, rz)
        if layer > 0:
            gemm(False, False, ra, matrix(theta, at, n_in, n_out), 1.0, rz)
        if layer < n_layers - 1 and exact:
            delta = matrix(primal, rows * (starts[layer + 1] - n_out), rows, n_out)
            second = matrix(tangent, position + rows * n_out, rows, n_out)
            directional(layers.activations[layer], source, delta, rz, vbias, second)
        elif layer < n_layers - 1:
            rz += vbias
            times_derivative(layers.activations[layer], source, rz)
        a, ra = value, rz
        at += (n_in + 1) * n_out
        position += 2 * rows * n_out


@kernel
def _output_tangent(v: Any, layers: Any, block: Any, primal: Any, tangent: Any, outputs: Any) -> Any:
    """Turn R(Z_L) in ``tangent`` into Q R(Z_L); return R(Z_L)'Q R(Z_L) summed over a block's rows.

    ``outputs`` is scratch memory for R(Z_L), or empty, if the sum is not wanted.
    """
    rows, n_out = block.x.shape[0], layers.sizes[layers.sizes.size - 1]
    rz = matrix(tangent, 2 * rows * layers.sizes[1:-1].sum(), rows, n_out)
    p, bias = matrix(primal, rows * layers.starts[-2], rows, n_out), v[v.size - n_out :]
    if outputs.size > 0:
        r = matrix(outputs, 0, rows, n_out)
        for i in range(rows):
            for j in range(n_out):
                r[i, j] = rz[i, j] + bias[j]
    times_output_curvature(layers.loss, p, bias, rz)
    weigh(block.weights, rz)
    total = 0.0
    if outputs.size > 0:
        for i in range(rows):
            for j in range(n_out):
                total += np.float64(r[i, j]) * np.float64(rz[i, j])
    return total


@kernel
def _tangent_backward(
    theta: Any, v: Any, layers: Any, exact: bool, x: Any, primal: Any, tangent: Any, out: Any, first: bool
) -> None:
    """Add a block's product to ``out``. R(D_l) takes the place of R(A_l), which is no longer needed by then."""
    sizes, rows = layers.sizes, x.shape[0]
    at, position = theta.size, 2 * rows * sizes[1:].sum()
    starts, beta = layers.starts, 0.0 if first else 1.0
    for layer in range(sizes.size - 2, -1, -1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        at -= (n_in + 1) * n_out
        position -= 2 * rows * n_out
        below_at = position - 2 * rows * n_in
        delta = matrix(primal, rows * (starts[layer] + n_out), rows, n_out)
        rdelta = matrix(tangent, position, rows, n_out)
        below = x if layer == 0 else matrix(primal, rows * starts[layer - 1], rows, n_in)
        product = matrix(out, at, n_in, n_out)
        gemm(True, False, below, rdelta, beta, product)
        add_row_sums(rdelta, out[at + n_in * n_out : at + (n_in + 1) * n_out], first)
        if layer > 0:
            rbelow, code = matrix(tangent, below_at, rows, n_in), layers.activations[layer - 1]
            source = matrix(primal, rows * (starts[layer] - 2 * n_in), rows, n_in)
            if exact:
                gemm(True, False, rbelow, delta, 1.0, product)
            gemm(False, True, rdelta, matrix(theta, at, n_in, n_out), 0.0, rbelow)
            if exact:
                gemm(False, True, delta, matrix(v, at, n_in, n_out), 1.0, rbelow)
                second = matrix(tangent, below_at + rows * n_in, rows, n_in)
                times_derivative_plus(code, source, rbelow, second)
            else:
                times_derivative(code, source, rbelow)


@kernel
def product_pass(theta: Any, network: Any, rows: Any, stored: Any, v: Any, exact: bool, out: Any) -> None:
    """Write the sum over the rows of Hessian (``exact``) or Gauss–Newton times v (n_params,) into ``out``."""
    layers, data = Layers(*network), RowData(*rows)
    tangent = data.work[data.block * (layers.sizes[0] + layers.starts[-1]) :]
    for start in range(0, data.X.shape[0], data.block):
        block, primal, _ = primal_of_block(theta, layers, data, start, stored, stored.size > 0, stored[:0])
        _tangent_forward(theta, v, layers, exact, block, primal, tangent)
        _output_tangent(v, layers, block, primal, tangent, stored[:0])
        _tangent_backward(theta, v, layers, exact, block.x, primal, tangent, out, start == 0)


@kernel
def quadratic_form_of_block(theta: Any, v: Any, layers: Any, block: Any, primal: Any, tangent: Any) -> Any:
    """Return the sum over a block's rows of v'Gv, G the Gauss–Newton matrix: a forward pass of the tangents.

    ``primal`` has A_1 .. A_L; the output layer's deltas are lost. ``tangent`` is scratch memory.
    """
    rows, n_out = block.x.shape[0], layers.sizes[layers.sizes.size - 1]
    _tangent_forward(theta, v, layers, False, block, primal, tangent)
    end = rows * layers.starts[-1]
    return _output_tangent(v, layers, block, primal, tangent, primal[end - rows * n_out : end])


def exercise() -> None:
    """Run the passes once on a tiny network, which compiles them."""
    theta, network, rows = example()
    product_pass(theta, network, rows, theta[:0], theta, True, theta.copy())
