"""Outputs of a network for given rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.errors import DataError
from hfnumba.kernels import arguments, blas, blocks, passes
from hfnumba.network import Network
from hfnumba.objective import Vector

# All blocks have so many rows, the last one with rows of zeros: BLAS chooses its code by the shape, and so a row's last
# bits would depend on how many others are asked about.
_BLOCK = 128


def predict(network: Network, theta: Vector, X: ArrayLike, scale: float = 1.0, offset: float = 0.0) -> NDArray[Any]:
    """Class probabilities (softmax, sigmoid) or values (squared error), shape (n_rows, n_outputs), theta's dtype.

    A row's outputs do not depend on the rows beside it. Cost: a forward pass over the rows, rounded up to 128.

    Parameters
    ----------
    X : array_like, shape (n_rows, n_features)
        Features are X * scale + offset.

    Raises
    ------
    DataError
        If the rows do not fit the network, or hold NaN or infinities.
    """
    rows = np.asarray(X)
    if rows.ndim != 2 or rows.shape[1] != network.n_features or rows.dtype.kind not in "fiub":
        raise DataError(f"expected rows of {network.n_features} numbers, got {rows.dtype} of shape {rows.shape}")
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise DataError("the rows hold NaN or infinite numbers; remove or impute them first")
    blas.limit_blas_threads()
    # The layers' views check theta's length.
    list(network.layers(theta))
    n_out, layers = network.n_outputs, arguments.layers(network.sizes, network.activation, network.loss)
    work = np.empty(blocks.work_size(network.sizes, _BLOCK), theta.dtype)
    labels, targets = np.zeros(_BLOCK, np.int32), np.zeros((_BLOCK, n_out), theta.dtype)
    out = np.empty((len(rows), n_out), theta.dtype)
    block = np.zeros((_BLOCK, network.n_features), theta.dtype)
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        block[: len(some)] = some.astype(theta.dtype) * theta.dtype.type(scale) + theta.dtype.type(offset)
        outputs = passes.output_pass(theta, layers, block, labels, targets, work)
        out[start : start + len(some)] = outputs[: len(some)]
    return out
