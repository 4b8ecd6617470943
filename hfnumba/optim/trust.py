"""Trust rules, which bound the steps of a model of f: by a damping, a radius, or the best of several dampings.

A rule sets arguments of the solver and what the next iteration starts from. It has no state of its own: that is in the
:class:`~hfnumba.optim.iteration.OptimizerState`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from hfnumba.errors import UsageError
from hfnumba.optim.damping import MAX_DAMPING, MIN_DAMPING, updated
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.step import Step
from hfnumba.optim.vectors import Vector

MIN_RADIUS = 1e-6
MAX_RADIUS = 1e6
_INSIDE = 0.9
"""Largest length of a warm start, as a share of the radius; a longer one is shortened to it."""

METRIC_DAMPING = 0.01
"""Damping of a preconditioner that is the metric of a trust region."""

FACTORS = (16.0, 4.0, 1.0, 1 / 4, 1 / 16)
"""Multiples of the last damping whose steps compete in the ranking round; the shortest step first."""


Length = Callable[[Vector], float]
"""Function that returns the length of a vector."""


class TrustRule(Protocol):
    """Bound on the steps of a model."""

    def shift(self, state: OptimizerState) -> float:
        """Return the multiple of the identity that is added to the curvature matrix."""
        ...

    def metric_damping(self, state: OptimizerState) -> float:
        """Return the damping of the preconditioner."""
        ...

    def arguments(self, state: OptimizerState, x0: Vector | None, ratio: float, length: Length) -> dict[str, Any]:
        """Return the arguments of the solver except the system, ``rtol`` and ``maxiter``.

        Parameters
        ----------
        state : OptimizerState
        x0 : ndarray or None
            Starting point of the solve.
        ratio : float
            Backtracking ratio.
        length : callable
            Length of a vector in the metric of the solve.
        """
        ...

    def following(self, state: OptimizerState, step: Step) -> dict[str, Any]:
        """Return the fields of the next state that this rule sets after a step."""
        ...


class Damped:
    """Damped system (B + damping·I) x = -g, with Levenberg and Marquardt's rule for the damping."""

    def shift(self, state: OptimizerState) -> float:
        """Return the damping."""
        return damping_of(state)

    metric_damping = shift

    def arguments(self, state: OptimizerState, x0: Vector | None, ratio: float, length: Length) -> dict[str, Any]:
        """Start at x0."""
        return {"x0": x0, "backtracking_ratio": ratio}

    def following(self, state: OptimizerState, step: Step) -> dict[str, Any]:
        """Adapt the damping, see :func:`hfnumba.optim.damping.updated`."""
        return {"damping": updated(damping_of(state), step.rho, step.found.alpha)}


class Radius:
    """Model within |x| <= radius (Nocedal and Wright 2006, Algorithm 4.1).

    The textbook accepts or rejects a step by rho alone; here a line search follows, so the radius also depends on the
    length of the step taken.
    """

    def shift(self, state: OptimizerState) -> float:
        """Return 0: the matrix is not damped."""
        return 0.0

    def metric_damping(self, state: OptimizerState) -> float:
        """Return a constant: the radius alone bounds the steps."""
        return METRIC_DAMPING

    def arguments(self, state: OptimizerState, x0: Vector | None, ratio: float, length: Length) -> dict[str, Any]:
        """Start at x0, shortened to lie well within the region."""
        radius = radius_of(state)
        if x0 is not None and (longest := length(x0)) > _INSIDE * radius:
            x0 = x0 * x0.dtype.type(_INSIDE * radius / longest)
        return {"x0": x0, "backtracking_ratio": ratio, "radius": radius}

    def following(self, state: OptimizerState, step: Step) -> dict[str, Any]:
        """Shrink the radius where the model was wrong, double it where it was right at the edge.

        Without an accepted step: a quarter. With rho < 1/4 or unknown: the length of the step, but at least a quarter.
        Otherwise at least the length of the step, and twice the radius if rho > 3/4 for a candidate at the edge.
        """
        radius, taken = radius_of(state), step.displacement()
        if taken is None or step.candidate is None:
            radius /= 4
        else:
            length, proposed = step.length(taken), step.length(step.candidate.d)
            if step.rho is None or step.rho < 1 / 4:
                # Where the model predicts no decrease at length 1 a long step along negative curvature still counts.
                radius = max(length, radius / 4)
            else:
                grows = step.rho > 3 / 4 and proposed >= _INSIDE * radius
                radius = max(length, 2 * radius if grows else radius)
        return {"radius": min(max(radius, MIN_RADIUS), MAX_RADIUS)}


class DampingCandidates:
    """Steps of several dampings from one basis, which compete in the ranking round; the best one's damping is next."""

    def shift(self, state: OptimizerState) -> float:
        """Return 0: the solver applies the dampings itself."""
        return 0.0

    def metric_damping(self, state: OptimizerState) -> float:
        """Return the damping of the last step; in the metric the dampings that compete are multiples of it."""
        return damping_of(state)

    def arguments(self, state: OptimizerState, x0: Vector | None, ratio: float, length: Length) -> dict[str, Any]:
        """Request the step of every damping; there are no iterates to backtrack over."""
        return {"x0": x0, "dampings": self.dampings(damping_of(state))}

    def following(self, state: OptimizerState, step: Step) -> dict[str, Any]:
        """Continue from the damping of the best step, adapted as for any other method."""
        damping = damping_of(state)
        if step.found.theta is not None and step.candidate is not None and step.candidate.index:
            damping = self.dampings(damping)[step.candidate.index - 1]
        return {"damping": updated(damping, step.rho, step.found.alpha)}

    @staticmethod
    def dampings(damping: float) -> tuple[float, ...]:
        """Return the dampings whose steps compete, each within the range of dampings."""
        return tuple(min(max(damping * factor, MIN_DAMPING), MAX_DAMPING) for factor in FACTORS)


def damping_of(state: OptimizerState) -> float:
    """Return the damping of a state.

    Raises
    ------
    UsageError
        If it has none.
    """
    if state.damping is None:
        raise UsageError(
            "expected the state of a Hessian-free method, got one without damping; resume with its own method"
        )
    return state.damping


def radius_of(state: OptimizerState) -> float:
    """Return the radius of a state.

    Raises
    ------
    UsageError
        If it has none.
    """
    if state.radius is None or not math.isfinite(state.radius):
        raise UsageError("expected the state of hf-steihaug, got one without radius; resume with its own method")
    return state.radius
