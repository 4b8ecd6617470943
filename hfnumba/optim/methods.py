"""The registry of methods: one row per name, from which an optimiser is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hfnumba.errors import UsageError
from hfnumba.optim.first_order import SGD
from hfnumba.optim.hessian_free import HessianFree
from hfnumba.optim.kfac import KFAC
from hfnumba.optim.lbfgs import LBFGS
from hfnumba.optim.loop import Optimizer as Loop
from hfnumba.optim.paper import paper
from hfnumba.optim.second_order import SECOND_ORDER_METHODS
from hfnumba.optim.updates import UPDATE_RULES

Optimizer = Loop[Any, Any]
"""Any optimiser; see :class:`hfnumba.optim.loop.Optimizer`."""


@dataclass(frozen=True)
class Method:
    """A row of the registry.

    Attributes
    ----------
    make : type
        Class of the optimiser, a dataclass of settings.
    summary : str
        One line for help texts.
    fixed : mapping of str to Any
        Settings of the class that the name of the method determines.
    without : mapping of str to str
        Settings of the class without a meaning for this method, and the reason.
    in_paper : bool
        Whether the paper compares the method, so that it has the setting ``paper``.
    """

    make: type[Optimizer]
    summary: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    in_paper: bool = False


METHODS: dict[str, Method] = {
    **{name: Method(SGD, rule.summary, {"method": name}, rule.without) for name, rule in UPDATE_RULES.items()},
    "kfac": Method(KFAC, "Kronecker-factored natural gradient with momentum, one round a step"),
    "lbfgs": Method(LBFGS, "limited-memory BFGS on the full gradient"),
    **{
        name: Method(HessianFree, parts.summary, {"method": name}, parts.without, parts.in_paper)
        for name, parts in SECOND_ORDER_METHODS.items()
    },
}
"""Every method by its name. A name stands in one place: here, or in the table of update rules or second-order methods
of which a class has many rows."""


def settings_of(method: str) -> tuple[str, ...]:
    """Return the names of the settings of a method.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`.

    Returns
    -------
    tuple of str
        Arguments that :func:`optimizer` takes for it.

    Raises
    ------
    UsageError
        If there is no such method.
    """
    row = _row(method)
    names = tuple(f.name for f in fields(row.make) if f.name not in row.fixed and f.name not in row.without)  # type: ignore[arg-type]
    return (*names, "paper") if row.in_paper else names


def optimizer(method: str, **settings: Any) -> Optimizer:
    """Make an optimiser by the name of its method.

    Parameters
    ----------
    method : str
        One of :data:`METHODS`: "sgd", "momentum", "adam", …, "kfac", "lbfgs", or a Hessian-free method.
    **settings
        Settings of the method's class, :class:`~hfnumba.optim.first_order.SGD`,
        :class:`~hfnumba.optim.kfac.KFAC`, :class:`~hfnumba.optim.lbfgs.LBFGS` or
        :class:`~hfnumba.optim.hessian_free.HessianFree`; :func:`settings_of` has their names. For the methods that the
        paper compares, ``paper=True`` takes every choice that is not given from the literal reading of the paper, see
        :func:`hfnumba.optim.paper.paper`.

    Returns
    -------
    Optimizer
        Its :meth:`~hfnumba.optim.loop.Optimizer.iterate` yields a record after each iteration.

    Raises
    ------
    UsageError
        If there is no such method, the method has no such setting, or a value is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba import ArrayObjective, Network, optimizer
    >>> X = np.linspace(-1, 1, 100).reshape(-1, 1)
    >>> network = Network([1, 8, 1], loss="squared_error")
    >>> objective = ArrayObjective(network, X, X**2)
    >>> method = optimizer("gn-cg", max_iterations=5)
    >>> losses = [record.loss for record in method.iterate(objective, network.initialize(seed=0))]
    >>> len(losses), losses == sorted(losses, reverse=True)
    (6, True)
    """
    row, names = _row(method), settings_of(method)
    unknown = sorted(set(settings) - set(names))
    if unknown:
        reasons = "".join(f"no {name}, as {row.without[name]}; " for name in unknown if name in row.without)
        raise UsageError(
            f"expected settings of {method} ({', '.join(names)}), got {', '.join(unknown)}; "
            f"{reasons}leave out what this method does not have"
        )
    if settings.pop("paper", False):
        return paper(method, **settings)
    return row.make(**row.fixed, **settings)


def _row(method: str) -> Method:
    if method not in METHODS:
        raise UsageError(f"expected one of the methods {', '.join(METHODS)}, got {method!r}; choose one of them")
    return METHODS[method]
