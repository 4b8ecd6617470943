import numpy as np
import pytest
from sklearn.datasets import load_digits, make_regression
from sklearn.ensemble import AdaBoostClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

from hfnumba.estimator import HessianFreeClassifier, HessianFreeRegressor


def expected_failures(estimator):
    # That check wants 1e-7 of parameters in float32 after 30 steps that each magnify the last digits. The laws of
    # weights are tested in float64 by tests/engine/test_weights.py, and for convex problems below.
    return {"check_sample_weight_equivalence_on_dense_data": "sums in float32 differ in the last digits"}


@parametrize_with_checks(
    [HessianFreeClassifier(max_iter=30), HessianFreeRegressor(max_iter=30)], expected_failed_checks=expected_failures
)
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


def clouds(shares=(0.8, 0.15, 0.05), n=400, seed=0):
    """Overlapping clouds of points of unequal size."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(shares), n, p=shares)
    return rng.normal(size=(len(shares), 5))[y] + 1.5 * rng.normal(size=(n, 5)), y


SETTINGS = {"hidden_layer_sizes": (), "random_state": 0, "max_iter": 40, "tol": 0, "l2": 1e-2, "early_stopping": False}


def test_sample_weights_are_repetitions():
    X, y = clouds()
    weights = np.random.default_rng(1).integers(0, 4, len(X))
    weighted = HessianFreeClassifier(**SETTINGS).fit(X, y, sample_weight=weights)
    repeated = HessianFreeClassifier(**SETTINGS).fit(np.repeat(X, weights, 0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-3)
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-5)
    plain = HessianFreeClassifier(**SETTINGS).fit(X, y)
    assert abs(plain.predict_proba(X) - weighted.predict_proba(X)).max() > 0.01


@pytest.mark.parametrize("weighted", [False, True])
def test_class_weights_are_those_of_scikit_learn(weighted):
    X, y = clouds()
    weights = np.random.default_rng(1).integers(1, 4, len(X)) if weighted else None
    ours = HessianFreeClassifier(**SETTINGS, class_weight="balanced").fit(X, y, weights)
    repeated = y if weights is None else np.repeat(y, weights)
    numbers = dict(enumerate(compute_class_weight("balanced", classes=np.arange(3), y=repeated)))
    theirs = HessianFreeClassifier(**SETTINGS, class_weight=numbers).fit(X, y, weights)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    # The smallest class is found more often than without.
    plain = HessianFreeClassifier(**SETTINGS).fit(X, y, weights)
    recalls = [(model.predict(X)[y == 2] == 2).mean() for model in (plain, ours)]
    assert recalls[0] < recalls[1]


def test_weights_of_any_size():
    """Rows that weigh next to nothing are as good as left out, and the unit does not matter."""
    X, y = clouds()
    weights = np.where(np.arange(len(X)) % 2, 1.0, 1e-30)
    plain = HessianFreeClassifier(**SETTINGS).fit(X[1::2], y[1::2])
    for unit in (1.0, 1e-200, 1e200):
        model = HessianFreeClassifier(**SETTINGS).fit(X, y, weights * unit)
        np.testing.assert_allclose(model.predict_proba(X), plain.predict_proba(X), atol=1e-3)


@pytest.mark.slow
def test_boosting_takes_weights_of_any_size():
    """After some rounds the weights of easy rows are a 1e-13th of those of hard ones and less."""
    X, y = load_digits(return_X_y=True)

    class Seen(HessianFreeClassifier):
        least = 1.0

        def fit(self, X, y, sample_weight=None):
            Seen.least = min(Seen.least, sample_weight.min())
            return super().fit(X, y, sample_weight)

    model = AdaBoostClassifier(Seen((8,), max_iter=5, random_state=0), n_estimators=50, random_state=0)
    model.fit(X[:400] / 16, y[:400])
    assert Seen.least < 1e-13
    assert model.score(X[400:800] / 16, y[400:800]) > 0.85


def test_a_class_weight_names_a_class_that_exists():
    X, y = clouds()
    with pytest.raises(ValueError, match="not in class_weight"):
        HessianFreeClassifier(class_weight={7: 2.0}).fit(X, y)


def test_weights_of_regression_are_repetitions():
    X, y = make_regression(200, 4, random_state=0, noise=20)
    y /= y.std()
    weights = np.random.default_rng(1).integers(0, 4, len(X))
    weighted = HessianFreeRegressor(**SETTINGS).fit(X, y, sample_weight=weights)
    repeated = HessianFreeRegressor(**SETTINGS).fit(np.repeat(X, weights, 0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), atol=1e-3)
