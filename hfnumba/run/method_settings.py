"""The optimiser's settings that a run records, so that it continues with them when the defaults are others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hfnumba.errors import UsageError
from hfnumba.metrics import ERROR, RMSE, metrics_of
from hfnumba.optim.hessian_free import HessianFree
from hfnumba.optim.methods import Optimizer, optimizer, settings_of
from hfnumba.run.options import Callee, flag
from hfnumba.run.records import RunRecord
from hfnumba.run.settings import CHANGEABLE, TrainSettings, arguments

_NONE = "unset"
"""How a record spells None, which TOML does not have."""

_EARLIER_DEFAULTS = {"preconditioner": "none", "line_rows": None}
"""Defaults of the versions that recorded only what the user had set."""


def method_settings(method: str, made: Optimizer) -> dict[str, Any]:
    """Return all settings of an optimiser, but for the limits, in types that TOML has."""
    values = {name: getattr(made, name) for name in settings_of(method) if name not in (*CHANGEABLE, "paper")}
    if isinstance(made, HessianFree):
        values |= made.derived_settings
    return {name: _NONE if value is None else value for name, value in values.items()}


def optimizer_of(settings: TrainSettings, recorded: RunRecord | None) -> Optimizer:
    """Make the optimiser of a run: by the settings and today's defaults, or as an earlier part of the run had it.

    Parameters
    ----------
    settings : TrainSettings
    recorded : RunRecord or None
        Record of the run to continue; None for a new one.

    Raises
    ------
    UsageError
        If a setting is out of its range.
    """
    kept: dict[str, Any] = {}
    if recorded is not None:
        kept = {name: None if value == _NONE else value for name, value in recorded.optimizer.items()}
        kept = kept or _EARLIER_DEFAULTS
    names = settings_of(settings.method)
    kept = {name: value for name, value in kept.items() if name in names}
    return optimizer(settings.method, **(kept | optimizer_settings(settings)))


def refuse_other_target(settings: TrainSettings, given: Mapping[str, Any]) -> None:
    """Refuse a given target of a measure that the loss does not have; what earlier runs recorded is left to them.

    Raises
    ------
    UsageError
    """
    targets = {"target_error": ERROR, "target_rmse": RMSE}
    for name, metric in targets.items():
        other = next(flag(other) for other in targets if other != name)
        if given.get(name) is not None and metric not in metrics_of(str(settings.loss)):
            raise UsageError(
                f"{flag(name)} is not for the loss {settings.loss}, whose measure is "
                f"{metrics_of(str(settings.loss))[0].name}; give {other} instead, or leave it out"
            )


def optimizer_settings(settings: TrainSettings) -> dict[str, Any]:
    """Return the arguments of :func:`hfnumba.optim.methods.optimizer` besides the method.

    ``curvature_rows`` is left out for a method without curvature, so that one command line compares all methods.
    """
    given = arguments(settings, Callee.OPTIMIZER)
    if "curvature_rows" not in settings_of(settings.method):
        given.pop("curvature_rows", None)
    return given
