"""What each stochastic method does with a gradient, and which point it reports: parts of one loop.

All vectors are float32, and none is changed in place: a state that was yielded stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hfnumba.optim.vectors import Vector, step

MOVING = 0.01
"""Weight of the newest point in the moving average of ``mvasgd``: a memory of about 100 steps."""

_SQUARES = 0.999
_EPSILON = 1e-8

Memory = dict[str, Vector]
"""Vectors that a method keeps between steps, by the names of the fields of the state; empty before the first."""


@dataclass(frozen=True)
class Pace:
    """How far the steps go: what the user sets, and ``t``, which counts steps from 1."""

    learning_rate: float
    momentum: float
    t: int


Update = Callable[[Vector, Vector, Memory, Pace], tuple[Vector, Memory]]
"""Takes theta, the gradient there, the memory and the pace; returns the next theta and memory."""


def descend(theta: Vector, gradient: Vector, memory: Memory, pace: Pace) -> tuple[Vector, Memory]:
    """Steepest descent; with momentum the heavy ball of Polyak (1964).

    v := momentum·v - learning_rate·g, theta := theta + v.
    """
    if not pace.momentum:
        return step(theta, -pace.learning_rate, gradient), {}
    velocity = step(_decayed(memory.get("velocity"), pace.momentum, theta), -pace.learning_rate, gradient)
    return step(theta, 1.0, velocity), {"velocity": velocity}


def nesterov(theta: Vector, gradient: Vector, memory: Memory, pace: Pace) -> tuple[Vector, Memory]:
    """Nesterov's momentum, with the gradient at the point looked ahead to, which is what theta is here.

    v := momentum·v - learning_rate·g, theta := theta + momentum·v - learning_rate·g: the method of Sutskever,
    Martens, Dahl and Hinton (2013), equations 3 and 4, in terms of their theta + mu·v.
    """
    velocity = step(_decayed(memory.get("velocity"), pace.momentum, theta), -pace.learning_rate, gradient)
    ahead = step(step(theta, pace.momentum, velocity), -pace.learning_rate, gradient)
    return ahead, {"velocity": velocity}


def adam(theta: Vector, gradient: Vector, memory: Memory, pace: Pace) -> tuple[Vector, Memory]:
    """Kingma and Ba (2015), Algorithm 1, with beta1 = momentum, beta2 = 0.999 and epsilon = 1e-8."""
    with np.errstate(over="ignore"):
        squares = step(_decayed(memory.get("second_moment"), _SQUARES, theta), 1 - _SQUARES, gradient * gradient)
    velocity = step(_decayed(memory.get("velocity"), pace.momentum, theta), 1 - pace.momentum, gradient)
    scale = np.sqrt(squares / squares.dtype.type(1 - _SQUARES**pace.t)) + squares.dtype.type(_EPSILON)
    moved = step(theta, -pace.learning_rate / (1 - pace.momentum**pace.t), velocity / scale)
    return moved, {"velocity": velocity, "second_moment": squares}


def _decayed(vector: Vector | None, factor: float, like: Vector) -> Vector:
    return np.zeros_like(like) if vector is None else vector * like.dtype.type(factor)


@dataclass(frozen=True)
class Recipe:
    """A stochastic method.

    Attributes
    ----------
    update : callable
        See :data:`Update`.
    learning_rate, momentum : float
        Its defaults.
    average : {"none", "all", "moving"}
        The point reported: that of the last step; the mean over all steps after the first epoch (Polyak and
        Juditsky 1992; Bottou 2012 for the late start, which keeps the worst points out); or a moving average.
    """

    update: Update
    learning_rate: float = 0.1
    momentum: float = 0.0
    average: Literal["none", "all", "moving"] = "none"

    def weight(self, t: int, steps_per_epoch: int) -> float:
        """Return the weight of the point of step t in the average so far."""
        if self.average == "all":
            return 1 / max(1, t - steps_per_epoch)
        return 1.0 if self.average == "none" else max(1 / t, MOVING)


RECIPES = {
    "sgd": Recipe(descend),
    "momentum": Recipe(nesterov, momentum=0.9, learning_rate=0.03),
    "asgd": Recipe(descend, average="all"),
    "mvasgd": Recipe(descend, average="moving"),
    "adam": Recipe(adam, momentum=0.9, learning_rate=1e-3),
}
