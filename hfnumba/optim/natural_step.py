"""Parts of a natural-gradient step with Kronecker factors: judging the last step, averaging factors, and momentum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from hfnumba.krylov.kronecker import FactoredCurvature
from hfnumba.krylov.vectors import dot
from hfnumba.objective import Minibatch
from hfnumba.optim.damping import reduction_ratio, updated
from hfnumba.optim.vectors import Vector, all_finite, norm, step

MIN_DAMPING, MAX_DAMPING = 1e-4, 100.0
"""Bounds of the damping, narrower than those of the Hessian-free methods."""

_NOISY_DAMPING = 0.03
"""Damping up to which low reduction ratios raise it. Late in a run ratios are low whatever the damping, since most of a
minibatch's gradient is noise. The average of the iterates reduces noise; more damping only makes steps shorter."""

RATE = 0.3
"""Length of a step along d, over the scale c."""

TRUST = 0.15
"""Bound on a step's predicted decrease, as a share of the first loss."""

_EXCESS = 0.1
"""Increase of the loss by a step, as a share of the first loss, above which the step is taken back."""

_AVERAGE = 4.0
"""The average of the iterates is over about the last 1 in 1 + _AVERAGE of the steps."""

_FAR = 100.0
"""An iterate longer than this multiple of the one before has taken digits of the average that it is in."""

_FACTOR_MEMORY = 0.6
_SCALE_MEMORY, _MIN_SCALE, _MAX_SCALE = 0.7, 0.3, 20.0
_MOMENTUM, _MOMENTUM_STEPS = 0.9, 2.0


class Numbers(NamedTuple):
    """Numbers of a run between steps.

    Attributes
    ----------
    step : float
        Steps made.
    n_factors : float
        Factors in their running average.
    log_scale : float
        Logarithm of the scale c.
    first_loss : float
        Loss over the first minibatch.
    slope : float
        g'u of the last step, negative; 0 if there is none to judge.
    metric : float
        d'Fd of the last direction d.
    n_judged : float
        Directions whose scale is in the running mean.
    factored_damping : float
        Damping of the factors' inverse in use; 0 if there is none.
    """

    step: float = 0.0
    n_factors: float = 0.0
    log_scale: float = 0.0
    first_loss: float = 0.0
    slope: float = 0.0
    metric: float = 0.0
    n_judged: float = 0.0
    factored_damping: float = 0.0


def judged(numbers: Numbers, batch: Minibatch, damping: float) -> tuple[float | None, float]:
    """Return the reduction ratio of the last step, and the next damping, within the bounds of this module.

    The ratio is the change of f over half the slope along u. The damping follows
    :func:`hfnumba.optim.damping.updated`, twice where the ratio is below -1. It is raised no further than to 0.03.
    """
    if batch.before is None or batch.after is None or numbers.slope >= 0:
        return None, damping
    rho = reduction_ratio(batch.before, batch.after, numbers.slope / 2)
    adapted = updated(damping, rho, 1.0)
    if rho is not None and rho < -1:
        adapted = updated(adapted, rho, 1.0)
    return rho, min(max(adapted, MIN_DAMPING), max(damping, _NOISY_DAMPING))


def has_failed(numbers: Numbers, batch: Minibatch) -> bool:
    """Return whether a step leads to a loss or gradient that is not finite, or to a much higher loss."""
    if not (math.isfinite(batch.value) and all_finite(batch.gradient)):
        return True
    if batch.before is None or batch.after is None:
        return False
    # Not (>), which is false for NaN.
    return not batch.after - batch.before <= _EXCESS * numbers.first_loss


def measured_scale(numbers: Numbers, batch: Minibatch) -> Numbers:
    """Return the numbers with the curvature of the last direction in the running geometric mean of the scale."""
    ratio = (batch.curvature or 0.0) / numbers.metric if numbers.metric > 0 else 0.0
    if not (math.isfinite(ratio) and ratio > 0):
        return numbers
    memory = _SCALE_MEMORY if numbers.n_judged else 0.0
    log_scale = memory * numbers.log_scale + (1 - memory) * math.log(ratio)
    log_scale = min(max(log_scale, math.log(_MIN_SCALE)), math.log(_MAX_SCALE))
    return numbers._replace(log_scale=log_scale, n_judged=numbers.n_judged + 1)


