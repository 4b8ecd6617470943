"""Where every method may begin, and where it ends."""

from __future__ import annotations

import math

from hfnumba.objective import Linearization
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.vectors import all_finite

START_NOT_FINITE = (
    "expected a finite loss and gradient at the starting point, got NaN or infinity; "
    "scale the features to about unit size or start from smaller weights"
)


def is_over(state: OptimizerState, max_iterations: int | None, target_error: float | None) -> bool:
    """Tell whether a state meets a limit, or its optimiser has ended by itself."""
    enough = max_iterations is not None and state.iteration >= max_iterations
    reached = target_error is not None and state.error is not None and state.error <= target_error
    return enough or reached or bool(state.stopped)


def is_finite(lin: Linearization) -> bool:
    """Tell whether f and its gradient are finite."""
    return math.isfinite(lin.value) and all_finite(lin.gradient)
