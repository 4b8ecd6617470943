"""L-BFGS on the full gradient, with the line search of the Hessian-free methods.

Source: Nocedal and Wright, *Numerical Optimization* (2nd ed., 2006), Algorithms 7.4 and 7.5; the skipping of pairs:
section 18.3, and Li and Fukushima (2001) for the cautious form.

Why not SciPy's L-BFGS-B: its memory is in work arrays of its own and it calls the objective back, so that a run could
not be resumed with the same bits; and its line search evaluates one gradient after another, a round each, where all
step lengths can be evaluated in one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from hfnumba.errors import UsageError
from hfnumba.krylov.vectors import add_scaled, dot
from hfnumba.objective import Linearization, Objective
from hfnumba.optim.checks import require_common, require_integer
from hfnumba.optim.direction import Candidate, steepest_descent
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.limits import StopReason, is_finite, require_finite
from hfnumba.optim.line_search import NO_STEP, LineSearchResult, search
from hfnumba.optim.loop import Evaluated, Optimizer
from hfnumba.optim.vectors import Vector, all_finite, norm

_CURVED = 1e-8
"""Smallest cosine between a step and the change of the gradient along it for which they become a pair."""

_CLEARED = "step rejected: nothing acceptable lies along this direction; the memory of earlier steps was cleared"


@dataclass(frozen=True)
class Search:
    """A line search of one iteration.

    Attributes
    ----------
    start : Linearization
        Value and gradient where the search starts. It was made on a sample of one row, without products, so that
        workers retain nothing for it.
    candidate : Candidate or None
        Direction of the search; None if none descends.
    found : LineSearchResult
    """

    start: Linearization
    candidate: Candidate | None = None
    found: LineSearchResult = NO_STEP


@dataclass(frozen=True)
class LBFGS(Optimizer[Linearization, Search]):
    """Limited-memory BFGS.

    An iteration searches along -H g, where H is built from the last ``history`` steps, over all rows; the first,
    and the one after a search that found nothing, along steepest descent. The loss never rises. A run ends by itself
    where steepest descent finds nothing.

    Parameters
    ----------
    history : int, default 10
        Number of pairs of vectors that H is built from.
    seed : int
        Unused, since nothing is drawn; every method has one.
    max_iterations, target_error : int, float, optional
        Total number of iterations, and training error, at which the run ends.

    Raises
    ------
    UsageError
        If a setting is out of its range.

    Notes
    -----
    Rounds per iteration: 2 (line search; loss and gradient at the new point), or 1 if no step was found. Memory:
    2·history + 8 n-vectors, and a checkpoint holds 2·history + 1 of them.

    The memory of the state has ``pairs``, shape (2, n_pairs, n_params): steps, and the changes of the gradient along
    them, oldest first.
    """

    memory_names: ClassVar = frozenset({"pairs"})

    history: int = 10
    seed: int = 0
    max_iterations: int | None = None
    target_error: float | None = None

    def __post_init__(self) -> None:
        require_integer("history", self.history, 1, "10 is a usual choice")
        require_common(self.seed, self.max_iterations, self.target_error)

    def check_state(self, state: OptimizerState) -> None:
        """Raise a UsageError if the state is of another method."""
        if state.damping is not None:
            raise UsageError("expected the state of lbfgs, got one with damping; resume with its own method")
        super().check_state(state)

    def start(self, objective: Objective, theta: Vector) -> tuple[Linearization, Evaluated]:
        """Evaluate f and its gradient at the starting point. One round."""
        lin = require_finite(_linearize(objective, theta))
        return lin, Evaluated(OptimizerState(theta), lin.value, lin.error, {"grad_norm": norm(lin.gradient)})

    def resume(self, objective: Objective, state: OptimizerState) -> Linearization:
        """Evaluate f and its gradient at the theta of a state. One round."""
        return require_finite(_linearize(objective, state.theta))

    def propose(self, objective: Objective, point: Linearization, state: OptimizerState) -> Search:
        """Search along the quasi-Newton direction; without pairs along steepest descent. One round."""
        value, pairs = float(point.value), state.memory.get("pairs")
        candidate = (
            steepest_descent(point.gradient, value, 0.0) if pairs is None else _quasi_newton(point.gradient, pairs)
        )
        if candidate is None:
            return Search(point)
        return Search(point, candidate, search(objective, point.theta, value, candidate))

    def evaluate(
        self, objective: Objective, proposal: Search, state: OptimizerState
    ) -> tuple[Linearization, Evaluated]:
        """Evaluate f and its gradient at the new point; reject it if f is higher there. One round, none without it."""
        old, candidate, theta = proposal.start, proposal.candidate, proposal.found.theta
        new = None if theta is None else _linearize(objective, theta)
        if theta is not None and new is not None and is_finite(new) and new.value <= old.value:
            lin, state = new, self._accepted(state, theta, new.gradient - old.gradient)
            alpha, note = proposal.found.alpha, ""
        else:
            lin, state = old, _rejected(state, nothing_found=theta is None)
            alpha, note = 0.0, _CLEARED if state.stopped is None else state.stopped.value
        fields = {
            "grad_norm": norm(lin.gradient),
            "alpha": alpha,
            "direction": None if candidate is None else candidate.kind,
            "note": note,
        }
        return lin, Evaluated(state, lin.value, lin.error, fields)

    def _accepted(self, before: OptimizerState, theta: Vector, gradient_change: Vector) -> OptimizerState:
        pair = np.stack([theta - before.theta, gradient_change])
        pairs = before.memory.get("pairs")
        cosine = dot(pair[0], pair[1]) / ((norm(pair[0]) * norm(pair[1])) or math.inf)
        if cosine > _CURVED and all_finite(pair.ravel()):
            latest = pair[:, np.newaxis]
            pairs = latest if pairs is None else np.concatenate([pairs, latest], axis=1)[:, -int(self.history) :]
        memory = {} if pairs is None else {"pairs": pairs}
        return replace(before, theta=theta, iteration=before.iteration + 1, memory=memory, n_rejected=0)


def _rejected(before: OptimizerState, *, nothing_found: bool) -> OptimizerState:
    """Return the next state without a step; the second rejection in a row, or of steepest descent, is the last."""
    stopped = None
    if "pairs" not in before.memory and (nothing_found or before.n_rejected):
        stopped = StopReason.NO_DESCENT if nothing_found else StopReason.NOT_CONFIRMED
    return replace(before, iteration=before.iteration + 1, memory={}, n_rejected=before.n_rejected + 1, stopped=stopped)


def _quasi_newton(gradient: Vector, pairs: Vector) -> Candidate | None:
    """Return -H g by the two-loop recursion (Algorithm 7.4); None if it does not descend."""
    d, scratch = -gradient, np.empty_like(gradient)
    steps = list(zip(pairs[0], pairs[1], strict=True))
    products = [dot(s, y) for s, y in steps]
    weights: list[float] = []
    for (s, y), product in zip(reversed(steps), reversed(products), strict=True):
        weights.append(dot(s, d) / product)
        add_scaled(d, -weights[-1], y, scratch)
    s, y = steps[-1]
    d *= d.dtype.type(products[-1] / dot(y, y))
    for (s, y), product, weight in zip(steps, products, reversed(weights), strict=True):
        add_scaled(d, weight - dot(y, d) / product, s, scratch)
    slope = dot(gradient, d)
    if not (all_finite(d) and math.isfinite(slope) and slope < 0):
        return None
    return Candidate(d, slope, None, "newton")


def _linearize(objective: Objective, theta: Vector) -> Linearization:
    # Loss, error and gradient in one round, on a curvature sample of one row, as no product follows.
    return objective.linearize(theta, 1)
