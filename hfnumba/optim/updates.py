"""Update rules of the stochastic methods: the step for a gradient, and the point that is reported.

All vectors are float32, and none is changed in place, so that a yielded state does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hfnumba.optim.vectors import Vector, step

MOVING = 0.01
"""Weight of the newest point in the moving average of ``mvasgd``, which covers about 100 steps."""

_BETA2 = 0.999
_EPSILON = 1e-8

Memory = dict[str, Vector]
"""Vectors of a method between steps, by name; empty before the first step."""


@dataclass(frozen=True)
class StepParameters:
    """Learning rate and momentum of a step, and its number ``t``, counted from 1."""

    learning_rate: float
    momentum: float
    t: int


Update = Callable[[Vector, Vector, Memory, StepParameters], tuple[Vector, Memory]]
"""Function of theta, the gradient there, the memory and the parameters that returns the next theta and memory."""


def descend(theta: Vector, gradient: Vector, memory: Memory, parameters: StepParameters) -> tuple[Vector, Memory]:
    """Steepest descent; with momentum the heavy ball of Polyak (1964).

    v := momentum·v - learning_rate·g, theta := theta + v.
    """
    if not parameters.momentum:
        return step(theta, -parameters.learning_rate, gradient), {}
    velocity = step(_decayed(memory.get("velocity"), parameters.momentum, theta), -parameters.learning_rate, gradient)
    return step(theta, 1.0, velocity), {"velocity": velocity}


def nesterov(theta: Vector, gradient: Vector, memory: Memory, parameters: StepParameters) -> tuple[Vector, Memory]:
    """Nesterov's momentum, with the gradient at the look-ahead point, which is theta here.

    v := momentum·v - learning_rate·g, theta := theta + momentum·v - learning_rate·g: the method of Sutskever,
    Martens, Dahl and Hinton (2013), equations 3 and 4, in terms of their theta + mu·v.
    """
    velocity = step(_decayed(memory.get("velocity"), parameters.momentum, theta), -parameters.learning_rate, gradient)
    ahead = step(step(theta, parameters.momentum, velocity), -parameters.learning_rate, gradient)
    return ahead, {"velocity": velocity}


def adam(theta: Vector, gradient: Vector, memory: Memory, parameters: StepParameters) -> tuple[Vector, Memory]:
    """Kingma and Ba (2015), Algorithm 1, with beta1 = momentum, beta2 = 0.999 and epsilon = 1e-8."""
    with np.errstate(over="ignore"):
        second_moment = step(_decayed(memory.get("second_moment"), _BETA2, theta), 1 - _BETA2, gradient * gradient)
    velocity = step(_decayed(memory.get("velocity"), parameters.momentum, theta), 1 - parameters.momentum, gradient)
    scale = np.sqrt(second_moment / second_moment.dtype.type(1 - _BETA2**parameters.t)) + second_moment.dtype.type(
        _EPSILON
    )
    moved = step(theta, -parameters.learning_rate / (1 - parameters.momentum**parameters.t), velocity / scale)
    return moved, {"velocity": velocity, "second_moment": second_moment}


def _decayed(vector: Vector | None, factor: float, like: Vector) -> Vector:
    return np.zeros_like(like) if vector is None else vector * like.dtype.type(factor)


@dataclass(frozen=True)
class UpdateRule:
    """A stochastic method: its update, its default parameters, and the point it reports.

    Attributes
    ----------
    summary : str
        One line for help texts.
    update : callable
        See :data:`Update`.
    learning_rate, momentum : float
        Default values.
    average : {"none", "all", "moving"}
        Point reported: that of the last step; the mean over all steps after the first epoch (Polyak and
        Juditsky 1992; Bottou 2012 for the late start, which excludes the worst points); or a moving average.
    without : mapping of str to str
        Settings of :class:`hfnumba.optim.first_order.SGD` without a meaning for this method, and the reason.
    """

    summary: str
    update: Update
    learning_rate: float = 0.1
    momentum: float = 0.0
    average: Literal["none", "all", "moving"] = "none"
    without: Mapping[str, str] = field(default_factory=dict)

    def weight(self, t: int, steps_per_epoch: int) -> float:
        """Return the weight of the point of step t in the average so far."""
        if self.average == "all":
            return 1 / max(1, t - steps_per_epoch)
        return 1.0 if self.average == "none" else max(1 / t, MOVING)


UPDATE_RULES = {
    "sgd": UpdateRule("stochastic gradient descent", descend),
    "momentum": UpdateRule("Nesterov's momentum", nesterov, momentum=0.9, learning_rate=0.03),
    "asgd": UpdateRule("stochastic gradient descent, averaged over all steps", descend, average="all"),
    "mvasgd": UpdateRule("stochastic gradient descent with a moving average", descend, average="moving"),
    "adam": UpdateRule("Adam", adam, momentum=0.9, learning_rate=1e-3),
}
"""Rows of :data:`hfnumba.optim.methods.METHODS` that :class:`hfnumba.optim.first_order.SGD` implements."""
