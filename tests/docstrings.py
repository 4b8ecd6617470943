"""Docstrings of the public names, checked by numpydoc: parameters, results, errors, and the form of each.

``python -m tests.docstrings`` prints what is missing or wrong, a line each, and fails if there is any. The checks and
the methods that are not for users are those of ``[tool.numpydoc_validation]`` in pyproject.toml. A class documents what
its instances are made of as parameters or, where users do not make them, as attributes. A method that overrides one
needs only its own differences.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from typing import Any

from numpydoc.docscrape import get_doc_object
from numpydoc.validate import Validator, get_validation_checks, validate

from tests.house import ROOT

PACKAGES = (
    "hfnumba",
    "hfnumba.engine",
    "hfnumba.estimator",
    "hfnumba.ingest",
    "hfnumba.krylov",
    "hfnumba.launch",
    "hfnumba.run",
    "hfnumba.store",
)
MORE = (
    "hfnumba.checkpoint.Checkpoint",
    "hfnumba.checkpoint.newest_checkpoint",
    "hfnumba.checkpoint.read_checkpoint",
    "hfnumba.engine.linearization.CurvatureOperator",
    "hfnumba.engine.linearization.RoundLinearization",
    "hfnumba.krylov.spectrum_result.Count",
    "hfnumba.krylov.spectrum_result.Eigenvalue",
    "hfnumba.ledger.read",
    "hfnumba.network.Layer",
    "hfnumba.objective.Counters",
    "hfnumba.objective.Linearization",
    "hfnumba.objective.Minibatch",
    "hfnumba.objective.Objective",
    "hfnumba.objective.Trial",
    "hfnumba.optim.iteration.Iteration",
    "hfnumba.optim.iteration.OptimizerState",
    "hfnumba.optim.kfac.KFAC",
    "hfnumba.optim.limits.StopReason",
    "hfnumba.optim.loop.Evaluated",
    "hfnumba.optim.loop.Optimizer",
    "hfnumba.optim.methods.Method",
    "hfnumba.optim.methods.settings_of",
    "hfnumba.run.explain.Finding",
    "hfnumba.run.explain.explain",
    "hfnumba.run.model.TrainedModel",
    "hfnumba.store.class_weights.balanced",
    "hfnumba.store.info.info",
    "hfnumba.store.info.survey",
    "hfnumba.store.verify.verify",
)
"""What users get from public functions, pass to them, or are sent to by the documentation, beside the packages' own."""

COMPLETE = {"GL08", "PR01", "PR02", "PR04", "PR07", "RT01", "RT03", "YD01"}
"""What only public names need, beside the checks in pyproject.toml, which all docstrings pass."""


class OwnValidator(Validator):
    """numpydoc's, for whom fields of a class may be attributes, and protocols and enumerations have no parameters."""

    def __init__(self, obj_name: str) -> None:
        # Without a list of members, which numpydoc would take for documented attributes.
        super().__init__(get_doc_object(self._load_obj(obj_name), config={"show_class_members": False}))

    @property
    def signature_parameters(self) -> tuple[str, ...]:
        own = self.obj
        made_by_users = not (inspect.isclass(own) and (issubclass(own, enum.Enum) or getattr(own, "_is_protocol", 0)))
        return super().signature_parameters if made_by_users else ()

    @property
    def doc_all_parameters(self) -> dict[str, Any]:
        documented = super().doc_all_parameters
        if inspect.isclass(self.obj):
            fields = self._doc_parameters(["Attributes"])
            documented |= {name: fields[name] for name in self.signature_parameters if name in fields}
        return documented


def settings() -> tuple[set[str], re.Pattern[str]]:
    """The checks of every docstring, and the pattern of the names that are left out."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["numpydoc_validation"]
    return get_validation_checks(set(table["checks"])), re.compile("|".join(table["exclude"]))


def ours(thing: Any) -> bool:
    return getattr(thing, "__module__", "").partition(".")[0] == "hfnumba"


def function_of(member: Any) -> Any:
    """The function of a method or property, or None."""
    if isinstance(member, property):
        return member.fget
    return member.func if isinstance(member, cached_property) else getattr(member, "__func__", member)


def methods(cls: type) -> Iterator[str]:
    """Full names of the public methods and properties of a class and its bases, each where it is documented first."""
    for name in sorted({name for base in cls.__mro__ if ours(base) for name in vars(base) if not name.startswith("_")}):
        home = [base for base in cls.__mro__ if ours(base) and name in vars(base)][-1]
        member = vars(home)[name]
        if inspect.isfunction(function_of(member)):
            yield f"{home.__module__}.{home.__qualname__}.{name}"


def public() -> list[str]:
    """Full names of all public functions, classes and their methods."""
    found = [getattr(module, name) for module in map(import_module, PACKAGES) for name in module.__all__]
    names: dict[str, None] = {}
    for thing in (*found, *map(Validator._load_obj, MORE)):
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        names[f"{thing.__module__}.{thing.__qualname__}"] = None
        if inspect.isclass(thing):
            names.update(dict.fromkeys(methods(thing)))
    return list(names)


def findings() -> list[str]:
    """What is wrong, a line each: file, line, name, code and sentence."""
    checks, excluded = settings()
    lines = []
    for name in public():
        if excluded.search(name):
            continue
        report = validate(name, OwnValidator)
        place = f"{report['file']}:{report['file_line']}"
        lines += [f"{place}: {name}: {code} {text}" for code, text in report["errors"] if code in checks | COMPLETE]
    return lines


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    lines = findings()
    print("\n".join(lines) or "The docstrings of the public names are complete.")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
