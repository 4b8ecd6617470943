"""Squared deviations of the outputs from the targets, output by output."""

from __future__ import annotations

from typing import Any

from hfnumba.kernels.arguments import Layers, RowData, example, layers
from hfnumba.kernels.jit import kernel
from hfnumba.kernels.primal import forward, matrix, read_block


@kernel
def squared_deviations_pass(theta: Any, network: Any, rows: Any, out: Any) -> None:
    """Add (p - t)² of each output over the rows with a weight above 0, each counted once, to ``out`` (n_outputs,).

    The loss must be one that reads targets. Sums are in float64.
    """
    layers, data = Layers(*network), RowData(*rows)
    sizes = layers.sizes
    n_out = sizes[sizes.size - 1]
    primal = data.work[data.block * sizes[0] :]
    for start in range(0, data.X.shape[0], data.block):
        block = read_block(layers, data, start)
        n = block.x.shape[0]
        forward(theta, layers, block, primal)
        p = matrix(primal, n * layers.starts[-2], n, n_out)
        for i in range(n):
            if block.weights.size == 0 or block.weights[i] > 0:
                for j in range(n_out):
                    d = float(p[i, j]) - float(block.targets[i, j])
                    out[j] += d * d


def exercise() -> None:
    """Run the pass once on a tiny network, which compiles it."""
    theta, _, rows = example()
    squared_deviations_pass(theta, layers((3, 2, 2), ("tanh",), "squared_error"), rows, theta[:2].astype("float64"))
