"""Candidates for the next step: Krylov iterates, a direction of negative curvature, steepest descent.

Source: He, Mudigere, Smelyanskiy and Takáč (2016), Algorithm 2. The paper chooses between the last iterate
and the directions of negative curvature; here earlier iterates compete as well (Martens 2010, CG backtracking).
All curvature values are by-products of the solve: no candidate costs a product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hfnumba.krylov.result import CurvedDirection, Iterate, KrylovResult
from hfnumba.krylov.vectors import dot
from hfnumba.optim.vectors import LOSS_NOISE, Vector, all_finite, noise_of, norm

DirectionKind = Literal["newton", "negative_curvature", "gradient"]

MAX_ITERATES = 6
"""Maximum number of iterates that compete: each is an n-vector sent to all workers."""

_ROUNDING = 1e-6
"""Size of a Rayleigh quotient, relative to the largest one met, below which its sign is not certain in float32."""


@dataclass(frozen=True)
class Candidate:
    """A direction to search along, with the quadratic model of f along it.

    Attributes
    ----------
    d : ndarray, shape (n_params,)
    slope : float
        g'd, never positive; zero only for a direction of negative curvature.
    curvature : float or None
        d'Bd of the undamped matrix; None if it was not computed (steepest descent).
    kind : str
        ``"newton"`` (a Krylov iterate), ``"negative_curvature"`` or ``"gradient"``.
    sign : int
        -1 if the solver's vector was flipped to point downhill. A flipped iterate is not a Newton step: where
        its curvature is positive it climbs in its own model.
    index : int
        Index of the Krylov iterate; 0 for any other candidate.
    """

    d: Vector
    slope: float
    curvature: float | None
    kind: DirectionKind
    sign: int = 1
    index: int = 0

    def predicted(self, alpha: float = 1.0) -> float:
        """Return the change alpha·g'd + alpha²/2·d'Bd in the undamped model (linear without d'Bd)."""
        return alpha * self.slope + alpha * alpha / 2 * (self.curvature or 0.0)


@dataclass(frozen=True)
class CurvatureSummary:
    """Curvature of the undamped B that a solve met: number of negative Rayleigh quotients, and the lowest of all."""

    n_negative: int
    lowest: float | None


def _sign_threshold(result: KrylovResult) -> float:
    finite = [abs(r) for r in result.rayleighs if math.isfinite(r)]
    return _ROUNDING * max(finite, default=0.0)


def summarise_curvature(result: KrylovResult, damping: float) -> CurvatureSummary:
    """Count the negative Rayleigh quotients of B (beyond rounding) from those of B + damping·I."""
    undamped = [r - damping for r in result.rayleighs if math.isfinite(r)]
    threshold = _sign_threshold(result)
    return CurvatureSummary(sum(r < -threshold for r in undamped), min(undamped, default=None))


def krylov_candidates(
    result: KrylovResult,
    gradient: Vector,
    value: float,
    damping: float,
    *,
    indefinite: bool,
    last_only: bool = False,
) -> list[Candidate]:
    """Return all candidates of one solve of (B + damping·I) x = -g.

    Parameters
    ----------
    result : KrylovResult
    gradient : ndarray
        g of f over all rows.
    value : float
        f at theta, which determines the length below which a step cannot be measured.
    damping : float
        Damping of the solve, to be subtracted from its curvature values.
    indefinite : bool
        False for a Gauss–Newton matrix, where negative curvature can only be rounding.
    last_only : bool
        Whether the last iterate is the only one that competes.

    Returns
    -------
    list of Candidate
        At most ``MAX_ITERATES`` iterates, oldest first and always with the last, then at most one direction
        of negative curvature. Empty if the solve gave nothing finite that descends.
    """
    iterates = result.iterates[-1:] if last_only else result.iterates
    if len(iterates) > MAX_ITERATES:
        chosen = np.linspace(0, len(iterates) - 1, MAX_ITERATES).round().astype(int)
        iterates = tuple(iterates[i] for i in chosen)
    found = [candidate for it in iterates if (candidate := _downhill(it, gradient, damping)) is not None]
    if indefinite:
        curved = negative_curvature(result, gradient, value, damping, cap=norm(result.x))
        if curved is not None:
            found.append(curved)
    return found


def _downhill(iterate: Iterate, gradient: Vector, damping: float) -> Candidate | None:
    x = iterate.x
    if not all_finite(x):
        return None
    slope = dot(gradient, x)
    curvature = iterate.curvature - damping * dot(x, x)
    if not (math.isfinite(slope) and math.isfinite(curvature)) or slope == 0:
        return None
    sign = -1 if slope > 0 else 1
    return Candidate(x if sign > 0 else -x, -abs(slope), curvature, "newton", sign, iterate.index)


def negative_curvature(
    result: KrylovResult, gradient: Vector, value: float, damping: float, *, cap: float
) -> Candidate | None:
    """Return the most negatively curved direction of a solve, d := -sgn(g'd)·d with sgn(0) := 1, at a length.

    The length is that of a Newton step along d with the sign of the curvature dropped, abs(g'd)/abs(d'Bd),
    and no more than ``cap`` (the length of the last iterate; 0 for none). It is ``cap`` where g'd = 0, and
    at least such that the decrease d'Bd/2 alone rises above the noise of the loss: close to a ridge g'd is
    tiny, and step lengths could not be distinguished.

    Returns
    -------
    Candidate or None
        None if no direction curved down by more than rounding.
    """
    lowest = result.lowest
    if lowest is None or not _is_negative(lowest, damping, _sign_threshold(result)):
        return None
    length = math.sqrt(lowest.squared_norm)
    # Normalised before it is scaled: late residuals may be so small that t / |d| overflows float32.
    unit = (lowest.d / lowest.d.dtype.type(length)).astype(gradient.dtype, copy=False)
    curvature = lowest.rayleigh - damping
    slope = dot(gradient, unit)
    if not (all_finite(unit) and math.isfinite(slope)):
        return None
    newton = abs(slope) / -curvature
    wanted = newton if not (math.isfinite(cap) and cap > 0) else min(newton, cap) if newton > 0 else cap
    measurable = math.sqrt(2 * LOSS_NOISE * max(abs(value), 1.0) / -curvature)
    sign = 1 if slope < 0 else -1
    t = max(wanted, measurable)
    d = unit * unit.dtype.type(sign * t)
    return Candidate(d, -abs(slope) * t, curvature * t * t, "negative_curvature", sign)


def _is_negative(direction: CurvedDirection, damping: float, threshold: float) -> bool:
    usable = math.isfinite(direction.squared_norm) and direction.squared_norm > 0
    return usable and math.isfinite(direction.curvature) and direction.rayleigh - damping < -threshold


def steepest_descent(gradient: Vector, value: float, longest: float) -> Candidate | None:
    """Return -s·g, of the length at which the linear model reaches zero, at most ``longest`` (0 for no limit).

    Returns
    -------
    Candidate or None
        None where the gradient vanishes.
    """
    size = norm(gradient)
    if not (math.isfinite(size) and size > 0):
        return None
    length = (abs(value) or 1.0) / size
    if math.isfinite(longest) and longest > 0:
        length = min(length, longest)
    d = gradient * gradient.dtype.type(-length / size)
    if not all_finite(d):
        return None
    return Candidate(d, -length * size, None, "gradient")


def best_ranked(candidates: list[Candidate], values: np.ndarray) -> Candidate | None:
    """Return the candidate with the lowest finite value, the earlier one on a tie; None if none is finite.

    Parameters
    ----------
    values : ndarray, shape (n_candidates,)
        f at theta + d, all over the same rows.
    """
    finite = np.where(np.isfinite(values), values, np.inf)
    best = int(np.argmin(finite))
    return candidates[best] if math.isfinite(finite[best]) else None


def predicts_nothing(candidates: list[Candidate], value: float) -> bool:
    """Return whether every model predicts a decrease below the noise of the loss, i.e. f is numerically flat."""
    return all(-candidate.predicted() <= noise_of(value) for candidate in candidates)
