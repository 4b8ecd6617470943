"""Every method by its name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hfnumba.errors import UsageError
from hfnumba.optim.first_order import SGD
from hfnumba.optim.hessian_free import HessianFree
from hfnumba.optim.lbfgs import LBFGS
from hfnumba.optim.paper import METHODS as OF_PAPER
from hfnumba.optim.paper import paper as paper_method
from hfnumba.optim.second_order import COMPOSITIONS
from hfnumba.optim.updates import RECIPES

METHODS: tuple[str, ...] = (*RECIPES, "lbfgs", *COMPOSITIONS)
"""Names that :func:`optimizer` knows."""

Optimizer = HessianFree | SGD | LBFGS


def settings_of(method: str) -> tuple[str, ...]:
    """Return the names of the settings a method has.

    Raises
    ------
    UsageError
        If there is no such method.
    """
    if method not in METHODS:
        raise UsageError(f"expected one of the methods {', '.join(METHODS)}, got {method!r}; choose one of them")
    of = SGD if method in RECIPES else LBFGS if method == "lbfgs" else HessianFree
    without = ("method", *(COMPOSITIONS[method].without if method in COMPOSITIONS else ()))
    names = tuple(f.name for f in fields(of) if f.name not in without)
    return (*names, "paper") if method in OF_PAPER else names


def _why_not(method: str, unknown: list[str]) -> str:
    reasons = COMPOSITIONS[method].without if method in COMPOSITIONS else {}
    return "".join(f"no {name}, as {reasons[name]}; " for name in unknown if name in reasons)


def optimizer(method: str, **settings: Any) -> Optimizer:
    """Make the optimiser of a name, e.g. ``optimizer("gn-cg", curvature_rows=4096)``.

    ``paper=True`` takes every choice that is not given from the literal reading of the paper, see
    :func:`hfnumba.optim.paper.paper`.

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
            f"{_why_not(method, unknown)}leave out what this method does not have"
        )
    if settings.pop("paper", False):
        return paper_method(method, **settings)
    if method == "lbfgs":
        return LBFGS(**settings)
    return SGD(method=method, **settings) if method in RECIPES else HessianFree(method=method, **settings)
