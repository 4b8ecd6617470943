"""Scikit-learn classifier: a network trained by a method of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import StrOptions

from hfnumba.errors import UsageError
from hfnumba.estimator import distributed, stores
from hfnumba.estimator.base import HessianFreeEstimator, row_weights
from hfnumba.estimator.callbacks import with_callbacks
from hfnumba.estimator.labels import checked_labels, class_weighted, indicators, numbers_of
from hfnumba.estimator.rows import Rows
from hfnumba.estimator.scoring import MaskedScoreMixin
from hfnumba.estimator.settings import CONSTRAINTS, CURVATURE_ROWS
from hfnumba.estimator.training import Score
from hfnumba.store import Split

if TYPE_CHECKING:
    from distributed import Client

_ONE, _SEVERAL = "softmax_cross_entropy", "sigmoid_cross_entropy"


class HessianFreeClassifier(MaskedScoreMixin, ClassifierMixin, HessianFreeEstimator):
    """Fully-connected network for classification, trained by a Hessian-free method.

    Parameters
    ----------
    hidden_layer_sizes : int or tuple of int
        Widths of the hidden layers; ``()`` for logistic regression.
    activation : str or tuple of str
        Activation of the hidden layers, or one for each: "tanh", "sigmoid", "relu", "softplus", "identity", "gelu" or
        "silu".
    method : str
        Name of a method of :func:`hfnumba.optimizer`.
    preconditioner : {"none", "fisher", "kfac"}, optional
        Preconditioner of a second-order method. Default: "none".
    curvature_rows : int or None
        Size of the curvature sample, redrawn every iteration. None or a value >= n_rows uses all rows.
    damping : float, optional
        Initial damping of a second-order method. Default: that of the method.
    learning_rate, batch_rows : float, int, optional
        Learning rate, and number of rows of a minibatch, of a stochastic method. Default: those of the method.
    init : {"glorot", "he", "sparse", "tiny"}
        Initialisation of the weights, see :meth:`hfnumba.Network.initialize`.
    l2 : float
        Penalty l2/2 · ‖weights‖² on the mean loss.
    standardise : bool
        Whether the mean of each feature is subtracted, and the result divided by its deviation, in float64. If false,
        features are used as they are, in float32.
    max_iter : int
        Maximum number of iterations; one is worth many of a first-order method.
    tol : float
        Tolerance: an iteration that lowers the loss by less than this share of it is not counted as an improvement.
    early_stopping : bool or "auto"
        Whether a share of the rows is set aside for validation; the fit then ends by their loss, and keeps the
        iteration where it was lowest. "auto" is False for classification.
    validation_fraction : float
        Share of the rows that is set aside, with the same shares of the classes.
    n_iter_no_change : int
        Number of consecutive iterations without improvement of the training or validation loss that end training.
    warm_start : bool
        Whether :meth:`fit` continues from where the last call ended.
    verbose : bool or int
        Whether each iteration prints a line.
    random_state : int, RandomState or None
        Seed for the initial weights, the samples of rows, and the validation rows.
    n_threads : int or None
        Number of threads, which the result does not depend on; by default one where handing over takes longer than a
        round, else one for each processor this process may use; never more than ``OMP_NUM_THREADS``.
    client : distributed.Client, optional
        Client of the Dask cluster whose workers evaluate the rows. The rows go there by way of a store in the folder
        for temporary files, which all workers must see; for a cluster of several machines, write a store and pass its
        path as ``X``. It is not pickled with the estimator.
    class_weight : dict, "balanced" or None
        Weight of each class in the loss, multiplied by the weights of the rows: a number for each class in a dict (1
        for others), or weights that make the classes equally important.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels of the classes; numbers of the columns for several labels a row.
    coefs_, intercepts_ : list of ndarray
        Weights (n_in, n_out) and biases (n_out,) of each layer, in float64, for features before standardisation.
    network_ : Network
    theta_ : ndarray of float32, shape (n_params,)
        Parameters, for standardised features.
    loss_, loss_curve_ : float, list of float
        Loss at ``theta_``, and at the start and after each iteration.
    validation_scores_, best_validation_score_ : list of float, float
        Scores of the validation rows: the share of right ones, R² for regression. Only with early stopping.
    n_iter_ : int
        Number of iterations of the last fit.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number of features, and their names where ``X`` has any.

    Notes
    -----
    A target of zeros and ones of shape (n_rows, n_labels) trains one sigmoid output a label. Sparse features are made
    dense by partitions, and again in each round where they do not fit into memory.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> model = HessianFreeClassifier((32,), random_state=0).fit(X[:1500], y[:1500])
    >>> bool(model.score(X[1500:], y[1500:]) > 0.85)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    classes_: NDArray[Any]

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str | tuple[str, ...] = "tanh",
        *,
        method: str = "gn-cg",
        preconditioner: str | None = None,
        curvature_rows: int | None = CURVATURE_ROWS,
        damping: float | None = None,
        learning_rate: float | None = None,
        batch_rows: int | None = None,
        init: str = "glorot",
        l2: float = 1e-3,
        standardise: bool = True,
        max_iter: int = 100,
        tol: float = 1e-2,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 8,
        warm_start: bool = False,
        verbose: bool | int = False,
        random_state: Any = None,
        n_threads: int | None = None,
        client: Client | None = None,
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            method=method,
            preconditioner=preconditioner,
            curvature_rows=curvature_rows,
            damping=damping,
            learning_rate=learning_rate,
            batch_rows=batch_rows,
            init=init,
            l2=l2,
            standardise=standardise,
            max_iter=max_iter,
            tol=tol,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            verbose=verbose,
            random_state=random_state,
            n_threads=n_threads,
            client=client,
        )
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Train anew; with ``warm_start`` from where the last call ended.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (n_rows, n_features), Dask array, or store
            Features; or the path of a store, which has its own labels.
        y : array_like of shape (n_rows,) or (n_rows, n_labels)
            Class labels; or zeros and ones for several labels a row.
        sample_weight : array_like of shape (n_rows,), optional
            Weights of the rows.

        Returns
        -------
        HessianFreeClassifier
            This estimator.
        """
        if stores.is_store(X):
            fitted: Self = stores.fit(self, X, y, sample_weight)
            return fitted
        features, labels = self._checked(X, y, reset=True)
        classes = np.arange(labels.shape[1]) if labels.ndim == 2 else np.unique(labels)
        if len(classes) < 2 and labels.ndim == 1:
            raise ValueError(f"expected labels of two classes or more, got one class: {classes[0]!r}")
        self._set_classes(classes, several=labels.ndim == 2, continues=self.warm_start)
        rows = self._rows(features, labels, sample_weight)
        data = {"X": features, "y": y, "metadata": {} if sample_weight is None else {"sample_weight": sample_weight}}
        return self._fit(rows, len(self.classes_), self._loss, data)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Make one iteration on the rows given. Features are standardised by the rows of the first call.

        Parameters
        ----------
        X, y : array_like
            As for :meth:`fit`.
        classes : array_like of shape (n_classes,)
            All class labels that any call will have; needed in the first call.
        sample_weight : array_like of shape (n_rows,), optional
            Weights of the rows.

        Returns
        -------
        HessianFreeClassifier
            This estimator.
        """
        first = not hasattr(self, "theta_")
        if first and classes is None:
            raise UsageError("expected classes in the first call of partial_fit, got none; pass all class labels")
        features, labels = self._checked(X, y, reset=first)
        if classes is not None:
            self._set_classes(np.unique(np.asarray(classes)), several=labels.ndim == 2, continues=not first)
        return self._step(self._rows(features, labels, sample_weight), len(self.classes_), self._loss)

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, NDArray[Any]]:
        features, labels = self._validated(X, y, reset=reset)
        return features, checked_labels(labels)

    def _set_classes(self, classes: NDArray[Any], *, several: bool, continues: bool) -> None:
        if continues and hasattr(self, "classes_") and not np.array_equal(classes, self.classes_):
            raise UsageError(
                f"expected the classes of the first call, {self.classes_.tolist()}, got {classes.tolist()}; "
                "give the same classes, or train anew"
            )
        self.classes_ = classes
        self._loss = _SEVERAL if several else _ONE

    def _rows(self, features: Any, labels: NDArray[Any], sample_weight: Any) -> Rows:
        weights = row_weights(features, sample_weight)
        if self._loss == _SEVERAL:
            if self.class_weight is not None:
                raise UsageError("class_weight has no meaning for several labels a row; leave it out")
            return Rows(features, indicators(labels, len(self.classes_)), weights)
        numbers = numbers_of(labels, self.classes_)
        if self.class_weight is not None:
            own = np.ones(len(numbers)) if weights is None else weights
            weights = class_weighted(self.class_weight, self.classes_, numbers, own)
        return Rows(features, numbers, weights)

    def _begin_with(self, split: Split) -> tuple[int, str]:
        """Take the classes of a store; return number of outputs and loss."""
        if split.n_classes is None:
            raise UsageError("expected a store of a classification, got one of a regression; use HessianFreeRegressor")
        classes = np.array(split.classes) if split.classes else np.arange(split.n_classes)
        self._set_classes(classes, several=False, continues=self.warm_start)
        return len(classes), self._loss

    def _score_of(self, y: NDArray[Any], weights: NDArray[Any] | None) -> Score:
        return lambda loss, error: 1 - error

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probabilities of the classes, or of each label, float32 of shape (n_rows, n_classes)."""
        p: NDArray[Any] = self._outputs(X)
        return p

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Return the logarithms of :meth:`predict_proba`; -inf for a probability that float32 rounds to 0."""
        with np.errstate(divide="ignore"):
            log_p: NDArray[Any] = np.log(self._outputs(X))
        return log_p

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row, or ones for the labels with a probability above 1/2."""
        p = self._outputs(X)
        if self._loss == _SEVERAL:
            several: NDArray[Any] = (p > 0.5).astype(np.int64)
            return several
        numbers = p.argmax(axis=1)
        if distributed.is_lazy(numbers):
            labels: NDArray[Any] = numbers.map_blocks(self.classes_.take, dtype=self.classes_.dtype)
            return labels
        found: NDArray[Any] = self.classes_[numbers]
        return found
