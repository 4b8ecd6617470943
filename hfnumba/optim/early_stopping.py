"""Early stopping: which iteration is the best by a validation loss, and when a run should end."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hfnumba.optim.checks import require_integer, require_real


@dataclass(frozen=True)
class EarlyStopping:
    """Rule that ends a run whose validation loss no longer improves.

    A value that is lower than all before is the best. An improvement that counts is one of more than
    ``min_improvement`` times the last value that counted, so many small ones add up to one that counts. The run ends
    after ``patience`` iterations in a row without one. A value that is not finite is never an improvement.

    Parameters
    ----------
    patience : int, default 10
        Number of iterations without an improvement that counts after which the run ends, at least 1. This is
        ``n_iter_no_change`` of scikit-learn.
    min_improvement : float, default 1e-4
        Smallest relative improvement that counts, from 0 to 1.

    Raises
    ------
    UsageError
        If a setting is out of its range.

    Notes
    -----
    The rule of Prechelt, "Early Stopping – But When?" (1998), section 2, criterion UP, counts strips of rising
    error; this one counts iterations without a new minimum, as Keras and scikit-learn do.
    """

    patience: int = 10
    min_improvement: float = 1e-4

    def __post_init__(self) -> None:
        require_integer("patience", self.patience, 1, "10 is a usual choice")
        require_real("min_improvement", self.min_improvement, 0.0, 1.0, "it is a share of the loss, so 0.001 for 0.1 %")

    def after(self, state: BestSoFar, iteration: int, value: float | None) -> BestSoFar:
        """Return the state after an iteration.

        Parameters
        ----------
        state : BestSoFar
            State before it; ``BestSoFar()`` before the first.
        iteration : int
            Number of the iteration.
        value : float or None
            What is minimised, such as the loss over the validation rows; None counts as not finite.
        """
        if value is None or not math.isfinite(value):
            return replace(state, n_without=state.n_without + 1)
        if state.value is None or state.reference is None:
            return BestSoFar(iteration, value, value, 0)
        counts = value < state.reference - self.min_improvement * abs(state.reference)
        is_best = value < state.value
        return BestSoFar(
            iteration=iteration if is_best else state.iteration,
            value=value if is_best else state.value,
            reference=value if counts else state.reference,
            n_without=0 if counts else state.n_without + 1,
        )

    def stops(self, state: BestSoFar) -> bool:
        """Whether the run should end in this state."""
        return state.n_without >= self.patience


@dataclass(frozen=True)
class BestSoFar:
    """State of the rule: the best iteration of a run so far.

    Attributes
    ----------
    iteration : int or None
        Number of the best iteration; None before the first finite value.
    value : float or None
        The lowest value, that of ``iteration``.
    reference : float or None
        Last value that counted as an improvement.
    n_without : int
        Number of iterations since then.
    """

    iteration: int | None = None
    value: float | None = None
    reference: float | None = None
    n_without: int = 0
