"""Weights of rows and classes."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_regression
from sklearn.ensemble import AdaBoostClassifier
from sklearn.utils.class_weight import compute_class_weight

from hfnumba.estimator import HessianFreeClassifier, HessianFreeRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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

    model = AdaBoostClassifier(Seen((4,), max_iter=3, random_state=0), n_estimators=50, random_state=0)
    model.fit(X[:400] / 16, y[:400])
    assert Seen.least < 1e-13
    assert model.score(X[400:800] / 16, y[400:800]) > 0.75


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
