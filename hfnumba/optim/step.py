"""One attempt at a step: solve for directions, rank them, search along the best, else steepest descent."""

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
    CurvatureSeen,
    best_ranked,
    curvature_seen,
    krylov_candidates,
    negative_curvature,
    predicts_nothing,
    steepest_descent,
)
from hfnumba.optim.limits import LOST, is_finite
from hfnumba.optim.line_search import NO_STEP, LineSearch
from hfnumba.optim.vectors import Vector, norm

Search = Callable[[Candidate], LineSearch]
"""A line search along a candidate from where f was linearised; see :func:`hfnumba.optim.line_search.search`."""


@dataclass(frozen=True)
class Attempt:
    """What one iteration tried.

    Attributes
    ----------
    krylov : KrylovResult
    seen : CurvatureSeen
    candidate : Candidate or None
        What the last line search went along; None if there was nothing to walk along.
    found : LineSearch
        Without a ``theta`` if nothing was acceptable.
    rho : float or None
        Reduction ratio of the best Krylov candidate, also where the step taken is another.
    flat : bool
        Nothing was acceptable and the models promised nothing above the noise of the loss.
    note : str
    """

    krylov: KrylovResult
    seen: CurvatureSeen
    candidate: Candidate | None = None
    found: LineSearch = NO_STEP
    rho: float | None = None
    flat: bool = False
    note: str = ""

    def step(self) -> Vector | None:
        """Return alpha·d of the accepted step as a new vector, None without one."""
        if self.candidate is None or self.found.alpha is None:
            return None
        d = self.candidate.d
        scaled: Vector = d * d.dtype.type(self.found.alpha)
        return scaled


def describe(attempt: Attempt, stopped: str) -> dict[str, Any]:
    """Return the ledger fields that tell of an attempt; ``stopped`` is appended to the note."""
    taken = attempt.candidate
    return {
        "rho": attempt.rho,
        "alpha": attempt.found.alpha or 0.0,
        "direction": taken.kind if taken else None,
        "krylov_status": attempt.krylov.status.name,
        "n_matvec": attempt.krylov.n_matvec,
        "n_negative_curvature": attempt.seen.n_negative,
        "lowest_rayleigh": attempt.seen.lowest,
        "curvature": taken.curvature if taken else None,
        "note": "; ".join(part for part in (attempt.note, stopped) if part),
    }


def solve(solver: Any, matrix: Any, gradient: Vector, damping: float, **settings: Any) -> KrylovResult:
    """Solve (B + damping·I) x = -g."""
    result: KrylovResult = solver(shifted(matrix, damping), -gradient, **settings)
    return result


def probe(solver: Any, matrix: Any, damping: float, key: tuple[int, int], **settings: Any) -> KrylovResult:
    """Solve with a seeded random right-hand side, for the curvature met on the way.

    Where g vanishes, or lies in a subspace that B maps into itself, no Krylov space of g leaves that
    subspace: a saddle looks like a minimum.
    """
    n = matrix.shape[0]
    b = np.random.default_rng(key).standard_normal(n).astype(np.float32)
    b /= np.float32(norm(b))
    result: KrylovResult = solver(shifted(matrix, damping), b, **settings)
    return result


def walk(
    objective: Objective,
    lin: Linearization,
    candidates: list[Candidate],
    *,
    rows: RowSample | None,
    along: Search,
) -> tuple[Candidate | None, LineSearch]:
    """Rank the candidates on the curvature sample and search along the best, on other rows.

    Two rounds, none without candidates. Ranking on a sample favours long steps; the search is the safeguard.
    """
    if not candidates:
        return None, NO_STEP
    directions = np.stack([candidate.d for candidate in candidates])
    values = np.asarray(objective.values_along(lin.theta, directions, [1.0], rows=rows), dtype=np.float64)
    best = best_ranked(candidates, values.reshape(-1))
    return best, NO_STEP if best is None else along(best)


def attempt_newton(
    objective: Objective,
    lin: Linearization,
    result: KrylovResult,
    *,
    damping: float,
    rows: RowSample | None,
    indefinite: bool,
    last_only: bool = False,
    along: Search,
) -> Attempt:
    """Try the candidates of a solve, else steepest descent. Two rounds, one more for the latter."""
    value = float(lin.value)
    seen = curvature_seen(result, damping)
    candidates = krylov_candidates(result, lin.gradient, value, damping, indefinite=indefinite, last_only=last_only)
    best, found = walk(objective, lin, candidates, rows=rows, along=along)
    rho = None if best is None else reduction_ratio(found.value_at_zero, found.value_at_one, best.predicted())
    if found.theta is not None and best is not None:
        note = ""
        if best.kind == "newton" and best.sign < 0:
            note = "the iterate pointed uphill and was flipped"
        elif best.kind == "negative_curvature":
            note = f"negative curvature had the lowest loss of {len(candidates)} candidates on the curvature sample"
        return Attempt(result, seen, best, found, rho, note=note)
    flat = result.status is KrylovStatus.ZERO_RHS or (bool(candidates) and predicts_nothing(candidates, value))
    fallback = steepest_descent(lin.gradient, value, 0.0 if best is None else norm(best.d))
    if fallback is not None:
        found = along(fallback)
        if found.theta is not None:
            why = (
                "no candidate could be ranked"
                if best is None
                else f"no step along the {best.kind} direction was acceptable"
            )
            return Attempt(result, seen, fallback, found, rho, note=f"{why}, steepest descent was taken")
    note = "step rejected: no step length lowers the loss enough, also along steepest descent; damping is raised"
    return Attempt(result, seen, best or fallback, NO_STEP, rho, flat, note)


def attempt_escape(
    objective: Objective,
    lin: Linearization,
    result: KrylovResult,
    *,
    damping: float,
    rows: RowSample | None,
    along: Search,
) -> Attempt:
    """Try the negative curvature that a probe met. Two rounds; none, and no candidate, if it met none."""
    value = float(lin.value)
    seen = curvature_seen(result, damping)
    curved = negative_curvature(result, lin.gradient, value, damping, cap=0.0)
    if curved is None:
        flat = result.status is not KrylovStatus.NONFINITE
        return Attempt(result, seen, flat=flat, note="the gradient is flat and no negative curvature was met")
    best, found = walk(objective, lin, [curved], rows=rows, along=along)
    rho = reduction_ratio(found.value_at_zero, found.value_at_one, curved.predicted())
    note = "the gradient is flat: " + (
        "escaped along negative curvature"
        if found.theta is not None
        else "no step along negative curvature was acceptable"
    )
    return Attempt(result, seen, best or curved, found, rho, note=note)


def confirm(
    linearize: Callable[[Vector], Linearization], theta: Vector, value: float, attempt: Attempt
) -> tuple[Linearization, Attempt]:
    """Linearise where the attempt leads; go back to theta if f is higher or not finite. One or two rounds.

    Raises
    ------
    NumericalError
        If theta, where f was finite before, is lost too.
    """
    if attempt.found.theta is not None:
        lin = linearize(attempt.found.theta)
        if is_finite(lin) and lin.value <= value:
            return lin, attempt
        why = "is higher than at the old one" if is_finite(lin) else "or its gradient is not finite"
        del lin
        note = f"step rejected: the loss at the new point {why}; damping is raised"
        attempt = replace(attempt, found=NO_STEP, note=note)
    lin = linearize(theta)
    if not is_finite(lin):
        raise NumericalError(LOST)
    return lin, attempt
