"""Base of the classifier and the regressor: settings, fitting, raw outputs."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from hfnumba.engine import RoundObjective, predict
from hfnumba.errors import UsageError
from hfnumba.estimator import distributed
from hfnumba.estimator.callbacks import CallbackSupportMixin, FitTasks
from hfnumba.estimator.rows import Rows, objective, refuse_rounded_rows
from hfnumba.estimator.scaling import Scaling, dense_blocks, measure
from hfnumba.estimator.settings import CONSTRAINTS, CURVATURE_ROWS, hidden_widths, make_optimizer
from hfnumba.estimator.training import Score, Training, Validation
from hfnumba.network import Network
from hfnumba.optim.early_stopping import EarlyStopping
from hfnumba.optim.iteration import OptimizerState
from hfnumba.store.checks import refuse_masked

if TYPE_CHECKING:
    from distributed import Client

# With fewer rows there are too few for validation.
_FEWEST_FOR_VALIDATION = 100


class HessianFreeEstimator(CallbackSupportMixin, BaseEstimator):
    """Base of classifier and regressor."""

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS
    _stops_early = False

    network_: Network
    theta_: NDArray[np.float32]
    loss_: float
    n_iter_: int
    # None where training continues from parameters alone.
    _state: OptimizerState | None

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
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.method = method
        self.preconditioner = preconditioner
        self.curvature_rows = curvature_rows
        self.damping = damping
        self.learning_rate = learning_rate
        self.batch_rows = batch_rows
        self.init = init
        self.l2 = l2
        self.standardise = standardise
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state
        self.n_threads = n_threads
        self.client = client

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        # A client belongs to its process.
        return {**super().__getstate__(), "client": None}

    def __sklearn_clone__(self) -> Self:
        clone: Self = BaseEstimator.__sklearn_clone__(copy.copy(self))
        clone.client = self.client
        return clone

    @property
    def coefs_(self) -> list[NDArray[np.float64]]:
        """Weights of the layers, (n_in, n_out) each, for features and targets before standardisation."""
        return [weights for weights, _ in self._layers()]

    @property
    def intercepts_(self) -> list[NDArray[np.float64]]:
        """Biases of the layers, (n_out,) each, for features and targets before standardisation."""
        return [biases for _, biases in self._layers()]

    def _layers(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        check_is_fitted(self)
        layers = [(w.astype(np.float64), b.astype(np.float64)) for w, b in self.network_.layers(self.theta_)]
        if self._features is not None:
            w, b = layers[0]
            w = w / self._features.deviation[:, None]
            layers[0] = w, b - self._features.mean @ w
        if self._targets is not None:
            w, b = layers[-1]
            layers[-1] = w * self._targets.deviation, self._targets.invert(b)
        return layers

    def _begin(self, n_features: int, n_outputs: int, loss: str) -> bool:
        """Set network, seed and counts anew, unless training continues; return whether it does."""
        network = Network([n_features, *hidden_widths(self.hidden_layer_sizes), n_outputs], self.activation, loss)
        continues = hasattr(self, "_state")
        if continues and network != self.network_:
            raise UsageError(
                f"expected the network of the first call, of layers {self.network_.sizes}, {self.network_.activation} "
                f"and {self.network_.loss}, got {network.sizes}, {network.activation} and {network.loss}; leave "
                "warm_start out, or give the same classes and settings"
            )
        if not continues:
            self.network_ = network
            self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            self.loss_curve_: list[float] = []
            self.theta_ = network.initialize(self._seed, self.init)  # type: ignore[arg-type]  # checked by CONSTRAINTS
        return continues

    def _scale(self, rows: Rows, *, targets: bool) -> None:
        """Measure the standardisation of features, and of targets."""
        self._features: Scaling | None = None
        self._targets: Scaling | None = None
        if self.standardise:
            lazy = distributed.is_lazy(rows.X)
            self._features = (distributed.measure_lazily if lazy else measure)("feature", rows.X, rows.weights)
            self._targets = measure("target", rows.y, rows.weights) if targets else None
        elif not distributed.is_lazy(rows.X):
            refuse_rounded_rows(rows, targets=targets)

    def _fit(self, rows: Rows, n_outputs: int, loss: str, data: dict[str, Any]) -> Self:
        """Train on checked rows; ``data`` is what callbacks get."""
        if not self.warm_start:
            self._forget()
        rows = rows.with_weight()
        continues = self._begin(rows.X.shape[1], n_outputs, loss)
        if not continues:
            self._scale(rows, targets=loss == "squared_error")
        training_rows, validation_rows = self._divided(rows)
        with ExitStack() as stack:
            training = stack.enter_context(self._objective(training_rows, self.l2))
            validation = None
            if validation_rows is not None:
                watched = stack.enter_context(self._objective(validation_rows, 0.0))
                validation = self._watch(watched, validation_rows.y, validation_rows.weights)
            return self._train(training, validation, data)

    def _watch(self, objective: RoundObjective, y: NDArray[Any], weights: NDArray[Any] | None) -> Validation:
        """Return the watch over validation rows, with their labels or targets and their weights."""
        rule = EarlyStopping(self.n_iter_no_change, min(self.tol, 1.0))
        return Validation(objective, self._score_of(y, weights), rule)

    def _forget(self) -> None:
        """Delete what earlier calls left, so that training begins anew."""
        for name in ("_state", "validation_scores_", "best_validation_score_"):
            self.__dict__.pop(name, None)

    def _objective(self, rows: Rows, l2: float) -> AbstractContextManager[RoundObjective]:
        if self._targets is not None:
            rows = replace(rows, y=self._targets.apply(rows.y))
        network, scaling, threads = self.network_, self._features, self.n_threads
        if self.client is None and not distributed.is_lazy(rows.X):
            return objective(network, rows, scaling, l2=l2, n_threads=threads)
        return distributed.stored_objective(network, rows, scaling, self.client, l2=l2, n_threads=threads)

    def _divided(self, rows: Rows) -> tuple[Rows, Rows | None]:
        """Divide the rows into those for training and those for early stopping."""
        wanted = self.early_stopping
        if wanted == "auto":
            wanted = self._stops_early and rows.X.shape[0] >= _FEWEST_FOR_VALIDATION
        stratify = self.network_.takes_labels
        return rows.divided(self.validation_fraction, self._seed, stratify=stratify) if wanted else (rows, None)

    def _train(self, training: RoundObjective, validation: Validation | None, data: dict[str, Any]) -> Self:
        first: OptimizerState | None = getattr(self, "_state", None)
        last = self.max_iter if first is None else first.iteration + self.max_iter
        tasks = FitTasks(self, data, self.max_iter)
        state = Training(self, tasks, validation).follow(make_optimizer(self, self._seed, last), training, first)
        # A cold start leaves out what takes memory: a later call of partial_fit continues without it.
        self._state = _continued(state if self.warm_start else replace(state, memory={}))
        tasks.close()
        return self

    def _score_of(self, y: NDArray[Any], weights: NDArray[Any] | None) -> Score:
        """Return the function that makes the score of some rows of their loss and error rate."""
        raise NotImplementedError

    def _step(self, rows: Rows, n_outputs: int, loss: str) -> Self:
        """Make one iteration on some rows, from where the last one ended."""
        if self.early_stopping is True:
            raise UsageError("partial_fit does not stop early; leave early_stopping out, or use fit")
        rows = rows.with_weight()
        if not self._begin(rows.X.shape[1], n_outputs, loss):
            self._scale(rows, targets=loss == "squared_error")
            self.n_iter_ = 0
        first = getattr(self, "_state", None)
        steps = make_optimizer(self, self._seed, 1 if first is None else first.iteration + 1)
        with self._objective(rows, self.l2) as training:
            for iteration in steps.iterate(training, self.theta_, state=first):
                self.theta_, self.loss_ = iteration.state.theta, iteration.loss
                self._state = _continued(iteration.state)
        self.loss_curve_.append(self.loss_)
        self.n_iter_ += 1
        return self

    def _outputs(self, X: Any) -> Any:
        """Outputs of the network, float32 of shape (n_rows, n_outputs); lazily for an array of Dask."""
        check_is_fitted(self)
        refuse_masked("X", X)
        if distributed.is_lazy(X):
            lazy = distributed.lazy_features(self, X, reset=False)
            return distributed.lazily(lazy, copy.copy(self)._outputs_of, self.network_.n_outputs)
        return self._outputs_of(validate_data(self, X, reset=False, accept_sparse="csr", order="C"))

    def _outputs_of(self, rows: Any) -> NDArray[np.float32]:
        """Outputs for an array or a sparse matrix of checked rows."""
        out = np.empty((rows.shape[0], self.network_.n_outputs), np.float32)
        for where, block in dense_blocks(rows):
            features = block if self._features is None else self._features.apply(block)
            out[where] = predict(self.network_, self.theta_, features, first_row=where.start)
        return out

    def _validated(self, X: Any, y: Any, *, reset: bool, **more: Any) -> tuple[Any, Any]:
        """Return checked features, an array or a sparse matrix in CSR form or of Dask, and labels or targets."""
        refuse_masked("X", X)
        refuse_masked("y", y)
        if distributed.is_lazy(X):
            features = distributed.lazy_features(self, X, reset=reset)
            targets = check_array(distributed.in_memory(y), ensure_2d=False, dtype=None, input_name="y")
            check_consistent_length(features, targets)
            return features, targets
        y = distributed.in_memory(y)
        checked: tuple[Any, Any] = validate_data(
            self, X, y, reset=reset, accept_sparse="csr", order="C", multi_output=True, **more
        )
        return checked

    def _set_features(self, n_features: int, names: list[str]) -> None:
        """Set number and names of the features."""
        self.n_features_in_ = n_features
        self.__dict__.pop("feature_names_in_", None)
        if names:
            self.feature_names_in_ = np.array(names, object)


def _continued(state: OptimizerState) -> OptimizerState:
    """Return a state from which training continues even where it had ended."""
    return replace(state, stopped=None, n_rejected=0)


def row_weights(rows: Any, sample_weight: Any) -> NDArray[np.float64] | None:
    """Weights in the form that scikit-learn accepts: one number for all rows, or one per row."""
    if sample_weight is None:
        return None
    refuse_masked("sample_weight", sample_weight)
    sample_weight = distributed.in_memory(sample_weight)
    weights: NDArray[np.float64] = _check_sample_weight(sample_weight, rows, dtype=np.float64)
    return weights
