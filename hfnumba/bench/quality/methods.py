"""The methods that are compared: those of this package, and those of other libraries where these are installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hfnumba.bench.peers import installed
from hfnumba.bench.quality import peers
from hfnumba.bench.quality.course import Course
from hfnumba.bench.quality.ours import registered
from hfnumba.errors import UsageError
from hfnumba.optim.methods import METHODS, settings_of

ADAM_RATES = (0.0003, 0.001, 0.003)
MOMENTUM_RATES = (0.01, 0.03, 0.1)
BATCH_ROWS = (256, 512, 1024)
OURS = ("kfac", "hf-bicgstab", "gn-cg", "lbfgs")
"""Methods of this package that are compared by default."""


@dataclass(frozen=True)
class Contestant:
    """A method of a comparison.

    Attributes
    ----------
    run : callable
        Runs it on a course until that raises :class:`hfnumba.bench.quality.course.RunOver`.
    libraries : tuple of str
        What must be installed.
    rates : tuple of float
        Learning rates of the grid, with 256, 512 and 1024 rows each; empty for a method without a grid.
    is_first_order : bool
        Whether ratios compare with it.
    """

    run: Callable[[Course], None]
    libraries: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    is_first_order: bool = True


def _ours(name: str) -> Contestant:
    rates = MOMENTUM_RATES if name != "adam" else ADAM_RATES
    is_first_order = "learning_rate" in settings_of(name)
    return Contestant(registered, (), rates if is_first_order else (), is_first_order)


CONTESTANTS: dict[str, Contestant] = {
    **{name: _ours(name) for name in METHODS},
    "torch-adam": Contestant(peers.torch_adam, ("torch",), ADAM_RATES),
    "torch-momentum": Contestant(peers.torch_momentum, ("torch",), MOMENTUM_RATES),
    "optax-adam": Contestant(peers.optax_adam, ("jax", "optax"), ADAM_RATES),
    "optax-momentum": Contestant(peers.optax_momentum, ("jax", "optax"), MOMENTUM_RATES),
    "sklearn": Contestant(peers.sklearn_adam, ("sklearn",)),
    "scipy-lbfgs": Contestant(peers.scipy_lbfgs, (), (), False),
}
"""Every method by its name; those of other libraries have the name of the library in front."""


def default_methods() -> tuple[str, ...]:
    """Return what is compared by default: first-order methods of PyTorch, else of optax, else of this package."""
    stochastic = next(
        pair
        for pair in (("torch-adam", "torch-momentum"), ("optax-adam", "optax-momentum"), ("adam", "momentum"))
        if all(_is_installed(name) for name in pair)
    )
    return (*OURS, *stochastic, *(["sklearn"] if _is_installed("sklearn") else []))


def checked_methods(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names, first-order methods first: what they reach may be the target of others.

    Raises
    ------
    UsageError
        If a name is unknown, comes twice, or its library is not installed.
    """
    for name in names:
        if name not in CONTESTANTS:
            raise UsageError(f"unknown method {name!r}; choose from {', '.join(CONTESTANTS)}")
        if not _is_installed(name):
            libraries = " and ".join(CONTESTANTS[name].libraries)
            raise UsageError(f"{name} needs {libraries}, which is not installed; install it or leave the method out")
    if not names or len(set(names)) < len(names):
        raise UsageError(f"expected different methods, got {','.join(names) or 'none'}")
    return tuple(sorted(names, key=lambda name: (not CONTESTANTS[name].is_first_order, "adam" not in name)))


def _is_installed(name: str) -> bool:
    libraries = CONTESTANTS[name].libraries
    return len(installed(libraries)) == len(libraries)
