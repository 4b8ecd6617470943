"""One step of a Hessian-free method: solve for directions, rank them, search along the best, else steepest descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hfnumba.errors import NumericalError
from hfnumba.krylov.operator import shifted
from hfnumba.krylov.result import KrylovResult, KrylovStatus
from hfnumba.objective import Linearization, Objective, RowSample
from hfnumba.optim.damping import reduction_ratio
from hfnumba.optim.direction import (
    Candidate,
    CurvatureSummary,
    best_ranked,
    krylov_candidates,
    negative_curvature,
    predicts_nothing,
    steepest_descent,
    summarise_curvature,
)
from hfnumba.optim.limits import NO_LONGER_FINITE, StopReason, is_finite
from hfnumba.optim.line_search import NO_STEP, LineSearchResult
from hfnumba.optim.vectors import Vector, norm

LineSearch = Callable[[Candidate], LineSearchResult]
"""A line search along a candidate from where f was linearised; see :func:`hfnumba.optim.line_search.search`."""


@dataclass(frozen=True)
class Step:
    """Step of one iteration, accepted or not.

    Attributes
    ----------
    value : float
        f where the step starts, over all rows.
    krylov : KrylovResult
    curvature : CurvatureSummary
    candidate : Candidate or None
        Direction of the last line search; None if there was none to search along.
    found : LineSearchResult
        Result of the last line search; without a ``theta`` if nothing was acceptable.
    rho : float or None
        Reduction ratio of the best Krylov candidate, also where the step taken is another.
    length : callable
        Length of a vector in the metric of the solve.
    flat : bool
        Nothing was acceptable and the models predicted no decrease above the noise of the loss.
    note : str
    """

    value: float
    krylov: KrylovResult
    curvature: CurvatureSummary
    candidate: Candidate | None = None
    found: LineSearchResult = NO_STEP
    rho: float | None = None
    flat: bool = False
    note: str = ""
    length: Callable[[Vector], float] = norm

    def displacement(self) -> Vector | None:
        """Return alpha·d of the accepted step as a new vector, None without one."""
        if self.candidate is None or self.found.alpha is None:
            return None
        d = self.candidate.d
        scaled: Vector = d * d.dtype.type(self.found.alpha)
        return scaled


def record_fields(step: Step, stopped: StopReason | None) -> dict[str, Any]:
    """Return the fields of the record that describe a step; the reason to stop is appended to the note."""
    taken = step.candidate
    return {
        "rho": step.rho,
        "alpha": step.found.alpha or 0.0,
        "direction": taken.kind if taken else None,
        "krylov_status": step.krylov.status.name,
        "n_matvec": step.krylov.n_matvec,
        "n_negative_curvature": step.curvature.n_negative,
        "lowest_rayleigh": step.curvature.lowest,
        "curvature": taken.curvature if taken else None,
        "note": "; ".join(part for part in (step.note, stopped.value if stopped else "") if part),
    }


def solve(solver: Any, matrix: Any, gradient: Vector, damping: float, **settings: Any) -> KrylovResult:
    """Solve (B + damping·I) x = -g."""
    result: KrylovResult = solver(shifted(matrix, damping), -gradient, **settings)
    return result


def probe(solver: Any, matrix: Any, damping: float, key: tuple[int, int], **settings: Any) -> KrylovResult:
    """Solve with a seeded random right-hand side, for the curvature that the solver meets.

    Where g vanishes, or lies in a subspace that B maps into itself, no Krylov space of g leaves that
    subspace: a saddle looks like a minimum.
    """
    n = matrix.shape[0]
    b = np.random.default_rng(key).standard_normal(n).astype(np.float32)
    b /= np.float32(norm(b))
    result: KrylovResult = solver(shifted(matrix, damping), b, **settings)
    return result


def try_candidates(
    objective: Objective,
    lin: Linearization,
    candidates: list[Candidate],
    *,
    rows: RowSample | None,
    line_search: LineSearch,
) -> tuple[Candidate | None, LineSearchResult]:
    """Rank the candidates on the curvature sample and search along the best, on other rows.

    Two rounds, none without candidates. Ranking on a sample favours long steps; the search is the safeguard.
    """
    if not candidates:
        return None, NO_STEP
    directions = np.stack([candidate.d for candidate in candidates])
    values = np.asarray(objective.values_along(lin.theta, directions, [1.0], rows=rows), dtype=np.float64)
    best = best_ranked(candidates, values.reshape(-1))
    return best, NO_STEP if best is None else line_search(best)


def newton_step(
    objective: Objective,
    lin: Linearization,
    result: KrylovResult,
    *,
    damping: float,
    rows: RowSample | None,
    indefinite: bool,
    last_only: bool = False,
    line_search: LineSearch,
) -> Step:
    """Try the candidates of a solve, else steepest descent. Two rounds, one more for the latter."""
    value = float(lin.value)
    curvature = summarise_curvature(result, damping)
    candidates = krylov_candidates(result, lin.gradient, value, damping, indefinite=indefinite, last_only=last_only)
    best, found = try_candidates(objective, lin, candidates, rows=rows, line_search=line_search)
    rho = None if best is None else reduction_ratio(found.value_at_zero, found.value_at_one, best.predicted())
    if found.theta is not None and best is not None:
        note = ""
        if best.kind == "newton" and best.sign < 0:
            note = "the iterate pointed uphill and was flipped"
        elif best.kind == "negative_curvature":
            note = f"negative curvature had the lowest loss of {len(candidates)} candidates on the curvature sample"
        return Step(value, result, curvature, best, found, rho, note=note)
    flat = result.status is KrylovStatus.ZERO_RHS or (bool(candidates) and predicts_nothing(candidates, value))
    fallback = steepest_descent(lin.gradient, value, 0.0 if best is None else norm(best.d))
    if fallback is not None:
        found = line_search(fallback)
        if found.theta is not None:
            why = (
                "no candidate could be ranked"
                if best is None
                else f"no step along the {best.kind} direction was acceptable"
            )
            return Step(value, result, curvature, fallback, found, rho, note=f"{why}, steepest descent was taken")
    note = "step rejected: no step length lowers the loss enough, also along steepest descent; damping is raised"
    return Step(value, result, curvature, best or fallback, NO_STEP, rho, flat, note)


def escape_step(
    objective: Objective,
    lin: Linearization,
    result: KrylovResult,
    *,
    damping: float,
    rows: RowSample | None,
    line_search: LineSearch,
) -> Step:
    """Try the negative curvature that a probe met. Two rounds; none, and no candidate, if it met none."""
    value = float(lin.value)
    curvature = summarise_curvature(result, damping)
    escape = negative_curvature(result, lin.gradient, value, damping, cap=0.0)
    if escape is None:
        flat = result.status is not KrylovStatus.NONFINITE
        note = "the gradient is flat and no negative curvature was met"
        return Step(value, result, curvature, flat=flat, note=note)
    best, found = try_candidates(objective, lin, [escape], rows=rows, line_search=line_search)
    rho = reduction_ratio(found.value_at_zero, found.value_at_one, escape.predicted())
    note = "the gradient is flat: " + (
        "escaped along negative curvature"
        if found.theta is not None
        else "no step along negative curvature was acceptable"
    )
    return Step(value, result, curvature, best or escape, found, rho, note=note)


def confirm(linearize: Callable[[Vector], Linearization], theta: Vector, step: Step) -> tuple[Linearization, Step]:
    """Linearise where a step leads; go back to theta if f is higher there or not finite. One or two rounds.

    Raises
    ------
    NumericalError
        If f is not finite at theta either, where it was before.
    """
    if step.found.theta is not None:
        lin = linearize(step.found.theta)
        if is_finite(lin) and lin.value <= step.value:
            return lin, step
        why = "is higher than at the old one" if is_finite(lin) else "or its gradient is not finite"
        del lin
        note = f"step rejected: the loss at the new point {why}; damping is raised"
        step = replace(step, found=NO_STEP, note=note)
    lin = linearize(theta)
    if not is_finite(lin):
        raise NumericalError(NO_LONGER_FINITE)
    return lin, step
