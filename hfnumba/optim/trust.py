"""How far a model of f is trusted: a damping, a radius, or a damping chosen among priced candidates.

A rule says how the solver is called and what the next iteration starts from. All it remembers is in the state.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from hfnumba.errors import UsageError
from hfnumba.optim.damping import MAX_DAMPING, MIN_DAMPING, updated
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.step import Attempt
from hfnumba.optim.vectors import Vector, norm

MIN_RADIUS = 1e-6
MAX_RADIUS = 1e6
_INSIDE = 0.9
"""A warm start longer than this share of the radius is shortened to it."""

FACTORS = (16.0, 4.0, 1.0, 1 / 4, 1 / 16)
"""Multiples of the last damping that compete in the ranking round; the shortest step first."""


class TrustRule(Protocol):
    """How far a model is trusted."""

    def shift(self, state: OptimizerState) -> float:
        """Return the multiple of the identity that is added to the curvature matrix."""
        ...

    def arguments(self, state: OptimizerState, x0: Vector | None, keep: float) -> dict[str, Any]:
        """Return the arguments of the solver, but for the system, ``rtol`` and ``maxiter``."""
        ...

    def following(self, state: OptimizerState, attempt: Attempt) -> dict[str, Any]:
        """Return the fields of the state after an attempt that this rule sets."""
        ...


class Damped:
    """(B + damping·I) x = -g, and the damping adapts by Levenberg and Marquardt's rule."""

    def shift(self, state: OptimizerState) -> float:
        """Return the damping."""
        return damping_of(state)

    def arguments(self, state: OptimizerState, x0: Vector | None, keep: float) -> dict[str, Any]:
        """Start at x0."""
        return {"x0": x0, "backtracking_ratio": keep}

    def following(self, state: OptimizerState, attempt: Attempt) -> dict[str, Any]:
        """Adapt the damping, see :func:`hfnumba.optim.damping.updated`."""
        return {"damping": updated(damping_of(state), attempt.rho, attempt.found.alpha)}


class Radius:
    """The model within |x| <= radius (Nocedal and Wright 2006, Algorithm 4.1).

    The textbook accepts or rejects a step by rho and nothing else; here the line search stands in between, so the
    radius also follows the length that was walked.
    """

    def shift(self, state: OptimizerState) -> float:
        """Return 0: the matrix is not damped."""
        return 0.0

    def arguments(self, state: OptimizerState, x0: Vector | None, keep: float) -> dict[str, Any]:
        """Start at x0, shortened to lie well within the region."""
        radius = radius_of(state)
        if x0 is not None and (longest := norm(x0)) > _INSIDE * radius:
            x0 = x0 * x0.dtype.type(_INSIDE * radius / longest)
        return {"x0": x0, "backtracking_ratio": keep, "radius": radius}

    def following(self, state: OptimizerState, attempt: Attempt) -> dict[str, Any]:
        """Shrink the radius where the model was wrong, double it where it was right at the edge.

        Without an accepted step: a quarter. With rho < 1/4 or unknown: the length walked, but at least a quarter.
        Otherwise it is at least the length walked, and twice the radius if rho > 3/4 for a step to the edge.
        """
        radius, step = radius_of(state), attempt.step()
        if step is None or attempt.candidate is None:
            radius /= 4
        else:
            walked, asked = norm(step), norm(attempt.candidate.d)
            if attempt.rho is None or attempt.rho < 1 / 4:
                # Where the model predicts no decrease at length 1 a long walk along negative curvature still counts.
                radius = max(walked, radius / 4)
            else:
                grows = attempt.rho > 3 / 4 and asked >= _INSIDE * radius
                radius = max(walked, 2 * radius if grows else radius)
        return {"radius": min(max(radius, MIN_RADIUS), MAX_RADIUS)}


class Priced:
    """Steps of several dampings from one basis compete in the ranking round; the winner's damping is the next."""

    def shift(self, state: OptimizerState) -> float:
        """Return 0: the solver damps by itself."""
        return 0.0

    def arguments(self, state: OptimizerState, x0: Vector | None, keep: float) -> dict[str, Any]:
        """Ask for the step of every damping; there are no iterates to keep."""
        return {"x0": x0, "dampings": self.dampings(damping_of(state))}

    def following(self, state: OptimizerState, attempt: Attempt) -> dict[str, Any]:
        """Start from the winner's damping, adapted as that of any other method."""
        damping = damping_of(state)
        if attempt.found.theta is not None and attempt.candidate is not None and attempt.candidate.index:
            damping = self.dampings(damping)[attempt.candidate.index - 1]
        return {"damping": updated(damping, attempt.rho, attempt.found.alpha)}

    @staticmethod
    def dampings(damping: float) -> tuple[float, ...]:
        """Return the dampings that compete, within their range."""
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
