"""All that a stochastic second-order step sums over the rows of one partition, in one pass over a minibatch.

A block of rows goes forward at theta once, and its activations serve the gradient, the curvature along a direction and
the Kronecker factors. Arguments are those of :mod:`hfnumba.kernels.passes`, notation that of
:mod:`hfnumba.kernels.primal`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hfnumba.kernels.arguments import Layers, RowData, example
from hfnumba.kernels.jit import kernel
from hfnumba.kernels.kronecker import add_factors_of_block
from hfnumba.kernels.primal import backward, forward, read_block
from hfnumba.kernels.products import quadratic_form_of_block


@kernel
def stochastic_step_pass(
    theta: Any, network: Any, part: Any, rest: Any, start_theta: Any, v: Any, key: Any, gradient: Any, factors: Any
) -> Any:
    """Write the sum of gradients over a minibatch into ``gradient``, and that of outer products over its first part.

    Parameters
    ----------
    part, rest : tuple
        Rows of the first part of the minibatch, and its other rows; see
        :class:`hfnumba.kernels.arguments.RowData`.
    start_theta : ndarray, shape (n_params,)
        Another point at which losses are computed; empty for none.
    v : ndarray, shape (n_params,)
        Direction of the quadratic form; empty for none.
    key : uint64
        Key of the random deltas; see :func:`hfnumba.kernels.kronecker.kronecker_pass`.
    factors : ndarray, flat
        What :func:`hfnumba.kernels.kronecker.kronecker_pass` sums over the first part; empty for none.

    Returns
    -------
    tuple of float64
        Sums of losses and of errors over the minibatch; over its first part those of losses at the other point and at
        theta, and of v'Gv with the Gauss–Newton matrix G.
    """
    layers, data, others = Layers(*network), RowData(*part), RowData(*rest)
    before, after, form, errors = 0.0, 0.0, 0.0, 0.0
    primal = data.work[data.block * layers.sizes[0] :]
    for start in range(0, data.X.shape[0], data.block):
        block = read_block(layers, data, start)
        if start_theta.size > 0:
            before += forward(start_theta, layers, block, primal)[0]
        sums = forward(theta, layers, block, primal)
        after += sums[0]
        errors += sums[1]
        backward(theta, layers, block.x, primal, gradient, start == 0)
        # From here on the block's deltas are no longer needed; the factors take its activations too.
        if v.size > 0:
            tangent = primal[data.block * layers.starts[-1] :]
            form += quadratic_form_of_block(theta, v, layers, block, primal, tangent)
        if factors.size > 0:
            add_factors_of_block(theta, layers, data, block, primal, key, start, factors)
    total = after
    primal = others.work[others.block * layers.sizes[0] :]
    for start in range(0, others.X.shape[0], others.block):
        block = read_block(layers, others, start)
        sums = forward(theta, layers, block, primal)
        total += sums[0]
        errors += sums[1]
        backward(theta, layers, block.x, primal, gradient, start == 0 and data.X.shape[0] == 0)
    return total, errors, before, after, form


def exercise() -> None:
    """Run the pass once on a tiny network, which compiles it."""
    theta, network, rows = example()
    stochastic_step_pass(theta, network, rows, rows, theta, theta, np.uint64(1), theta.copy(), np.zeros(20, np.float32))
