"""Scikit-learn regressor: a network trained by a method of this package."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin, _fit_context

from hfnumba.errors import UsageError
from hfnumba.estimator import stores
from hfnumba.estimator.base import HessianFreeEstimator, row_weights
from hfnumba.estimator.callbacks import with_callbacks
from hfnumba.estimator.rows import Rows
from hfnumba.estimator.scoring import MaskedScoreMixin
from hfnumba.estimator.training import Score
from hfnumba.store import Split

_LOSS = "squared_error"


class HessianFreeRegressor(MaskedScoreMixin, RegressorMixin, HessianFreeEstimator):
    """Fully-connected network for regression with squared error, trained by a Hessian-free method.

    Parameters and attributes are those of :class:`HessianFreeClassifier`, without classes. With ``standardise`` the
    targets are standardised, too, and losses are those of standardised targets. ``early_stopping="auto"`` is True from
    100 rows on.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> X, y = make_friedman1(600, random_state=0)
    >>> model = HessianFreeRegressor((32,), random_state=0).fit(X[:400], y[:400])
    >>> bool(model.score(X[400:], y[400:]) > 0.8)
    True
    """

    _stops_early = True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Train anew; with ``warm_start`` from where the last call ended.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_rows, n_features), Dask array, or store
            Features; or the path of a store, which has its own targets.
        y : array_like of shape (n_rows,) or (n_rows, n_outputs)
            Targets.
        sample_weight : array_like of shape (n_rows,), optional
            Weights of the rows.

        Returns
        -------
        HessianFreeRegressor
            This estimator.
        """
        if stores.is_store(X):
            fitted: Self = stores.fit(self, X, y, sample_weight)
            return fitted
        rows = self._checked(X, y, sample_weight, reset=True)
        data = {"X": rows.X, "y": y, "metadata": {} if sample_weight is None else {"sample_weight": sample_weight}}
        return self._fit(rows, rows.y.shape[1], _LOSS, data)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Make one iteration on the rows given. Features and targets are standardised by the rows of the first call.

        Parameters
        ----------
        X, y : array_like
            As for :meth:`fit`.
        sample_weight : array_like of shape (n_rows,), optional
            Weights of the rows.

        Returns
        -------
        HessianFreeRegressor
            This estimator.
        """
        rows = self._checked(X, y, sample_weight, reset=not hasattr(self, "theta_"))
        return self._step(rows, rows.y.shape[1], _LOSS)

    def _checked(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Rows:
        features, targets = self._validated(X, y, reset=reset, y_numeric=True)
        targets = np.asarray(targets, np.float64 if targets.dtype.kind != "f" else None)
        self._is_vector = targets.ndim == 1
        return Rows(features, targets.reshape(len(targets), -1), row_weights(features, sample_weight))

    def _begin_with(self, split: Split) -> tuple[int, str]:
        """Take the targets of a store; return number of outputs and loss."""
        if split.task != "regression":
            raise UsageError(f"expected a store of a regression, got one of {split.task}; use HessianFreeClassifier")
        self._is_vector = split.n_outputs == 1
        return split.n_outputs, _LOSS

    def _score_of(self, y: NDArray[Any], weights: NDArray[Any] | None) -> Score:
        targets = y if self._targets is None else self._targets.apply(y).astype(np.float64)
        mean = np.average(targets, axis=0, weights=weights)
        variance = float(np.average(np.square(targets - mean).sum(axis=1), weights=weights))
        return lambda loss, error: 1 - 2 * loss / variance if variance > 0 else float(loss == 0)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the predicted targets in float64, in the shape of ``y``; a Dask array for a Dask array."""
        z = self._outputs(X)
        if self._targets is not None:
            z = self._targets.invert(z)
        values: NDArray[Any] = z.astype(np.float64)
        return values[:, 0] if self._is_vector else values
