"""Start and stop conditions shared by all methods."""

from __future__ import annotations

import math
from enum import Enum

from hfnumba.errors import NumericalError
from hfnumba.objective import Linearization
from hfnumba.optim.vectors import all_finite

__all__ = ["StopReason"]

MAX_REJECTED = 10
"""Number of consecutive rejected steps after which a Hessian-free method stops."""

START_NOT_FINITE = (
    "expected a finite loss and gradient at the starting point, got NaN or infinity; "
    "scale the features to about unit size or start from smaller weights"
)
NO_LONGER_FINITE = (
    "the loss or the gradient is no longer finite at a point where it was before; "
    "check the data and the workers' memory, then resume from the last checkpoint"
)


class StopReason(Enum):
    """Reason why an optimiser stops; the value is a sentence, with the remedy where there is one.

    Ledgers and checkpoints contain these sentences, so that a changed one makes a stopped run of an earlier version
    unreadable.
    """

    ITERATIONS = "the limit of iterations is reached"
    TARGET_ERROR = "the target error is reached"
    VALIDATION = "the validation loss no longer improves"
    STUCK = (
        f"stopped: {MAX_REJECTED} iterations in a row found no step that lowers the loss; take this point as "
        "converged, or go on with more curvature rows or another seed"
    )
    FLAT = (
        "stopped: the loss is flat here to float32 precision; training is complete, unless this is a saddle, "
        "which only the exact Hessian of an hf method can tell"
    )
    MINIMUM = "stopped: the loss is flat here to float32 precision, with no negative curvature; training is complete"
    NO_DESCENT = (
        "stopped: no step along steepest descent lowers the loss by more than the noise of float32; training is "
        "complete, unless this is a saddle, which only the exact Hessian of an hf method can tell"
    )
    NOT_CONFIRMED = (
        "stopped: where steepest descent leads, the loss or its gradient, evaluated anew, is higher or not finite, "
        "twice in a row; check the data and the workers' memory, then resume from the last checkpoint"
    )


def limit_reached(
    iteration: int, error: float | None, max_iterations: int | None, target_error: float | None
) -> StopReason | None:
    """Return the limit that a run has reached, None if it has reached none; the target error is tested first."""
    if target_error is not None and error is not None and error <= target_error:
        return StopReason.TARGET_ERROR
    if max_iterations is not None and iteration >= max_iterations:
        return StopReason.ITERATIONS
    return None


def flat_stop(*, exact: bool, probed: bool) -> StopReason | None:
    """Return the reason to stop where f is flat, None if the exact Hessian has yet to be probed for a saddle.

    Parameters
    ----------
    exact : bool
        Whether the method has products with the exact Hessian; the Gauss–Newton matrix does not reveal saddles.
    probed : bool
        Whether a probe met no negative curvature.
    """
    if not exact:
        return StopReason.FLAT
    return StopReason.MINIMUM if probed else None


def is_finite(lin: Linearization) -> bool:
    """Return whether f and its gradient are finite."""
    return math.isfinite(lin.value) and all_finite(lin.gradient)


def require_finite(lin: Linearization) -> Linearization:
    """Return the linearisation at a starting point.

    Raises
    ------
    NumericalError
        If f or its gradient is not finite there.
    """
    if not is_finite(lin):
        raise NumericalError(START_NOT_FINITE)
    return lin
