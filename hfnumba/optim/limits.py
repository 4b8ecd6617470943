"""Where every method may begin, and where it ends."""

from __future__ import annotations

import math

from hfnumba.objective import Linearization
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.vectors import all_finite

MAX_REJECTED = 10
"""Iterations in a row without an acceptable step after which a second-order method ends."""

STUCK = (
    f"stopped: {MAX_REJECTED} iterations in a row found no step that lowers the loss; take this point as "
    "converged, or go on with more curvature rows or another seed"
)
FLAT = (
    "stopped: the loss is flat here to float32 precision; training is complete, unless this is a saddle, "
    "which only the exact Hessian of an hf method can tell"
)
MINIMUM = "stopped: the loss is flat here to float32 precision, with no negative curvature; training is complete"
LOST = (
    "the loss or the gradient is no longer finite at a point where it was before; "
    "check the data and the workers' memory, then resume from the last checkpoint"
)
START_NOT_FINITE = (
    "expected a finite loss and gradient at the starting point, got NaN or infinity; "
    "scale the features to about unit size or start from smaller weights"
)


def is_over(state: OptimizerState, max_iterations: int | None, target_error: float | None) -> bool:
    """Tell whether a state meets a limit, or its optimiser has ended by itself."""
    enough = max_iterations is not None and state.iteration >= max_iterations
    reached = target_error is not None and state.error is not None and state.error <= target_error
    return enough or reached or bool(state.stopped)


def verdict(exact: bool, found_none: bool) -> str:
    """Say why a flat point is the end, empty if it is not yet: nothing can look for a saddle, or a probe found none."""
    if not exact:
        return FLAT
    return MINIMUM if found_none else ""


def is_finite(lin: Linearization) -> bool:
    """Tell whether f and its gradient are finite."""
    return math.isfinite(lin.value) and all_finite(lin.gradient)
