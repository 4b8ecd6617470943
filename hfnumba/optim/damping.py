"""Levenberg–Marquardt damping: less where the quadratic model predicted well, more where it did not.

Source: Martens, *Deep learning via Hessian-free optimization* (2010), section 4.1.
"""

from __future__ import annotations

import math

MIN_DAMPING = 1e-6
MAX_DAMPING = 1e4
_RAISE = 3 / 2
_LOWER = 2 / 3


def reduction_ratio(value: float, value_at_one: float, predicted: float) -> float | None:
    """Return rho, the change of f divided by the change that its model predicts, both at step length 1.

    Parameters
    ----------
    value, value_at_one : float
        f at theta and at theta + d, over all rows.
    predicted : float
        g'd + d'Bd/2 with the *undamped* B. With the damped one a step would look good because
        damping made it short.

    Returns
    -------
    float or None
        None where the model predicts no decrease or a number is not finite.
    """
    if not (math.isfinite(value_at_one) and math.isfinite(predicted) and predicted < 0):
        return None
    return (value_at_one - value) / predicted


def updated(damping: float, rho: float | None, alpha: float | None) -> float:
    """Return the damping of the next iteration, within ``[MIN_DAMPING, MAX_DAMPING]``.

    Multiplied by 3/2 where rho < 1/4 or unknown, where no step was accepted (``alpha`` None), and where the
    accepted step length is below 1/4: the model may have been right at length 1 by chance. Multiplied by 2/3
    where rho > 3/4.
    """
    if rho is None or alpha is None or rho < 1 / 4 or alpha < 1 / 4:
        factor = _RAISE
    elif rho > 3 / 4:
        factor = _LOWER
    else:
        factor = 1.0
    return min(max(damping * factor, MIN_DAMPING), MAX_DAMPING)
