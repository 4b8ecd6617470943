"""L-BFGS on the full gradient, with the line search of the Hessian-free methods.

Source: Nocedal and Wright, *Numerical Optimization* (2nd ed., 2006), Algorithms 7.4 and 7.5; the skipping of pairs:
section 18.3, and Li and Fukushima (2001) for the cautious form.

Why not SciPy's L-BFGS-B: it keeps its memory in work arrays of its own and is driven by calls back, so a run could
not be taken up again with the same bits; and its line search asks for one gradient after another, a round each,
where all step lengths can be priced in one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hfnumba.errors import NumericalError, UsageError
from hfnumba.krylov.operator import add_scaled, dot
from hfnumba.objective import Linearization, Objective
from hfnumba.optim.checks import require_common, require_integer
from hfnumba.optim.direction import Candidate, steepest_descent
from hfnumba.optim.iteration import Iteration, Meter, OptimizerState, finite_or_none, record, starting_theta
from hfnumba.optim.limits import START_NOT_FINITE, is_finite, is_over
from hfnumba.optim.line_search import NO_STEP, LineSearch, search
from hfnumba.optim.vectors import Vector, all_finite, norm

_CURVED = 1e-8
"""Least cosine between a step and the change of the gradient along it that makes them a pair."""

_FLAT = (
    "stopped: no step along steepest descent lowers the loss by more than the noise of float32; training is complete, "
    "unless this is a saddle, which only the exact Hessian of an hf method can tell"
)
_LOST = (
    "stopped: where steepest descent leads, the loss or its gradient, evaluated anew, is higher or not finite, twice "
    "in a row; check the data and the workers' memory, then resume from the last checkpoint"
)
_CLEARED = "step rejected: nothing acceptable lies along this direction; the memory of earlier steps was cleared"


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS.

    An iteration searches along -H g, where H is built from the last ``history`` steps, over all rows; the first,
    and the one after a search that found nothing, along steepest descent. The loss never rises.

    Parameters
    ----------
    history : int, default 10
        Pairs of vectors that H is built from.
    seed : int
        Not used, since nothing is drawn; every method has one.
    max_iterations, target_error : optional
        End after so many iterations in total, or once the training error is at most this share.

    Raises
    ------
    UsageError
        If a setting is out of its range.

    Notes
    -----
    Rounds per iteration: 2 (line search; loss and gradient at the new point), or 1 if no step was found. Memory:
    2·history + 8 n-vectors, and a checkpoint holds 2·history + 1 of them.
    """

    history: int = 10
    seed: int = 0
    max_iterations: int | None = None
    target_error: float | None = None

    def __post_init__(self) -> None:
        require_integer("history", self.history, 1, "10 is a usual choice")
        require_common(self.seed, self.max_iterations, self.target_error)

    def iterate(
        self,
        objective: Objective,
        theta: Vector | None = None,
        *,
        test: Objective | None = None,
        state: OptimizerState | None = None,
    ) -> Iterator[Iteration]:
        """Yield iteration 0, then every iteration as it is done; parameters as of ``HessianFree.iterate``.

        Raises
        ------
        UsageError
            If theta does not fit the objective, or the state is of another method.
        NumericalError
            If the loss or the gradient is not finite at the starting point.
        """
        if state is not None and (state.damping is not None or state.velocity is not None or state.iterate is not None):
            raise UsageError("expected the state of lbfgs, got one of another method; resume with its own method")
        return self._run(objective, starting_theta(objective, theta, state), test, state)

    def _run(
        self, objective: Objective, theta: Vector, test: Objective | None, state: OptimizerState | None
    ) -> Iterator[Iteration]:
        if state is not None and is_over(state, self.max_iterations, self.target_error):
            return
        meter = Meter(objective)
        lin = _linearize(objective, theta)
        if not is_finite(lin):
            raise NumericalError(START_NOT_FINITE)
        if state is None:
            state = OptimizerState(theta, error=finite_or_none(lin.error), **meter.cost())
            yield record(state, lin.value, lin.error, objective, test, grad_norm=norm(lin.gradient))
            meter.go_on()
        else:
            state = replace(state, theta=theta)
            meter.resume(state)
        while not is_over(state, self.max_iterations, self.target_error):
            candidate, found, following = self._attempt(objective, lin, state)
            state = self._next_state(state, candidate, found, lin, following)
            lin = following or lin
            state = replace(state, error=finite_or_none(lin.error), **meter.cost())
            yield record(
                state,
                lin.value,
                lin.error,
                objective,
                test,
                grad_norm=norm(lin.gradient),
                alpha=found.alpha if following is not None else 0.0,
                direction=None if candidate is None else candidate.kind,
                note=state.stopped or ("" if following is not None else _CLEARED),
            )
            meter.go_on()

    def _attempt(
        self, objective: Objective, lin: Linearization, state: OptimizerState
    ) -> tuple[Candidate | None, LineSearch, Linearization | None]:
        """Search along a direction; the linearisation where it leads is None if nothing there is acceptable."""
        value = float(lin.value)
        candidate = _quasi_newton(lin.gradient, state.pairs)
        if candidate is None and state.pairs is None:
            candidate = steepest_descent(lin.gradient, value, 0.0)
        if candidate is None:
            return None, NO_STEP, None
        found = search(objective, lin.theta, value, candidate)
        if found.theta is None:
            return candidate, found, None
        there = _linearize(objective, found.theta)
        return candidate, found, there if is_finite(there) and there.value <= value else None

    def _next_state(
        self,
        before: OptimizerState,
        candidate: Candidate | None,
        found: LineSearch,
        lin: Linearization,
        following: Linearization | None,
    ) -> OptimizerState:
        state = replace(before, iteration=before.iteration + 1)
        if following is None or found.theta is None:
            stopped = ""
            if before.pairs is None and (found.theta is None or before.n_rejected):
                stopped = _FLAT if found.theta is None else _LOST
            return replace(state, pairs=None, n_rejected=before.n_rejected + 1, stopped=stopped)
        pair = np.stack([found.theta - before.theta, following.gradient - lin.gradient])
        pairs = before.pairs
        cosine = dot(pair[0], pair[1]) / ((norm(pair[0]) * norm(pair[1])) or math.inf)
        if cosine > _CURVED and all_finite(pair.ravel()):
            new = pair[:, np.newaxis]
            pairs = new if pairs is None else np.concatenate([pairs, new], axis=1)[:, -int(self.history) :]
        return replace(state, theta=found.theta, pairs=pairs, n_rejected=0)


def _quasi_newton(gradient: Vector, pairs: Vector | None) -> Candidate | None:
    """Return -H g by the two-loop recursion (Algorithm 7.4); None without pairs or if it does not descend."""
    if pairs is None:
        return None
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
    # Loss, error and gradient in one round. A sample of one row: no product is asked for, so nothing is kept for it.
    return objective.linearize(theta, 1)
