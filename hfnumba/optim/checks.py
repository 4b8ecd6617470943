"""Checks of optimiser settings, a sentence for each mistake."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from hfnumba.errors import UsageError


def require_integer(name: str, value: Any, lowest: int, remedy: str) -> None:
    """Refuse what is not a whole number of at least ``lowest``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < lowest:
        raise UsageError(f"expected {name} to be a whole number of at least {lowest}, got {value!r}; {remedy}")


def require_real(name: str, value: Any, lowest: float, highest: float, remedy: str) -> None:
    """Refuse what is not a number between ``lowest`` and ``highest``, both included."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not (math.isfinite(value) and lowest <= value <= highest):
        raise UsageError(f"expected {name} to be a number from {lowest:g} to {highest:g}, got {value!r}; {remedy}")


def require_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Refuse what is not one of the known words."""
    if value not in known:
        raise UsageError(f"expected {name} to be {' or '.join(known)}, got {value!r}; choose one of them")


def require_common(seed: Any, max_iterations: Any, target_error: Any) -> None:
    """Refuse a wrong value of the settings that every method has: its seed, and limits that no run could meet."""
    require_integer("seed", seed, 0, "any will do")
    if max_iterations is not None:
        require_integer("max_iterations", max_iterations, 0, "leave it out for no limit")
    if target_error is not None:
        require_real("target_error", target_error, 0.0, 1.0, "it is a share of the training rows, so 0.01 for 1 %")
