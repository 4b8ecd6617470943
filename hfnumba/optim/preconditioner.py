"""Martens' preconditioner: the diagonal of the empirical Fisher matrix, damped and flattened.

Source: Martens, *Deep learning via Hessian-free optimization* (2010), section 4.7: the matrix
(diag(sum of g_i∘g_i) + lambda·I)^0.75, where g_i is the gradient of row i. Here the sum is a mean, as f is one, so that
it is on the scale of the curvature and of its damping.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from hfnumba.krylov.operator import FunctionOperator
from hfnumba.optim.vectors import Vector

Preconditioner = Literal["none", "fisher"]


def martens(fisher: Vector, damping: float) -> FunctionOperator:
    """Return M = diag((fisher + damping)^-3/4), near the inverse of B + damping·I as solvers want it.

    Parameters
    ----------
    fisher : ndarray, shape (n_params,)
        Mean over the rows of the squares of their gradients, at least 0. What is not finite counts as no information:
        its entry of M is that of the largest finite number there is, so that M stays finite and positive.
    damping : float
        > 0.

    Notes
    -----
    Cost: a few passes over the vector; one n-vector is held. x^3/4 is taken by two square roots, which IEEE 754 rounds
    in one way only: a power would have other bits on another processor.
    """
    largest = float(np.finfo(fisher.dtype).max) / 2
    root = np.sqrt(np.nan_to_num(fisher, nan=largest, posinf=largest) + fisher.dtype.type(damping))
    scale = 1 / (root * np.sqrt(root))
    return FunctionOperator(fisher.size, lambda v: scale * v, fisher.dtype)
