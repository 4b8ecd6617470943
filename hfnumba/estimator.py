"""Estimators for scikit-learn: a classifier and a regressor trained by the methods of this package."""

from __future__ import annotations

import itertools
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.engine import ArrayObjective, predict
from hfnumba.errors import HfnumbaError
from hfnumba.network import Network
from hfnumba.optim.methods import optimizer, settings_of
from hfnumba.store.checks import refuse_masked
from hfnumba.store.rounding import refuse_rounded

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ModuleNotFoundError as missing:
    raise HfnumbaError("the estimators need scikit-learn 1.6 or later: pip install 'hfnumba[sklearn]'") from missing

# Number of consecutive iterations that each gain less than ``tol`` of the loss after which training ends.
_PATIENCE = 5


class _HessianFreeEstimator(BaseEstimator):
    """Base of classifier and regressor: settings, fitting, raw outputs."""

    _loss: str

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (100,),
        activation: str | tuple[str, ...] = "tanh",
        *,
        method: str = "hf-bicgstab",
        curvature_rows: int | None = 4096,
        l2: float = 1e-4,
        max_iter: int = 50,
        tol: float = 1e-3,
        random_state: Any = None,
        n_threads: int | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.method = method
        self.curvature_rows = curvature_rows
        self.l2 = l2
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.n_threads = n_threads

    def _fit(self, X: NDArray[Any], targets: NDArray[Any], n_outputs: int, weights: NDArray[Any] | None) -> Self:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=int)).tolist()
        self.network_ = Network([X.shape[1], *hidden, n_outputs], self.activation, self._loss)
        settings: dict[str, Any] = {"seed": seed, "max_iterations": self.max_iter}
        if "curvature_rows" in settings_of(self.method):
            settings["curvature_rows"] = self.curvature_rows
        self.loss_curve_: list[float] = []
        with ArrayObjective(
            self.network_, X, targets, l2=self.l2, n_threads=self.n_threads, weights=weights
        ) as objective:
            start = self.network_.initialize(seed)
            for iteration in optimizer(self.method, **settings).iterate(objective, start):
                self.loss_curve_.append(iteration.loss)
                self.theta_, self.n_iter_ = iteration.state.theta, max(1, iteration.iteration)
                if self._has_stalled():
                    break
        self.loss_ = self.loss_curve_[-1]
        return self

    def _has_stalled(self) -> bool:
        if len(self.loss_curve_) <= _PATIENCE:
            return False
        recent = self.loss_curve_[-_PATIENCE - 1 :]
        return all(a - b <= self.tol * abs(a) for a, b in itertools.pairwise(recent))

    def _outputs(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        refuse_masked("X", X)
        rows = validate_data(self, X, reset=False, dtype=np.float32, order="C")
        return predict(self.network_, self.theta_, rows)


def _row_weights(rows: NDArray[Any], sample_weight: ArrayLike | None) -> NDArray[np.float64] | None:
    """Weights in the form that scikit-learn accepts: one number for all rows, or one per row."""
    if sample_weight is None:
        return None
    refuse_masked("sample_weight", sample_weight)
    weights: NDArray[np.float64] = _check_sample_weight(sample_weight, rows, dtype=np.float64)
    return weights


class HessianFreeClassifier(ClassifierMixin, _HessianFreeEstimator):
    """Fully-connected network for classification, trained by a Hessian-free method.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Widths of the hidden layers; ``()`` for logistic regression.
    activation : str or tuple of str
        Activation of the hidden layers, or one for each: "tanh", "sigmoid", "relu", "softplus", "identity", "gelu" or
        "silu".
    method : str
        Name of a method of :func:`hfnumba.optimizer`.
    curvature_rows : int or None
        Size of the curvature sample, redrawn every iteration. None or a value >= n_rows uses all rows.
    l2 : float
        Penalty l2/2 · ‖weights‖² on the mean loss.
    max_iter : int
        Maximum number of iterations; one is worth many of a first-order method.
    tol : float
        Tolerance: training ends after five consecutive iterations that each gain less than this share of the loss.
    random_state : int, RandomState or None
        Seed for the initial weights and the curvature samples.
    n_threads : int or None
        Number of threads, default the processors this process may use. The result does not depend on it.
    class_weight : dict, "balanced" or None
        Weight of each class in the loss, multiplied by the weights of the rows: a number for each class in a dict (1
        for others), or weights that make the classes equally important.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    network_ : Network
    theta_ : ndarray of float32, shape (n_params,)
    loss_, loss_curve_ : float, list of float
    n_iter_ : int

    Notes
    -----
    Features are used as they are, in float32: scale them to about unit size first.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> model = HessianFreeClassifier((32,), random_state=0).fit(X[:1500] / 16, y[:1500])
    >>> bool(model.score(X[1500:] / 16, y[1500:]) > 0.85)
    True
    """

    _loss = "softmax_cross_entropy"

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (100,),
        activation: str | tuple[str, ...] = "tanh",
        *,
        method: str = "hf-bicgstab",
        curvature_rows: int | None = 4096,
        l2: float = 1e-4,
        max_iter: int = 50,
        tol: float = 1e-3,
        random_state: Any = None,
        n_threads: int | None = None,
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            method=method,
            curvature_rows=curvature_rows,
            l2=l2,
            max_iter=max_iter,
            tol=tol,
            random_state=random_state,
            n_threads=n_threads,
        )
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on X (n_rows, n_features), class labels y (n_rows,), and weights of the rows (n_rows,)."""
        refuse_masked("X", X)
        refuse_masked("y", y)
        rows, classes = validate_data(self, X, y, dtype=np.float32, order="C")
        refuse_rounded("feature", np.asarray(X), "scale the features first")
        check_classification_targets(classes)
        self.classes_, labels = np.unique(classes, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"expected labels of two classes or more, got one class: {self.classes_[0]!r}")
        weights = self._weights(rows, labels, sample_weight)
        return self._fit(rows, labels.astype(np.int32), len(self.classes_), weights)

    def _weights(
        self, rows: NDArray[Any], labels: NDArray[np.intp], sample_weight: ArrayLike | None
    ) -> NDArray[np.float64] | None:
        """Weight of each row, including that of its class."""
        if self.class_weight is None:
            return _row_weights(rows, sample_weight)
        weights = np.ones(len(rows)) if sample_weight is None else _row_weights(rows, sample_weight)
        if self.class_weight == "balanced":
            # scikit-learn's own function ignores the weights of rows before version 1.8.
            sums = np.bincount(labels, weights)
            of_class = np.divide(sums.sum(), np.count_nonzero(sums) * sums, out=np.zeros_like(sums), where=sums > 0)
        else:
            of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[labels])
        product: NDArray[np.float64] = weights * of_class[labels]
        return product

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Probabilities of the classes, shape (n_rows, n_classes)."""
        return self._outputs(X)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Most probable class of each row."""
        p = self._outputs(X)
        labels: NDArray[Any] = self.classes_[p.argmax(axis=1)]
        return labels


class HessianFreeRegressor(RegressorMixin, _HessianFreeEstimator):
    """Fully-connected network for regression with squared error, trained by a Hessian-free method.

    Parameters and attributes are those of :class:`HessianFreeClassifier`, without classes. Targets are used
    as they are, in float32: scale them to about unit size first.
    """

    _loss = "squared_error"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on X (n_rows, n_features), targets y (n_rows,) or (n_rows, n_outputs), and weights of the rows."""
        refuse_masked("X", X)
        refuse_masked("y", y)
        rows, targets = validate_data(self, X, y, dtype=np.float32, order="C", multi_output=True, y_numeric=True)
        refuse_rounded("feature", np.asarray(X), "scale the features first")
        refuse_rounded("target", np.asarray(targets), "scale the targets first")
        targets = np.asarray(targets, np.float32)
        self._is_vector = targets.ndim == 1
        columns = targets.reshape(len(targets), -1)
        return self._fit(rows, columns, columns.shape[1], _row_weights(rows, sample_weight))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predicted targets in float64, with the shape of a row of ``y``."""
        z = self._outputs(X).astype(np.float64)
        return z[:, 0] if self._is_vector else z
