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


def predict(
    network: Network, theta: Vector, X: ArrayLike, scale: float = 1.0, offset: float = 0.0, *, first_row: int = 0
) -> NDArray[Any]:
    """Compute class probabilities (softmax, sigmoid) or values (squared error) for rows in memory.

    The outputs of a row have the same bits alone, among any other rows and in any place, under the OpenBLAS kernels
    that :func:`hfnumba.kernels.blas.uniform_rows` names. Cost: a forward pass over the rows, rounded up to a multiple
    of 8 or 96 rows.

    Parameters
    ----------
    network : Network
        Description of the network.
    theta : ndarray, shape (n_params,)
        Parameters of the network, float32 or float64.
    X : array_like, shape (n_rows, n_features)
        Rows.
    scale, offset : float
        Affine map of the features, X * scale + offset.
    first_row : int
        Number of the first row in messages, for a block of rows.

    Returns
    -------
    ndarray, shape (n_rows, n_outputs)
        Outputs in theta's dtype.

    Raises
    ------
    DataError
        If the rows do not fit the network, hold NaN, infinities or numbers beyond theta's dtype, or are so large that
        outputs are not finite.
    """
    rows = unmasked("rows", X)
    if rows.ndim != 2 or rows.shape[1] != network.n_features or rows.dtype.kind not in "fiub":
        raise DataError(f"expected rows of {network.n_features} numbers, got {rows.dtype} of shape {rows.shape}")
    blas.limit_blas_threads()
    # The layers' views check theta's length.
    list(network.layers(theta))
    # A vector of a memory map is read-only, which is another type to a compiled kernel.
    theta = np.require(theta, requirements=["C", "W"])
    block, n_out, dtype = blas.uniform_rows(), network.n_outputs, theta.dtype
    layers = arguments.layers(network.sizes, network.activations, network.loss)
    work = np.empty(blocks.work_size(network.sizes, network.primal_width, block), dtype)
    labels, targets = np.zeros(block, np.int32), np.zeros((block, n_out), dtype)
    out = np.empty((len(rows), n_out), dtype)
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        # BLAS chooses its code by the shape of a block, so that the last block is filled up with rows of zeros.
        chunk = np.zeros((-(-len(some) // block) * block, network.n_features), dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            chunk[: len(some)] = some.astype(dtype) * dtype.type(scale) + dtype.type(offset)
        refuse_not_finite(chunk, some, first_row + start)
        outputs = np.empty((len(chunk), n_out), dtype)
        passes.output_pass(theta, layers, chunk, labels, targets, block, work, outputs)
        if not np.isfinite(outputs).all():
            row = int(np.argmin(np.isfinite(outputs).all(axis=1)))
            raise DataError(
                f"the outputs of the network for row {first_row + start + row} (counted from 0) are not finite; its "
                f"features, up to {np.abs(some[row]).max():g}, are too large: correct them or leave the row out"
            )
        out[start : start + len(some)] = outputs[: len(some)]
    return out


def refuse_not_finite(values: NDArray[Any], rows: NDArray[Any], first_row: int = 0) -> None:
    """Raise if features computed from ``rows`` are not finite, naming the first one.

    Raises
    ------
    DataError
    """
    finite = np.isfinite(values)
    if not finite.all():
        row, column = divmod(int(np.argmin(finite)), values.shape[1])
        raise DataError(
            f"feature {column} of row {first_row + row} (both counted from 0) is {rows[row, column]}, which is not "
            f"finite in {values.dtype} (NaN, infinite or too large); correct it, impute it or leave the row out"
        )
