"""Arguments that all passes share: the network, and the rows of one partition.

A pass is called with plain tuples and makes the named ones below of them: Numba dispatches on a plain tuple as fast as
on its members one by one, but takes 2 µs more for a named one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hfnumba.activations import ACTIVATIONS, numbers_per_unit
from hfnumba.kernels.blocks import work_size
from hfnumba.kernels.losses import LOSS_CODES


class Layers(NamedTuple):
    """A network without its parameters.

    Attributes
    ----------
    sizes : ndarray of int64, shape (n_layers + 1,)
        Features, widths of the hidden layers, outputs.
    activations : ndarray of int64, shape (n_layers,)
        Codes of the layers' activations; the last is that of the output layer, which has none.
    starts : ndarray of int64, shape (n_layers + 1,)
        Numbers of a row's primal pass before those of each layer, and of all layers.
    loss : int
        Code of the loss.
    """

    sizes: Any
    activations: Any
    starts: Any
    loss: Any


class RowData(NamedTuple):
    """Rows as a pass takes them.

    Attributes
    ----------
    X : ndarray of uint8, shape (rows, n_features) or (rows, n_features * itemsize)
        Features as bytes or as the bytes of numbers of theta's dtype; see :func:`hfnumba.kernels.blocks.as_bytes`.
    labels : ndarray of int32, shape (rows,)
        Classes; empty for losses that read targets.
    targets : ndarray, shape (rows, n_outputs)
        Targets; empty for losses that read labels. Without labels and targets the targets are the features.
    weights : ndarray, shape (rows,)
        Weights of the rows; empty for none.
    scale, offset : float
        Features are X * scale + offset; numbers of theta's dtype.
    block : int
        Rows that go through the network together.
    work : ndarray
        Scratch memory of :func:`hfnumba.kernels.blocks.work_size` numbers: the features of a block, then its primal
        pass, then what the pass needs.
    """

    X: Any
    labels: Any
    targets: Any
    weights: Any
    scale: Any
    offset: Any
    block: Any
    work: Any


class Block(NamedTuple):
    """Rows of one block: features ``x`` in theta's dtype, and labels, targets and weights as in :class:`RowData`."""

    x: Any
    labels: Any
    targets: Any
    weights: Any


def layers(sizes: tuple[int, ...], activations: tuple[str, ...], loss: str) -> tuple[Any, Any, Any, int]:
    """Return the members of :class:`Layers` for a network's sizes, activations of the hidden layers, and loss."""
    codes = [ACTIVATIONS.index(name) for name in (*activations, "identity")]
    starts = np.cumsum([0, *(numbers_per_unit(code) * n for code, n in zip(codes, sizes[1:], strict=True))])
    return np.array(sizes, np.int64), np.array(codes, np.int64), starts.astype(np.int64), LOSS_CODES[loss]


def example() -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """Return theta, :class:`Layers` and :class:`RowData` of a tiny network, in the dtypes of ordinary runs."""
    sizes = (3, 2, 2)
    network = layers(sizes, ("tanh",), "softmax_cross_entropy")
    work, none = np.zeros(work_size(sizes, int(network[2][-1]), 16), np.float32), np.zeros(0, np.float32)
    labels, targets = np.zeros(2, np.int32), np.zeros((2, 2), np.float32)
    rows = (np.zeros((2, 3), np.uint8), labels, targets, none, np.float32(1), np.float32(0), 16, work)
    return np.zeros(14, np.float32), network, rows
