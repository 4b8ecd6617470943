"""The problems of `hfnumba bench quality`: rows, networks, targets and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from hfnumba.bench.quality.data import Data, Request, autoencoder, borehole, of_recipe
from hfnumba.network import Network

Quantity = Literal["loss", "error", "test_loss", "test_error"]


@dataclass(frozen=True)
class Target:
    """A quality to reach.

    Attributes
    ----------
    quantity : str
        Field of a point that must fall to the value.
    value : float or None
        None for the lowest value that the reference, Adam, reaches with the same seed within the time of the problem.
    """

    quantity: Quantity
    value: float | None


@dataclass(frozen=True)
class Problem:
    """A problem on which methods are compared.

    Attributes
    ----------
    summary : str
        One line for help texts.
    load : callable
        Loads the rows.
    hidden : tuple of int
        Widths of the hidden layers.
    targets : tuple of Target
        A run ends where it has reached all of them. The first one ranks the runs of a grid.
    minutes : float
        Time of a run at most, without the evaluations of its record.
    interval : float
        Passes over the training rows between two evaluations, where a method makes several steps in one.
    activation, loss : str
        As of :class:`hfnumba.network.Network`.
    l2 : float
        Factor of the penalty l2/2 · ‖weights‖² that every method adds to the loss. Targets and points are without it.
    """

    summary: str
    load: Callable[[Request], Data]
    hidden: tuple[int, ...]
    targets: tuple[Target, ...]
    minutes: float
    interval: float
    activation: str | tuple[str, ...]
    loss: str
    l2: float = 0.0

    def network(self, data: Data) -> Network:
        """Return the network for the rows."""
        return Network((data.X.shape[1], *self.hidden, data.n_outputs), self.activation, self.loss)

    @property
    def has_reference(self) -> bool:
        """Whether a target is what Adam reaches."""
        return any(target.value is None for target in self.targets)


_CLASSIFICATION: dict[str, Any] = {"activation": "tanh", "loss": "softmax_cross_entropy"}


def _autoencoder(summary: str, half: tuple[int, ...], minutes: float, activation: Any, loss: str) -> Problem:
    """Return an autoencoder of MNIST, whose decoder mirrors its encoder."""
    return Problem(
        summary,
        partial(autoencoder, "mnist"),
        (*half, *half[-2::-1]),
        (Target("loss", None), Target("test_loss", None)),
        minutes=minutes,
        interval=0.25,
        activation=activation,
        loss=loss,
    )


_DEEP = (1000, 500, 250, 30)
_LINEAR_CODE = ("sigmoid",) * 3 + ("identity",) + ("sigmoid",) * 3
"""The code of Hinton and Salakhutdinov (2006) and of Martens (2010) is linear."""

PROBLEMS: dict[str, Problem] = {
    "digits": Problem(
        "8 x 8 digits of scikit-learn, 64-100-50-10",
        partial(of_recipe, "digits"),
        (100, 50),
        (Target("error", 0.01), Target("loss", 0.05), Target("test_error", 0.05)),
        minutes=1.0,
        interval=1.0,
        **_CLASSIFICATION,
    ),
    "mnist": Problem(
        "MNIST, 784-400-150-10",
        partial(of_recipe, "mnist"),
        (400, 150),
        (Target("error", 0.01), Target("loss", 0.03), Target("test_error", 0.025)),
        minutes=5.0,
        interval=0.25,
        **_CLASSIFICATION,
    ),
    "borehole": Problem(
        "flow through a borehole, 8 inputs, 8-64-64-1; errors are shares of the variance",
        borehole,
        (64, 64),
        (Target("error", 1e-6), Target("error", 1e-5), Target("error", 1e-4), Target("test_error", 1e-4)),
        minutes=5.0,
        interval=5.0,
        activation="tanh",
        loss="squared_error",
    ),
    "autoencoder": _autoencoder(
        "autoencoder of MNIST, 784-400-100-20-100-400-784", (400, 100, 20), 5.0, "tanh", "squared_error"
    ),
    "deep-autoencoder": _autoencoder(
        "deep autoencoder of MNIST, 784-1000-500-250-30-…-784", _DEEP, 14.0, "tanh", "squared_error"
    ),
    "sigmoid-autoencoder": _autoencoder(
        "Martens' autoencoder of MNIST, 784-1000-500-250-30-…-784 with sigmoid units",
        _DEEP,
        14.0,
        _LINEAR_CODE,
        "sigmoid_cross_entropy",
    ),
    "festvox-ru": Problem(
        "Russian speech, 360-512-512-512-51",
        partial(of_recipe, "festvox-ru"),
        (512, 512, 512),
        (Target("test_error", None), Target("test_loss", None), Target("loss", None)),
        minutes=14.0,
        interval=0.5,
        **_CLASSIFICATION,
    ),
    "synthetic-speech": Problem(
        "random rows of the shape of TIMIT, 360-512-512-512-1973",
        partial(of_recipe, "synthetic-speech"),
        (512, 512, 512),
        (Target("loss", None), Target("error", None)),
        minutes=14.0,
        interval=0.5,
        **_CLASSIFICATION,
    ),
}
"""Every problem by its name."""
