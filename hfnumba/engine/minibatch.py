"""The round of a stochastic second-order step: gradient, Kronecker factors, and how good the last step was."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.evaluations import Gradient, KroneckerFactors, Loss, QuadraticForm
from hfnumba.engine.protocol import Evaluation
from hfnumba.engine.vectors import VectorTable
from hfnumba.objective import Minibatch, RowSample, Trial, Vector

if TYPE_CHECKING:
    from hfnumba.engine.objective import RoundObjective


class Retained:
    """A vector that workers keep while this object exists."""

    def __init__(self, vectors: VectorTable, vector: Vector) -> None:
        weakref.finalize(self, vectors.release, vectors.acquire(vector))


def minibatch(
    objective: RoundObjective,
    theta: Vector,
    rows: RowSample | None,
    *,
    factor_rows: RowSample | None,
    factor_seed: tuple[int, ...] | None,
    trial: Trial | None,
) -> Minibatch:
    """Evaluate a minibatch; see :meth:`hfnumba.objective.Objective.minibatch`. One round.

    The answer has an n-vector, and the packed factors where they are asked for. A vector that the workers have not
    got already is sent: theta, and the direction of the trial.
    """
    theta = objective.checked(theta)
    with ExitStack() as stack:

        def name(vector: Vector) -> str:
            return stack.enter_context(objective.vectors.using(objective.checked(vector)))

        at = name(theta)
        asked: dict[str, Evaluation] = {"batch": Gradient(at, objective.sample(rows))}
        if factor_seed is not None:
            asked["factors"] = KroneckerFactors(at, objective.sample(factor_rows), factor_seed)
        if trial is not None:
            compared = objective.sample(trial.rows)
            asked["before"], asked["after"] = Loss(name(trial.start), compared), Loss(at, compared)
            asked["form"] = QuadraticForm(at, name(trial.direction), objective.sample(trial.curvature_rows))
        answers = dict(zip(asked, objective.evaluate(*asked.values()), strict=True))
    value, _ = objective.with_penalty(answers["batch"], theta)
    gradient = objective.gradient_with_penalty(answers["batch"], theta)
    if trial is None:
        return Minibatch(value, gradient, answers.get("factors"), None, None, None)
    before, _ = objective.with_penalty(answers["before"], trial.start)
    after, _ = objective.with_penalty(answers["after"], theta)
    form = _form(objective, answers["form"], trial.direction)
    return Minibatch(value, gradient, answers.get("factors"), before, after, form)


def _form(objective: RoundObjective, answer: Mapping[str, NDArray[Any]], direction: Vector) -> float:
    """d'Gd with the curvature of the penalty."""
    form = float(answer["form"][0])
    if objective.l2:
        weights = objective.network.weights_only(direction).astype(np.float64)
        form += objective.l2 * float(weights @ weights)
    return form
