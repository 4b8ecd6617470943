"""Checks of optimiser settings, with one sentence per mistake."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from hfnumba.errors import UsageError


def require_integer(name: str, value: Any, lowest: int, remedy: str) -> None:
    """Raise unless the value is a whole number of at least ``lowest``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < lowest:
        raise UsageError(f"expected {name} to be a whole number of at least {lowest}, got {value!r}; {remedy}")


def require_real(name: str, value: Any, lowest: float, highest: float, remedy: str) -> None:
    """Raise unless the value is a number between ``lowest`` and ``highest``, both included."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not (math.isfinite(value) and lowest <= value <= highest):
        raise UsageError(f"expected {name} to be a number from {lowest:g} to {highest:g}, got {value!r}; {remedy}")


def require_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise unless the value is one of the known words."""
    if value not in known:
        raise UsageError(f"expected {name} to be {' or '.join(known)}, got {value!r}; choose one of them")


def require_common(seed: Any, max_iterations: Any, target_error: Any) -> None:
    """Raise if a setting that every method has is out of its range: the seed and the two limits."""
    require_integer("seed", seed, 0, "any will do")
    if max_iterations is not None:
        require_integer("max_iterations", max_iterations, 0, "leave it out for no limit")
    if target_error is not None:
        require_real("target_error", target_error, 0.0, 1.0, "it is a share of the training rows, so 0.01 for 1 %")
