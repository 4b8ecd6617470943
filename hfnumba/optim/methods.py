"""Every method by its name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hfnumba.errors import UsageError
from hfnumba.optim.composition import COMPOSITIONS
from hfnumba.optim.first_order import SGD
from hfnumba.optim.hessian_free import HessianFree

METHODS: tuple[str, ...] = ("sgd", *COMPOSITIONS)
"""Names that :func:`optimizer` knows."""

Optimizer = HessianFree | SGD


def settings_of(method: str) -> tuple[str, ...]:
    """Return the names of the settings a method has.

    Raises
    ------
    UsageError
        If there is no such method.
    """
    if method not in METHODS:
        raise UsageError(f"expected one of the methods {', '.join(METHODS)}, got {method!r}; choose one of them")
    of = SGD if method == "sgd" else HessianFree
    return tuple(f.name for f in fields(of) if f.name != "method")


def optimizer(method: str, **settings: Any) -> Optimizer:
    """Make the optimiser of a name, e.g. ``optimizer("gn-cg", curvature_rows=4096)``.

    Raises
    ------
    UsageError
        If there is no such method, the method has no such setting, or a value is out of range.
    """
    known = settings_of(method)
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise UsageError(
            f"expected settings of {method} ({', '.join(known)}), got {', '.join(unknown)}; "
            "leave out what this method does not have"
        )
    return SGD(**settings) if method == "sgd" else HessianFree(method=method, **settings)
