"""A line search that evaluates all its step lengths in one round and takes one that decreases f enough.

Backtracking evaluates one step length after another, a round each. Values along a line need forward passes only, so
all step lengths together are cheaper than one more round, and the lowest may be taken instead of the first.
With the rule "backtracking" the result is the step length that backtracking would find, in one round.
Sources: Armijo's condition; Goldfarb (1980) and Moré and Sorensen (1979) for its second-order form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hfnumba.objective import Objective, RowSample
from hfnumba.optim.direction import Candidate, DirectionKind
from hfnumba.optim.vectors import Vector, all_finite, noise_of, step

ARMIJO = 1e-4

_POWERS: dict[DirectionKind, range] = {
    "newton": range(1, -8, -1),
    # Near a saddle the quadratic model gives the direction but not how far f decreases along it.
    "negative_curvature": range(8, -8, -1),
    # Its length is a guess from the linear model, which is too long in general.
    "gradient": range(0, -16, -1),
}
_BACKTRACKING = range(0, -16, -1)

SearchRule = Literal["lowest", "backtracking"]
SEARCH_RULES: tuple[SearchRule, ...] = ("lowest", "backtracking")


def step_lengths(kind: DirectionKind, rule: SearchRule = "lowest") -> tuple[float, ...]:
    """Return the step lengths evaluated for a kind of direction, longest first; 1 is among them."""
    return tuple(2.0**power for power in (_POWERS[kind] if rule == "lowest" else _BACKTRACKING))


@dataclass(frozen=True)
class LineSearchResult:
    """Result of a line search.

    Attributes
    ----------
    theta : ndarray or None
        New point; None if no step length was acceptable.
    alpha : float or None
        Step length taken.
    value_at_one : float
        f at step length 1, for the reduction ratio; may be not finite.
    value_at_zero : float
        f where the search starts, over the same rows.
    """

    theta: Vector | None
    alpha: float | None
    value_at_one: float
    value_at_zero: float = math.nan


NO_STEP = LineSearchResult(None, None, math.nan)
"""Result where there was no direction to search along."""


def sufficient(candidate: Candidate, value: float, alphas: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return which values decrease f enough, one boolean per step length.

    f(theta + alpha·d) ≤ f + c·alpha·g'd, with alpha²/2·d'Bd added to alpha·g'd where d curves down (so that a
    direction with g'd = 0 has to earn its place too), and below f by more than the noise of the loss, so that
    the recorded loss does not rise. A value that is not finite never does.
    """
    curvature = min(candidate.curvature or 0.0, 0.0)
    bound = value + ARMIJO * (alphas * candidate.slope + alphas**2 / 2 * curvature)
    limit = np.minimum(bound, value - noise_of(value))
    with np.errstate(invalid="ignore"):
        accepted: np.ndarray = np.isfinite(values) & (values <= limit) & (values < value)
    return accepted


def search(
    objective: Objective,
    theta: Vector,
    value: float,
    candidate: Candidate,
    rule: SearchRule = "lowest",
    *,
    rows: RowSample | None = None,
) -> LineSearchResult:
    """Evaluate all step lengths; take the lowest sufficient value, or the longest sufficient step. One round.

    Over all rows, where f is ``value`` at theta; or over a sample, on which length 0 is evaluated as well. A decrease
    on a sample has to be confirmed over all rows.
    """
    alphas = np.array(step_lengths(candidate.kind, rule))
    evaluated = alphas if rows is None else np.append(alphas, 0.0)
    values = np.asarray(objective.values_along(theta, candidate.d, evaluated, rows=rows), dtype=np.float64).reshape(-1)
    if rows is not None:
        values, value = values[:-1], float(values[-1])
    at_one = float(values[int(np.flatnonzero(alphas == 1.0)[0])])
    accepted = sufficient(candidate, value, alphas, values)
    if accepted.any():
        taken = np.argmin(np.where(accepted, values, np.inf)) if rule == "lowest" else np.argmax(accepted)
        alpha = float(alphas[int(taken)])
        moved = step(theta, alpha, candidate.d)
        # A bounded activation can hide an infinite weight from the loss.
        if all_finite(moved):
            return LineSearchResult(moved, alpha, at_one, value)
    return LineSearchResult(None, None, at_one, value)