def averaged_factors(
    numbers: Numbers, factors: Mapping[str, Vector], new: Mapping[str, Vector] | None, damping: float
) -> tuple[Numbers, dict[str, Vector]]:
    """Return the running average of the factors with ``new`` ones, of weight 1, 1/2, and 0.4 from the third on.

    New factors are inverted with this damping.
    """
    if new is None:
        return numbers, dict(factors)
    numbers = numbers._replace(n_factors=numbers.n_factors + 1, factored_damping=damping)
    memory = min(_FACTOR_MEMORY, 1 - 1 / numbers.n_factors)
    if not factors:
        return numbers, dict(new)
    return numbers, {name: step(old * old.dtype.type(memory), 1 - memory, new[name]) for name, old in factors.items()}


def averaged(average: Vector, iterate: Vector, n_steps: float) -> Vector:
    """Return the polynomial-decay average of the iterates, in which the k-th has weight 5 / (k + 4).

    So the average is over about the last fifth of the steps. Shamir and Zhang (2013), with η = 4.
    """
    weight = _last_weight(n_steps)
    return step(average * average.dtype.type(1 - weight), weight, iterate)


def without_last(average: Vector, iterate: Vector, start: Vector, n_steps: float) -> Vector | None:
    """Return the average before :func:`averaged` included the iterate, which a step from ``start`` had led to.

    None if there was no average, or if the iterate is so far out that rounding has taken the average's digits.
    """
    weight = _last_weight(n_steps)
    if weight >= 1 or not norm(iterate) <= _FAR * norm(start):
        return None
    return step(average * average.dtype.type(1 / (1 - weight)), -weight / (1 - weight), iterate)


def _last_weight(n_steps: float) -> float:
    return (_AVERAGE + 1) / (n_steps + _AVERAGE)


class Momentum(NamedTuple):
    """A step along d with momentum.

    Attributes
    ----------
    move : ndarray, shape (n_params,)
        Change of theta.
    velocity, direction : ndarray, shape (n_params,)
        u and d after the step.
    slope, metric : float
        g'u and d'Fd.
    scaled : bool
        Whether the bound on the predicted decrease made the step shorter.
    restarted : bool
        Whether u pointed uphill and starts anew.
    n_increased : int
        Number of factors that needed more damping.
    """

    move: Vector
    velocity: Vector
    direction: Vector
    slope: float
    metric: float
    scaled: bool
    restarted: bool
    n_increased: int

    @property
    def note(self) -> str:
        """What a record should say of the step."""
        return "; ".join(
            text
            for applies, text in (
                (self.scaled, "the step was shortened to the trusted decrease"),
                (self.restarted, "the velocity pointed uphill and starts anew"),
                (self.n_increased, f"{self.n_increased} factors needed more damping"),
            )
            if applies
        )


def momentum_step(gradient: Vector, velocity: Vector | None, inverse: FactoredCurvature, numbers: Numbers) -> Momentum:
    """Return the next step: d = -F⁻¹g, u := μu + (rate/c) d, move μu + (rate/c) d, bounded by the trust in it.

    μ grows as 1 - 1/(1 + k/2) with the number k of steps, to 0.9.
    """
    direction: Vector = -inverse.matvec(gradient)
    along = _times(direction, RATE / math.exp(numbers.log_scale))
    metric, momentum = -dot(gradient, direction), min(_MOMENTUM, 1 - 1 / (1 + numbers.step / _MOMENTUM_STEPS))
    u, restarted = along, False
    if velocity is not None:
        u = step(along, momentum, velocity)
        if dot(gradient, u) >= 0:
            u, restarted = along, True
    move = step(along, momentum, u)
    predicted, limit = -dot(gradient, move), TRUST * numbers.first_loss
    scaled = predicted > limit
    if scaled:
        shorter = limit / predicted
        move, u = _times(move, shorter), _times(u, shorter)
    return Momentum(move, u, direction, dot(gradient, u), metric, scaled, restarted, inverse.n_increased)


def _times(vector: Vector, factor: float) -> Vector:
    product: Vector = vector * vector.dtype.type(factor)
    return product
