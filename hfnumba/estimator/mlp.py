"""scikit-learn's fitted multi-layer perceptrons as starting points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted

from hfnumba.errors import DataError, UsageError
from hfnumba.estimator.classifier import HessianFreeClassifier
from hfnumba.estimator.regressor import HessianFreeRegressor

_DETERMINED = {"hidden_layer_sizes", "activation", "standardise"}
_ACTIVATIONS = {"logistic": "sigmoid"}
_LOSSES = {"softmax": "softmax_cross_entropy", "logistic": "sigmoid_cross_entropy", "identity": "squared_error"}
"""Losses by the activation of the perceptron's outputs."""

_Layers = list[tuple[NDArray[Any], NDArray[Any]]]


def from_sklearn(mlp: Any, **settings: Any) -> HessianFreeClassifier | HessianFreeRegressor:
    """Return an estimator with the parameters of a fitted MLPClassifier or MLPRegressor, where training continues.

    It predicts what the perceptron predicts, to float32. ``fit`` and ``partial_fit`` start from these parameters. They
    do not standardise, since the parameters are for features and targets as they are. A clone, such as a search
    makes, has the settings only and starts anew.

    Parameters
    ----------
    mlp : MLPClassifier or MLPRegressor
        Fitted. For two classes its single output z becomes two, -z/2 and z/2, whose softmax is the logistic function of
        z.
    **settings
        Settings of :class:`hfnumba.HessianFreeClassifier` but for ``hidden_layer_sizes``, ``activation`` and
        ``standardise``; ``warm_start`` is True if it is not given, without which ``fit`` starts anew. The penalty
        ``alpha`` of a perceptron on n rows is ``l2=alpha / n``.

    Returns
    -------
    HessianFreeClassifier or HessianFreeRegressor
        Fitted, with the parameters of the perceptron.

    Raises
    ------
    UsageError
        If this is no such perceptron, or its loss is another than squared error and cross-entropy.
    DataError
        If a parameter is not finite in float32.
    sklearn.exceptions.NotFittedError

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier(max_iter=1000, random_state=0).fit(X, y)
    >>> model = from_sklearn(mlp)
    >>> np.allclose(model.predict_proba(X), mlp.predict_proba(X), atol=1e-5)
    True
    >>> curve = model.fit(X, y).loss_curve_
    >>> bool(curve[-1] < curve[0])
    True
    """
    if not isinstance(mlp, MLPClassifier | MLPRegressor):
        raise UsageError(
            f"expected scikit-learn's MLPClassifier or MLPRegressor, got {type(mlp).__name__}; of a "
            "pipeline or a search, give the perceptron itself (its last step, or best_estimator_)"
        )
    if own := sorted(settings.keys() & _DETERMINED):
        raise UsageError(f"the perceptron determines {' and '.join(own)}; leave this out")
    check_is_fitted(mlp)
    if mlp.out_activation_ not in _LOSSES:
        raise UsageError(
            f"expected a perceptron with squared error or cross-entropy, got one with {mlp.loss}; train it anew"
        )
    layers: _Layers = list(zip(mlp.coefs_, mlp.intercepts_, strict=True))
    hidden = [len(biases) for _, biases in layers[:-1]]
    kind = HessianFreeClassifier if isinstance(mlp, MLPClassifier) else HessianFreeRegressor
    activation = _ACTIVATIONS.get(mlp.activation, mlp.activation)
    model = kind(hidden, activation, standardise=False, **{"warm_start": True} | settings)
    loss = _LOSSES[mlp.out_activation_]
    if isinstance(model, HessianFreeRegressor):
        model._is_vector = mlp.n_outputs_ == 1
    else:
        if mlp.n_outputs_ == 1:
            loss, layers[-1] = _LOSSES["softmax"], _for_two_classes(*layers[-1])
        model._set_classes(mlp.classes_, several=loss == _LOSSES["logistic"], continues=False)
    _start(model, layers, loss)
    model._set_features(mlp.n_features_in_, list(getattr(mlp, "feature_names_in_", [])))
    return model


def _for_two_classes(weights: NDArray[Any], biases: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return an output layer of one output as one of two, whose softmax is the logistic function of that output."""
    halves = np.array([-0.5, 0.5])
    return weights * halves, biases * halves


def _start(model: HessianFreeClassifier | HessianFreeRegressor, layers: _Layers, loss: str) -> None:
    """Set network and parameters, as before the first iteration."""
    model._forget()
    model._begin(len(layers[0][0]), len(layers[-1][1]), loss)
    model._features = model._targets = None
    for own, (weights, biases) in zip(model.network_.layers(model.theta_), layers, strict=True):
        with np.errstate(over="ignore"):
            own.weights[:], own.biases[:] = weights, biases
    if not np.isfinite(model.theta_).all():
        raise DataError("a parameter of the perceptron is not finite in float32; fit it to scaled features")
    # No state of an optimiser, but a place to continue from.
    model._state, model.n_iter_ = None, 0
