"""Floating-point operations of evaluations, counted from the shape of the network and the rows that are processed.

Matrix products count 2mnk, rank-k updates of a symmetric matrix half of that; the operations of activations, losses
and vectors, a small share, do not count. With W weights, W_1 of them in the first layer (whose input needs no
derivative), a row costs 2W for the loss, 6W - 2W_1 for the gradient, 12W - 8W_1 for a product with the Hessian,
8W - 4W_1 with the Gauss–Newton matrix.
"""

from __future__ import annotations

import itertools
from functools import singledispatch
from typing import Any

from hfnumba.bench.kernels import flops
from hfnumba.engine.evaluations import (
    EmpiricalFisherProduct,
    FisherDiagonal,
    Gradient,
    KroneckerFactors,
    LineLosses,
    Loss,
    Product,
    WeightTotals,
)
from hfnumba.engine.minibatch import StochasticStep
from hfnumba.engine.protocol import Evaluation, Vectors

Sizes = tuple[int, ...]


@singledispatch
def operations_per_row(evaluation: Any, sizes: Sizes, vectors: Vectors) -> int:
    """Return the operations of an evaluation for one row, without those of a primal pass that it finds stored.

    Parameters
    ----------
    evaluation : Evaluation
    sizes : tuple of int
        Layer sizes of the network.
    vectors : mapping of str to ndarray
        Vectors of the round.

    Raises
    ------
    TypeError
        If the evaluation is of a class without a count.
    """
    raise TypeError(f"expected an evaluation with a count of operations, got {type(evaluation).__name__}")


def operations_of_part(evaluation: Evaluation, sizes: Sizes) -> int:
    """Return the operations that a row of the first part of its sample takes more than another row."""
    if not isinstance(evaluation, StochasticStep):
        return 0
    weights, first = _weights(sizes)
    # A forward pass of the tangents is a product for the first layer, two for the others.
    tangents = 4 * weights - 2 * first if evaluation.v else 0
    # The forward pass is there already.
    factors = flops(sizes, "factors") - flops(sizes, "loss") if evaluation.seed is not None else 0
    return tangents + factors + (flops(sizes, "loss") if evaluation.start else 0)


def primal_operations(sizes: Sizes) -> int:
    """Return the operations of the primal pass of a row: forward and backward, without a gradient."""
    weights, first = _weights(sizes)
    return 4 * weights - 2 * first


def gradient_operations(sizes: Sizes) -> int:
    """Return the operations of the gradient of a row, by any library that derives nothing by the features."""
    return flops(sizes, "gradient")


def _weights(sizes: Sizes) -> tuple[int, int]:
    """Numbers of weights of all layers and of the first."""
    return sum(a * b for a, b in itertools.pairwise(sizes)), sizes[0] * sizes[1]


@operations_per_row.register
def _(evaluation: Loss, sizes: Sizes, vectors: Vectors) -> int:
    return flops(sizes, "loss")


@operations_per_row.register(Gradient)
@operations_per_row.register(StochasticStep)
def _(evaluation: Evaluation, sizes: Sizes, vectors: Vectors) -> int:
    return gradient_operations(sizes)


@operations_per_row.register
def _(evaluation: Product, sizes: Sizes, vectors: Vectors) -> int:
    return flops(sizes, "Hv" if evaluation.exact else "Gv")


@operations_per_row.register
def _(evaluation: FisherDiagonal, sizes: Sizes, vectors: Vectors) -> int:
    return 2 * _weights(sizes)[0]


@operations_per_row.register
def _(evaluation: EmpiricalFisherProduct, sizes: Sizes, vectors: Vectors) -> int:
    return 4 * _weights(sizes)[0]


@operations_per_row.register
def _(evaluation: KroneckerFactors, sizes: Sizes, vectors: Vectors) -> int:
    return flops(sizes, "factors")


@operations_per_row.register
def _(evaluation: LineLosses, sizes: Sizes, vectors: Vectors) -> int:
    weights, first = _weights(sizes)
    n_params = vectors[evaluation.theta].size
    n_directions = vectors[evaluation.directions].size // n_params
    return 2 * first * (1 + n_directions) + 2 * (weights - first) * n_directions * len(evaluation.alphas)


@operations_per_row.register
def _(evaluation: WeightTotals, sizes: Sizes, vectors: Vectors) -> int:
    return 0
