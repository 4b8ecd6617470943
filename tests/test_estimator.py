import numpy as np
import pytest
from sklearn.datasets import load_digits, make_regression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hfnumba.estimator import HessianFreeClassifier, HessianFreeRegressor


@parametrize_with_checks([HessianFreeClassifier(max_iter=30), HessianFreeRegressor(max_iter=30)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_digits_in_a_pipeline_and_a_grid_search():
    X, y = load_digits(return_X_y=True)
    names = np.array([f"digit {d}" for d in range(10)])
    model = make_pipeline(StandardScaler(), HessianFreeClassifier((24,), random_state=0, max_iter=10))
    search = GridSearchCV(model, {"hessianfreeclassifier__l2": [1e-3, 1e-2]}, cv=2).fit(X[:600], names[y[:600]])
    assert search.score(X[600:900], names[y[600:900]]) > 0.85


def test_probabilities_are_those_of_the_classes():
    X, y = load_digits(n_class=3, return_X_y=True)
    model = HessianFreeClassifier((8,), random_state=0, max_iter=8).fit(X / 16, y)
    p = model.predict_proba(X / 16)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], model.predict(X / 16))


def test_the_random_state_decides_and_threads_do_not():
    X, y = load_digits(return_X_y=True)

    def theta(**settings):
        return HessianFreeClassifier((8,), max_iter=3, **settings).fit(X / 16, y).theta_

    np.testing.assert_array_equal(theta(random_state=1, n_threads=1), theta(random_state=1, n_threads=2))
    assert not np.array_equal(theta(random_state=1), theta(random_state=2))


def test_several_targets():
    X, y = make_regression(300, 6, n_targets=2, random_state=0)
    y /= y.std(axis=0)
    model = HessianFreeRegressor((20,), random_state=0).fit(X, y)
    assert model.predict(X).shape == (300, 2)
    assert model.score(X, y) > 0.95
    assert HessianFreeRegressor(random_state=0, max_iter=2).fit(X, y[:, 0]).predict(X).shape == (300,)


@pytest.mark.parametrize("method", ["sgd", "gn-cg"])
def test_other_methods(method):
    X, y = load_digits(return_X_y=True)
    model = HessianFreeClassifier((8,), method=method, random_state=0, max_iter=5).fit(X / 16, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
