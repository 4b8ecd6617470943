"""Training loop of the estimators: when to end, which iteration to return, and what to print."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from hfnumba.engine import RoundObjective
from hfnumba.estimator.callbacks import FitTasks
from hfnumba.optim.early_stopping import BestSoFar, EarlyStopping
from hfnumba.optim.iteration import Iteration, OptimizerState
from hfnumba.optim.methods import Optimizer

Score = Callable[[float, float], float]
"""Function of the loss and the error rate over some rows."""


class Validation:
    """Validation rows, by whose loss a fit ends and the best iteration is chosen.

    Parameters
    ----------
    objective : RoundObjective
        Loss over the validation rows, without penalty.
    score : callable
        Function of the loss and the error rate over these rows that returns the score to be recorded.
    rule : EarlyStopping
    """

    def __init__(self, objective: RoundObjective, score: Score, rule: EarlyStopping) -> None:
        self._objective, self._score, self._rule = objective, score, rule
        self._so_far = BestSoFar()
        self.scores: list[float] = []
        self.best: Iteration | None = None

    @property
    def best_score(self) -> float:
        """Score of the best iteration."""
        assert self._so_far.iteration is not None
        return self.scores[self._so_far.iteration]

    def ends(self, iteration: Iteration) -> bool:
        """Score an iteration; return whether it should be the last."""
        loss, error = self._objective.value_and_error(iteration.state.theta)
        number = len(self.scores)
        self.scores.append(self._score(loss, error))
        self._so_far = self._rule.after(self._so_far, number, loss)
        if self._so_far.iteration == number or self.best is None:
            self.best = iteration
        return self._rule.stops(self._so_far)


class Training:
    """The training of an estimator, whose attributes it sets.

    Parameters
    ----------
    estimator : HessianFreeEstimator
    tasks : FitTasks
    validation : Validation or None
    """

    def __init__(self, estimator: Any, tasks: FitTasks, validation: Validation | None) -> None:
        self._estimator, self._tasks, self._validation = estimator, tasks, validation
        self._n_stalled, self._last = 0, float("inf")

    def follow(self, steps: Optimizer, objective: RoundObjective, first: OptimizerState | None) -> OptimizerState:
        """Train until a limit, a rule or a callback ends it, and return the state of the chosen iteration."""
        model, iterations = self._estimator, steps.iterate(objective, self._estimator.theta_, state=first)
        n_before, kept, ended = 0, None, False
        if first is None:
            kept = next(iterations)
            self._ends(kept, 0)
        else:
            n_before = first.iteration
        for number in range(model.max_iter):
            if kept is not None and kept.state.stopped is not None:
                break
            self._tasks.begin()
            kept = next(iterations)
            ended = self._ends(kept, number + 1)
            if self._tasks.end() or ended:
                ended = True
                break
        iterations.close()
        assert kept is not None, "a fit makes at least one iteration"
        model.n_iter_ = max(1, kept.iteration - n_before)
        if not ended and kept.state.stopped is None:
            _warn_not_converged(model)
        return self._keep(kept)

    def _ends(self, iteration: Iteration, number: int) -> bool:
        model = self._estimator
        model.loss_curve_.append(iteration.loss)
        model.theta_, model.loss_ = iteration.state.theta, iteration.loss
        ended = self._validation is not None and self._validation.ends(iteration)
        if model.verbose:
            self._show(iteration, number)
        return self._has_stalled(iteration.loss) or ended

    def _show(self, iteration: Iteration, number: int) -> None:
        score = "" if self._validation is None else f", validation score = {self._validation.scores[-1]:.4f}"
        sys.stdout.write(f"Iteration {number}, loss = {iteration.loss:.6f}{score}\n")

    def _has_stalled(self, loss: float) -> bool:
        """Whether the last iterations each gained less than ``tol`` of the loss."""
        gains = self._last - loss > self._estimator.tol * abs(self._last)
        self._n_stalled = 0 if gains else self._n_stalled + 1
        self._last = loss
        return self._n_stalled >= int(self._estimator.n_iter_no_change)

    def _keep(self, last: Iteration) -> OptimizerState:
        """Return the state of the best iteration, or of the last one where there are no validation rows."""
        model, validation = self._estimator, self._validation
        if validation is None or validation.best is None:
            return last.state
        best = validation.best
        model.theta_, model.loss_ = best.state.theta, best.loss
        model.validation_scores_ = validation.scores
        model.best_validation_score_ = validation.best_score
        return best.state


def _warn_not_converged(model: Any) -> None:
    warnings.warn(
        f"{type(model).__name__} has made max_iter = {model.max_iter} iterations and its loss still falls; raise "
        "max_iter, or tol",
        ConvergenceWarning,
        stacklevel=2,
    )
