"""scikit-learn's perceptrons as starting points: the same predictions, then lower losses."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, make_multilabel_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier, MLPRegressor

import hfnumba as hf
from hfnumba.errors import DataError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
COMMON = {"hidden_layer_sizes": (7, 5), "max_iter": 30, "random_state": 0}


def iris(n_classes=3):
    X, y = load_iris(return_X_y=True)
    return X[y < n_classes], np.array(["setosa", "versicolor", "virginica"])[y[y < n_classes]]


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_classifier_predicts_what_the_perceptron_does(n_classes, activation):
    X, y = iris(n_classes)
    mlp = MLPClassifier(activation=activation, **COMMON).fit(X, y)
    model = hf.from_sklearn(mlp, l2=0.0, max_iter=3)
    np.testing.assert_allclose(model.predict_proba(X), mlp.predict_proba(X), atol=2e-6)
    np.testing.assert_array_equal(model.predict(X), mlp.predict(X))
    assert model.fit(X, y).loss_curve_[0] == pytest.approx(log_loss(y, mlp.predict_proba(X)), rel=1e-5)
    assert model.loss_ < model.loss_curve_[0]


def test_several_labels_a_row():
    X, y = make_multilabel_classification(80, random_state=0)
    mlp = MLPClassifier(**COMMON).fit(X, y)
    model = hf.from_sklearn(mlp, max_iter=3)
    np.testing.assert_allclose(model.predict_proba(X), mlp.predict_proba(X), atol=2e-6)
    np.testing.assert_array_equal(model.predict(X), mlp.predict(X))
    assert model.fit(X, y).loss_ < model.loss_curve_[0]


@pytest.mark.parametrize("n_targets", [1, 2])
def test_a_regressor_predicts_what_the_perceptron_does(n_targets):
    X, y = load_diabetes(return_X_y=True)
    y = np.stack([y, -2 * y], axis=1)[:, :n_targets].squeeze()
    mlp = MLPRegressor(**COMMON | {"hidden_layer_sizes": (6,), "solver": "lbfgs"}).fit(X, y)
    model = hf.from_sklearn(mlp, l2=1e-4 / len(X), early_stopping=False, max_iter=3)
    np.testing.assert_allclose(model.predict(X), mlp.predict(X), rtol=1e-5)
    # Half the mean of squares, and alpha = 1e-4 on n rows.
    assert model.fit(X, y).loss_curve_[0] == pytest.approx(mlp.loss_ * n_targets, rel=1e-4)
    assert model.loss_ < model.loss_curve_[0]


def test_steps_start_there_and_a_clone_or_a_cold_fit_does_not():
    X, y = iris()
    mlp = MLPClassifier(**COMMON).fit(X, y)
    model = hf.from_sklearn(mlp, l2=0.0)
    model.partial_fit(X, y)
    assert model.n_iter_ == 1 and model.loss_ < log_loss(y, mlp.predict_proba(X))
    with pytest.raises(NotFittedError):
        clone(model).predict(X)
    cold = hf.from_sklearn(mlp, l2=0.0, warm_start=False, random_state=1, max_iter=1).fit(X, y)
    anew = hf.HessianFreeClassifier((7, 5), "relu", standardise=False, l2=0.0, random_state=1, max_iter=1).fit(X, y)
    np.testing.assert_array_equal(cold.theta_, anew.theta_)


def test_what_is_no_starting_point_is_refused():
    X, y = iris()
    with pytest.raises(
        UsageError, match="expected scikit-learn's MLPClassifier or MLPRegressor, got LogisticRegression"
    ):
        hf.from_sklearn(LogisticRegression())
    with pytest.raises(NotFittedError):
        hf.from_sklearn(MLPClassifier())
    mlp = MLPClassifier(**COMMON).fit(X, y)
    with pytest.raises(UsageError, match="the perceptron determines activation and standardise; leave this out"):
        hf.from_sklearn(mlp, standardise=True, activation="relu")
    mlp.out_activation_ = "exp"
    with pytest.raises(UsageError, match="squared error or cross-entropy, got one with log_loss"):
        hf.from_sklearn(mlp)
    mlp = MLPClassifier(**COMMON).fit(X, y)
    mlp.coefs_[0][0, 0] = 1e300
    with pytest.raises(DataError, match="not finite in float32"):
        hf.from_sklearn(mlp)
