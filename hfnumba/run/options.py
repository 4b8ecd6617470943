"""Description of an option in the table of settings, besides its type and its default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Group(Enum):
    """Group of options; the value is its heading in the help."""

    NETWORK = "Network"
    OBJECTIVE = "Objective"
    METHOD = "Method"
    SECOND_ORDER = "Hessian-free methods"
    FIRST_ORDER = "Stochastic methods and lbfgs"
    LIMITS = "Limits"
    PLACEMENT = "Where it runs"

    @property
    def changeable(self) -> bool:
        """Whether the options may differ when a run is resumed; any other would make it another run."""
        return self in (Group.LIMITS, Group.PLACEMENT)


class Callee(Enum):
    """Function that takes an option as a keyword argument; the value is its name."""

    OPTIMIZER = "hfnumba.optim.methods.optimizer"
    OBJECTIVE = "hfnumba.engine.SplitObjective and hfnumba.engine.DaskObjective"
    DASK_OBJECTIVE = "hfnumba.engine.DaskObjective"


@dataclass(frozen=True)
class Option:
    """Description of a setting and of its option of `hfnumba train`.

    Parameters
    ----------
    group : Group
    text : str
        Help text; ``{choices}`` in it stands for the list of them.
    default : str, optional
        Description of the default where that is not a constant of the table.
    metavar : str, optional
        Name of the value in the help.
    choices : sequence of str
        Values of a text; any text if empty.
    callee : Callee, optional
        Function that takes the option. By default :attr:`Callee.OPTIMIZER` for options of methods, none for others,
        which :mod:`hfnumba.run` uses by name.
    argument : str, optional
        Name of the argument there, if not that of the setting.
    """

    group: Group
    text: str
    default: str | None = None
    metavar: str | None = None
    choices: Sequence[str] = ()
    callee: Callee | None = None
    argument: str | None = None

    @property
    def help(self) -> str:
        """The help text with the choices in it."""
        return self.text.format(choices=listed(self.choices)) if self.choices else self.text

    def goes_to(self, callee: Callee) -> bool:
        """Whether a function takes the option."""
        of_methods = self.group in (Group.SECOND_ORDER, Group.FIRST_ORDER)
        return callee is (self.callee or (Callee.OPTIMIZER if of_methods else None))

    def default_text(self, default: Any) -> str | None:
        """Return the default as the help has it, given the constant of the table; None for an option without one."""
        if self.default is not None:
            return self.default
        return (
            f"{default:g}" if isinstance(default, float) else str(default) if isinstance(default, (int, str)) else None
        )


def listed(words: Sequence[str]) -> str:
    """Format as ``a, b or c``."""
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def flag(name: str) -> str:
    """Return the option of `hfnumba train` for a setting."""
    return f"--{name.replace('_', '-')}"
