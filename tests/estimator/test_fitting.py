"""Fitting: standardisation, early stopping, warm start, partial_fit, several labels and targets."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits, make_friedman1, make_multilabel_classification, make_regression
from sklearn.metrics import accuracy_score, r2_score

from hfnumba.errors import DataError, UsageError
from hfnumba.estimator import HessianFreeClassifier, HessianFreeRegressor
from hfnumba.estimator.scaling import measure
from tests.engine.test_fork import in_fork

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_units_of_features_and_targets_do_not_matter():
    X, y = load_diabetes(return_X_y=True)
    model = HessianFreeRegressor((5,), random_state=0, max_iter=4)
    plain = model.fit(X, y).predict(X)
    units = np.logspace(-6, 6, X.shape[1])
    other = model.fit(X * units + 3 * units, 1e5 * y - 1e7).predict(X * units + 3 * units)
    np.testing.assert_allclose((other + 1e7) / 1e5, plain, rtol=1e-3)
    assert not np.allclose(HessianFreeRegressor((5,), random_state=0, max_iter=4, standardise=False).fit(X, y).loss_, 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_standardisation_is_that_of_numpy(weighted):
    rng = np.random.default_rng(0)
    X = rng.normal(1e6, [1, 100, 1e-3], (9000, 3))
    weights = rng.integers(0, 3, 9000).astype(float) if weighted else None
    scaling = measure("feature", X, weights)
    rows = X if weights is None else np.repeat(X, weights.astype(int), axis=0)
    np.testing.assert_allclose(scaling.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaling.deviation, rows.std(axis=0), rtol=1e-7)
    np.testing.assert_allclose(scaling.invert(scaling.apply(X)), X, rtol=1e-6)


def test_features_without_a_deviation():
    X = np.column_stack([np.full(40, 3.0), np.where(np.arange(40) % 2, 0.3, 0.1 + 0.2), np.arange(40)])
    scaling = measure("feature", X, None)
    assert scaling.deviation[:2].tolist() == [1, 1]
    assert abs(scaling.apply(X)[:, :2]).max() < 1e-15
    with pytest.raises(DataError, match=r"feature 2 .* very large"):
        measure("feature", X * [1, 1, 1e300], None)


def test_early_stopping_keeps_the_iteration_with_the_lowest_validation_loss():
    X, y = load_diabetes(return_X_y=True)
    model = HessianFreeRegressor(random_state=0).fit(X[:300], y[:300])
    best = int(np.argmax(model.validation_scores_))
    assert 0 < best < model.n_iter_ < model.max_iter
    assert len(model.validation_scores_) == len(model.loss_curve_) == model.n_iter_ + 1
    assert model.loss_ == model.loss_curve_[best]
    assert model.best_validation_score_ == max(model.validation_scores_)
    again = HessianFreeRegressor(random_state=0, early_stopping=False, max_iter=30).fit(X[:300], y[:300])
    assert not hasattr(again, "validation_scores_")
    assert model.score(X[300:], y[300:]) > 0.3 > 0 > again.score(X[300:], y[300:])


def test_validation_scores_are_those_of_scikit_learn():
    X, y = load_digits(return_X_y=True)
    weights = np.random.default_rng(0).integers(1, 3, len(y))
    model = HessianFreeClassifier((6,), random_state=0, max_iter=3, early_stopping=True, validation_fraction=0.25)
    model.fit(X, y)
    rows = model._divided(_rows(X, y))[1]
    assert len(rows.y) == 450 and np.bincount(rows.y).min() >= 43
    assert model.best_validation_score_ == pytest.approx(accuracy_score(rows.y, model.predict(rows.X)))
    X, y = load_diabetes(return_X_y=True)
    regressor = HessianFreeRegressor((6,), random_state=0, max_iter=3).fit(X, y, weights[: len(y)])
    rows = regressor._divided(_rows(X, y, weights[: len(y)]))[1]
    expected = r2_score(rows.y, regressor.predict(rows.X), sample_weight=rows.weights)
    assert regressor.best_validation_score_ == pytest.approx(expected, rel=1e-4)


def _rows(X, y, weights=None):
    from hfnumba.estimator.rows import Rows

    return Rows(X, y, weights)


@pytest.mark.parametrize(
    "wanted, n, held_out", [("auto", 99, False), ("auto", 100, True), (True, 20, True), (False, 200, False)]
)
def test_when_rows_are_set_aside(wanted, n, held_out):
    X, y = make_regression(n, 3, random_state=0)
    model = HessianFreeRegressor((2,), early_stopping=wanted, random_state=0, max_iter=2).fit(X, y)
    assert hasattr(model, "validation_scores_") == held_out
    labels = (y > 0).astype(int)
    classifier = HessianFreeClassifier((2,), early_stopping=wanted, random_state=0, max_iter=2).fit(X, labels)
    assert hasattr(classifier, "validation_scores_") == (wanted is True)


def test_no_rows_left_to_train_on():
    X, y = np.eye(2), np.arange(2.0)
    with pytest.raises(UsageError, match=r"validation_fraction .* 0.9 of 2 rows"):
        HessianFreeRegressor(early_stopping=True, validation_fraction=0.9).fit(X, y)


def test_a_warm_start_continues_and_a_cold_one_begins_anew():
    X, y = load_digits(return_X_y=True)
    whole = HessianFreeClassifier((6,), random_state=0, max_iter=4).fit(X, y)
    warm = HessianFreeClassifier((6,), random_state=0, max_iter=2, warm_start=True).fit(X, y)
    first = warm.theta_
    warm.fit(X, y)
    np.testing.assert_array_equal(warm.theta_, whole.theta_)
    assert warm.loss_curve_ == whole.loss_curve_ and warm.n_iter_ == 2
    cold = HessianFreeClassifier((6,), random_state=0, max_iter=2).fit(X, y)
    np.testing.assert_array_equal(cold.fit(X, y).theta_, first)
    with pytest.raises(UsageError, match="classes of the first call"):
        warm.fit(X[y < 5], y[y < 5])
    with pytest.raises(UsageError, match="network of the first call"):
        warm.set_params(hidden_layer_sizes=(7,)).fit(X, y)


@pytest.mark.parametrize("method", ["gn-cg", "hf-bicgstab", "kfac", "lbfgs", "adam"])
def test_partial_fits_on_all_rows_are_the_iterations_of_a_fit(method):
    X, y = load_digits(return_X_y=True)
    settings = {"method": method, "random_state": 0, "tol": 0}
    whole = HessianFreeClassifier((6,), max_iter=3, **settings).fit(X, y)
    steps = HessianFreeClassifier((6,), **settings)
    for i in range(3):
        steps.partial_fit(X, y, classes=np.arange(10) if i == 0 else None)
    assert steps.n_iter_ == 3
    np.testing.assert_allclose(steps.theta_, whole.theta_, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["gn-cg", "kfac", "lbfgs", "adam", "momentum"])
def test_partial_fit_continues_a_fit(method):
    X, y = load_digits(return_X_y=True)
    model = HessianFreeClassifier((6,), method=method, random_state=0, max_iter=5).fit(X, y)
    loss = model.loss_
    model.partial_fit(X, y)
    assert model.n_iter_ == 6 and model.loss_ < 1.1 * loss
    model.set_params(warm_start=True, max_iter=2).fit(X, y)
    assert model.n_iter_ == 2 and model.loss_ < 1.1 * loss


def test_partial_fit_learns_from_rows_that_come_in_pieces():
    X, y = load_digits(return_X_y=True)
    model = HessianFreeClassifier((16,), random_state=0)
    first = np.flatnonzero(y < 5)[:200]  # has five of the ten classes
    for piece in (first, *np.array_split(np.arange(len(X)), 6)):
        model.partial_fit(X[piece], y[piece], classes=np.arange(10))
    assert model.score(X, y) > 0.7
    X, y = make_friedman1(1200, random_state=0)
    regressor = HessianFreeRegressor((16,), random_state=0)
    for piece in np.array_split(np.arange(1200), 12):
        regressor.partial_fit(X[piece], y[piece])
    assert regressor.score(X, y) > 0.7


def test_what_partial_fit_refuses():
    X, y = load_digits(return_X_y=True)
    with pytest.raises(UsageError, match="classes in the first call"):
        HessianFreeClassifier().partial_fit(X, y)
    model = HessianFreeClassifier((4,)).partial_fit(X, y, classes=np.arange(10))
    with pytest.raises(UsageError, match=r"got \[11\]"):
        model.partial_fit(X[:2], [11, 3])
    with pytest.raises(UsageError, match="classes of the first call"):
        model.partial_fit(X, y, classes=np.arange(11))
    with pytest.raises(UsageError, match="early_stopping"):
        HessianFreeClassifier(early_stopping=True).partial_fit(X, y, classes=np.arange(10))


def test_several_labels_a_row():
    X, y = make_multilabel_classification(300, n_classes=4, random_state=0)
    model = HessianFreeClassifier((16,), random_state=0, max_iter=20).fit(X[:200], y[:200])
    p = model.predict_proba(X)
    assert p.shape == (300, 4) and model.classes_.tolist() == [0, 1, 2, 3]
    hidden = np.tanh(X @ model.coefs_[0] + model.intercepts_[0])
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-(hidden @ model.coefs_[1] + model.intercepts_[1]))), atol=1e-5)
    np.testing.assert_array_equal(model.predict(X), p > 0.5)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(p))
    assert model.score(X[:200], y[:200]) > 0.9
    with pytest.raises(UsageError, match="class_weight"):
        HessianFreeClassifier(class_weight="balanced").fit(X, y)
    with pytest.raises(ValueError, match=r"multiclass-multioutput|several classes"):
        HessianFreeClassifier().fit(X, y + np.arange(300)[:, None] % 3)


def test_several_targets():
    X, y = make_regression(300, 6, n_targets=2, random_state=0)
    model = HessianFreeRegressor((20,), random_state=0).fit(X, y * [1e-3, 1e6])
    assert model.predict(X).shape == (300, 2)
    assert model.score(X, y * [1e-3, 1e6]) > 0.95
    assert HessianFreeRegressor(random_state=0, max_iter=2).fit(X, y[:, 0]).predict(X).shape == (300,)


def test_probabilities_are_those_of_the_classes():
    X, y = load_digits(n_class=3, return_X_y=True)
    model = HessianFreeClassifier((8,), random_state=0, max_iter=8).fit(X, y)
    p = model.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], model.predict(X))


def test_the_random_state_decides_and_threads_do_not():
    X, y = load_digits(return_X_y=True)

    def theta(**settings):
        return HessianFreeClassifier((8,), max_iter=3, **settings).fit(X, y).theta_

    np.testing.assert_array_equal(theta(random_state=1, n_threads=1), theta(random_state=1, n_threads=2))
    assert not np.array_equal(theta(random_state=1), theta(random_state=2))


@pytest.mark.parametrize("method", ["sgd", "hf-bicgstab"])
def test_other_methods(method):
    X, y = load_digits(return_X_y=True)
    model = HessianFreeClassifier((8,), method=method, random_state=0, max_iter=5).fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_predicts_and_fits_to_the_same_bits():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]

    def fitted():
        return HessianFreeClassifier((8,), max_iter=3, random_state=0, n_threads=2).fit(X, y)

    model = fitted()
    outputs = model.predict_proba(X)

    def check():
        for one in (model, fitted()):
            np.testing.assert_array_equal(one.predict_proba(X), outputs)

    in_fork(check)
