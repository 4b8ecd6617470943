"""Stopping rule by the quadratic model, and the grid of iterates that a solver stores.

Both are from Martens, "Deep learning via Hessian-free optimization" (ICML 2010): the relative progress
of the quadratic model (section 4.4) and the geometric grid of iterates to backtrack over (section 4.6). The
equations of that paper have no numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RelativeProgress:
    """Stop when the quadratic model has stopped improving (Martens 2010, section 4.4).

    With phi(x) = x'Ax/2 - b'x, stop at iteration i if i > k, phi(x_i) < 0 and
    (phi(x_i) - phi(x_{i-k})) / phi(x_i) < k·tolerance, where k = max(min_window, ceil(window·i)).

    Parameters
    ----------
    tolerance : float, default 5e-4
        Smallest relative progress per iteration that is worth a product.
    window : float, default 0.1
        Length of the averaging window as a fraction of the iterations so far.
    min_window : int, default 10
        Shortest averaging window, in iterations.

    Raises
    ------
    ValueError
        If tolerance is not positive, window is negative or min_window < 1.
    """

    tolerance: float = 5e-4
    window: float = 0.1
    min_window: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < math.inf:
            raise ValueError(f"expected tolerance > 0, got {self.tolerance}; pass None as progress for no such stop")
        if not 0 <= self.window < math.inf:
            raise ValueError(f"expected window >= 0, got {self.window}; it is a fraction of the iterations")
        if not self.min_window >= 1:
            raise ValueError(f"expected min_window >= 1, got {self.min_window}; it is a number of iterations")

    def stops(self, models: Sequence[float]) -> bool:
        """Return whether to stop.

        Parameters
        ----------
        models : sequence of float
            Values phi(x_0), …, phi(x_i) of the quadratic model so far.

        Returns
        -------
        bool
            True if the progress over the window is too small.
        """
        i = len(models) - 1
        k = max(self.min_window, math.ceil(self.window * i))
        return i > k and models[i] < 0 and relative_progress(models[i], models[i - k]) < k * self.tolerance


def relative_progress(now: float, before: float) -> float:
    """Return (now - before) / now: the fraction of the model value gained since ``before``."""
    return (now - before) / now


def on_grid(index: int, backtracking_ratio: float) -> bool:
    """Whether ``index`` = ceil(backtracking_ratio^i) for some i >= 0 (Martens 2010, section 4.6, with 1.3).

    Parameters
    ----------
    index : int
        Number of the iteration, from 1.
    backtracking_ratio : float
        Ratio of the grid, > 1.
    """
    # A grid denser than the integers holds every index; so the loop below stays short as the ratio -> 1.
    if (index - 1) * backtracking_ratio <= index:
        return True
    power = 1.0
    while power <= index - 1:
        power *= backtracking_ratio
    return power <= index
