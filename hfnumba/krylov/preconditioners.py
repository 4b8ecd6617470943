"""Preconditioners by name, each made of sums over the rows and of the damping.

:data:`PRECONDITIONERS` has a function for each name. Its arguments are the results of an evaluation, by their names,
``damping``, and ``penalty``: the diagonal of the curvature of the objective's penalty, or None without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hfnumba.krylov.kronecker import kfac
from hfnumba.krylov.linear_operator import LinearOperator, Vector
from hfnumba.krylov.structured import DiagonalOperator


def martens(fisher_diagonal: Vector, damping: float, penalty: Vector | None = None) -> DiagonalOperator:
    """Return M = diag((fisher_diagonal + penalty + damping)^-3/4), near the inverse of B + damping·I.

    Source: Martens, *Deep learning via Hessian-free optimization* (2010), section 4.7: the matrix
    (diag(sum of g_i∘g_i) + lambda·I)^0.75, where g_i is the gradient of row i. Here the sum is a mean, as f is one, so
    that it is on the scale of the curvature and of its damping.

    Parameters
    ----------
    fisher_diagonal : ndarray, shape (n_params,)
        Mean over the rows of the squares of their gradients, at least 0. What is not finite counts as no information:
        its entry of M is that of the largest finite number there is, so that M stays finite and positive.
    damping : float
        Shift of the solver's matrix, > 0.
    penalty : ndarray, shape (n_params,), optional
        Diagonal of the penalty's curvature, at least 0.

    Notes
    -----
    Cost: a few passes over the vector; the operator has one n-vector. x^3/4 is taken by two square roots, which
    IEEE 754 rounds in one way only: a power would have other bits on another processor.
    """
    diagonal = fisher_diagonal if penalty is None else fisher_diagonal + penalty
    largest = float(np.finfo(diagonal.dtype).max) / 2
    root = np.sqrt(np.nan_to_num(diagonal, nan=largest, posinf=largest) + diagonal.dtype.type(damping))
    return DiagonalOperator(1 / (root * np.sqrt(root)))


PRECONDITIONERS: Mapping[str, Callable[..., LinearOperator]] = {"fisher": martens, "kfac": kfac}
