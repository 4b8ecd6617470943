"""Outputs of a network for given rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.errors import DataError
from hfnumba.kernels import arguments, blas, blocks, passes
from hfnumba.network import Network
from hfnumba.objective import Vector
from hfnumba.store.checks import unmasked

# Number of rows converted at once; a multiple of every value of ``blas.uniform_rows``.
_CHUNK = 768


def predict(network: Network, theta: Vector, X: ArrayLike, scale: float = 1.0, offset: float = 0.0) -> NDArray[Any]:
    """Class probabilities (softmax, sigmoid) or values (squared error), shape (n_rows, n_outputs), theta's dtype.

    The outputs of a row have the same bits alone, among any other rows and in any place, under the OpenBLAS kernels
    that :func:`hfnumba.kernels.blas.uniform_rows` names. Cost: a forward pass over the rows, rounded up to a multiple
    of 8 or 96 rows.

    Parameters
    ----------
    X : array_like, shape (n_rows, n_features)
        Features are X * scale + offset.

    Raises
    ------
    DataError
        If the rows do not fit the network, or hold NaN or infinities.
    """
    rows = unmasked("rows", X)
    if rows.ndim != 2 or rows.shape[1] != network.n_features or rows.dtype.kind not in "fiub":
        raise DataError(f"expected rows of {network.n_features} numbers, got {rows.dtype} of shape {rows.shape}")
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise DataError("the rows hold NaN or infinite numbers; remove or impute them first")
    blas.limit_blas_threads()
    # The layers' views check theta's length.
    list(network.layers(theta))
    block, n_out, dtype = blas.uniform_rows(), network.n_outputs, theta.dtype
    layers = arguments.layers(network.sizes, network.activation, network.loss)
    work = np.empty(blocks.work_size(network.sizes, block), dtype)
    labels, targets = np.zeros(block, np.int32), np.zeros((block, n_out), dtype)
    out = np.empty((len(rows), n_out), dtype)
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        # BLAS chooses its code by the shape of a block, so that the last block is filled up with rows of zeros.
        chunk = np.zeros((-(-len(some) // block) * block, network.n_features), dtype)
        chunk[: len(some)] = some.astype(dtype) * dtype.type(scale) + dtype.type(offset)
        outputs = np.empty((len(chunk), n_out), dtype)
        passes.output_pass(theta, layers, chunk, labels, targets, block, work, outputs)
        out[start : start + len(some)] = outputs[: len(some)]
    return out
