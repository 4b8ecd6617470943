"""Conventions of scikit-learn: its own checks, settings, searches, callbacks, attributes."""

import pickle

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hfnumba.engine import RoundObjective
from hfnumba.engine.local import LocalEngine
from hfnumba.engine.protocol import Problem
from hfnumba.errors import HfnumbaError
from hfnumba.estimator import HessianFreeClassifier, HessianFreeRegressor
from hfnumba.estimator.rows import Rows, sparse_source
from hfnumba.network import Network

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def expected_failures(estimator):
    # These checks want 1e-7 after up to 30 steps on 15 rows of 30 features. In float32, fits with weights and with
    # repeated rows agree to 5e-7 after one step; later steps magnify that, to 0.03 in probabilities after ten. The laws
    # of weights are tested in float64 by tests/engine/test_weights.py, and for convex problems by test_weights.py.
    reason = "differences of float32 after the first step are magnified by those that follow"
    return {f"check_sample_weight_equivalence_on_{kind}_data": reason for kind in ("dense", "sparse")}


@parametrize_with_checks(
    [HessianFreeClassifier(max_iter=30), HessianFreeRegressor(max_iter=30)], expected_failed_checks=expected_failures
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "name, value",
    [
        ("hidden_layer_sizes", (10.7,)),
        ("hidden_layer_sizes", "100"),
        ("hidden_layer_sizes", (10, 0)),
        ("hidden_layer_sizes", [[3]]),
        ("hidden_layer_sizes", (True,)),
        ("activation", "swish"),
        ("method", "newton"),
        ("preconditioner", "diagonal"),
        ("curvature_rows", 0),
        ("damping", 0),
        ("init", "zeros"),
        ("l2", -1),
        ("standardise", 2),
        ("max_iter", 0),
        ("max_iter", 2.5),
        ("tol", None),
        ("tol", -1e-3),
        ("early_stopping", "never"),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("warm_start", "yes"),
        ("verbose", "much"),
        ("random_state", "one"),
        ("n_threads", 0),
        ("class_weight", "equal"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name, value):
    model = HessianFreeClassifier(**{name: value})
    for call in (model.fit, lambda X, y: model.partial_fit(X, y, [0, 1])):
        with pytest.raises(ValueError, match=name):
            call(np.arange(8.0).reshape(4, 2), [0, 1, 0, 1])


@pytest.mark.parametrize(
    "method, settings",
    [
        ("gn-cg", {"learning_rate": 0.1}),
        ("adam", {"damping": 0.1}),
        ("lbfgs", {"batch_rows": 5}),
        ("sgd", {"curvature_rows": 5}),
        ("lbfgs", {"curvature_rows": None}),
    ],
)
def test_a_setting_that_the_method_does_not_have_is_refused(method, settings):
    (name,) = settings
    with pytest.raises(HfnumbaError, match=f"got {name}") as found:
        HessianFreeClassifier(method=method, **settings).fit(np.arange(8.0).reshape(4, 2), [0, 1, 0, 1])
    # Only settings of the estimator are proposed.
    proposed = str(found.value).partition("(")[2].partition(")")[0].split(", ")
    assert set(proposed) <= {*HessianFreeClassifier().get_params(), "it has none of these"} - {"warm_start"}


@pytest.mark.parametrize(
    "method, one, other",
    [
        ("adam", {"learning_rate": 1e-2}, {"learning_rate": 1e-3}),
        ("sgd", {"batch_rows": 10}, {"batch_rows": 100}),
        ("gn-cg", {"damping": 1.0}, {"damping": 1e-3}),
        ("gn-cg", {"preconditioner": "kfac"}, {"preconditioner": "none"}),
        ("gn-cg", {"curvature_rows": 20}, {"curvature_rows": None}),
        ("gn-cg", {"init": "he"}, {"init": "glorot"}),
        ("gn-cg", {"l2": 0}, {"l2": 0.1}),
    ],
)
def test_settings_reach_the_method(method, one, other):
    X, y = load_digits(n_class=3, return_X_y=True)
    losses = [
        HessianFreeClassifier((4,), method=method, max_iter=2, random_state=0, **given).fit(X, y).loss_
        for given in (one, other)
    ]
    assert losses[0] != losses[1]


def test_digits_in_a_pipeline_and_a_grid_search():
    X, y = load_digits(return_X_y=True)
    names = np.array([f"digit {d}" for d in range(10)])
    model = make_pipeline(StandardScaler(), HessianFreeClassifier((24,), random_state=0, max_iter=10))
    search = GridSearchCV(model, {"hessianfreeclassifier__l2": [1e-3, 1e-2]}, cv=2).fit(X[:600], names[y[:600]])
    assert search.score(X[600:900], names[y[600:900]]) > 0.85


@pytest.mark.parametrize(
    ("limit", "given", "width", "expected"),
    [("1", None, 400, 1), ("1", 3, 400, 3), ("64", None, 400, 5), ("4,2", None, 400, 5), ("64", None, 3, 1)],
)
def test_threads_are_limited_by_what_joblib_gives_and_by_the_work(monkeypatch, limit, given, width, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    monkeypatch.setattr("hfnumba.estimator.settings.available_processors", lambda: 5)
    asked, make = [], LocalEngine.__init__
    monkeypatch.setattr(LocalEngine, "__init__", lambda self, problem, n: (asked.append(n), make(self, problem, n))[1])
    X, y = load_digits(n_class=2, return_X_y=True)
    for rows in (X, scipy.sparse.csr_array(X)):
        HessianFreeClassifier((width,), n_threads=given, max_iter=1).fit(rows, y)
    assert asked == [expected, expected]


@pytest.mark.slow
def test_a_search_in_two_processes_finds_what_one_in_this_process_does():
    X, y = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), HessianFreeClassifier(random_state=0, max_iter=10))
    grid = {"hessianfreeclassifier__l2": [1e-3, 1e-2]}
    found = [GridSearchCV(model, grid, cv=2, n_jobs=n).fit(X[:600], y[:600]) for n in (1, 2)]
    np.testing.assert_array_equal(*(search.cv_results_["mean_test_score"] for search in found))
    np.testing.assert_array_equal(*(search.predict_proba(X[600:]) for search in found))


def test_weights_of_the_layers_are_those_for_features_as_they_are():
    """A forward pass by NumPy on features and targets in their own units."""
    X, y = load_digits(return_X_y=True)
    model = HessianFreeClassifier((8, 6), random_state=0, max_iter=5).fit(X, y)
    assert [w.shape for w in model.coefs_] == [(64, 8), (8, 6), (6, 10)]
    values = X
    for w, b in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        values = np.tanh(values @ w + b)
    z = np.exp(values @ model.coefs_[-1] + model.intercepts_[-1])
    np.testing.assert_allclose(z / z.sum(axis=1, keepdims=True), model.predict_proba(X), atol=1e-5)
    X, y = load_diabetes(return_X_y=True)
    model = HessianFreeRegressor((5,), random_state=0, max_iter=5).fit(1e3 * X + 7, np.stack([y, 1e4 - y], axis=1))
    hidden = np.tanh((1e3 * X + 7) @ model.coefs_[0] + model.intercepts_[0])
    np.testing.assert_allclose(hidden @ model.coefs_[1] + model.intercepts_[1], model.predict(1e3 * X + 7), rtol=1e-4)


def test_a_fit_that_reaches_max_iter_warns_and_one_that_converges_does_not(recwarn):
    X, y = load_digits(n_class=3, return_X_y=True)
    with pytest.warns(ConvergenceWarning, match="max_iter = 2 iterations"):
        HessianFreeClassifier((4,), random_state=0, max_iter=2).fit(X, y)
    recwarn.clear()
    model = HessianFreeClassifier((4,), random_state=0, max_iter=200).fit(X, y)
    assert model.n_iter_ < 200 and len(model.loss_curve_) == model.n_iter_ + 1
    assert [w for w in recwarn if w.category is ConvergenceWarning] == []


def test_verbose_prints_a_line_for_each_iteration(capsys):
    X, y = load_digits(n_class=3, return_X_y=True)
    HessianFreeClassifier((4,), random_state=0, max_iter=2, verbose=True, early_stopping=True).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"Iteration {i}" for i in range(3)]
    assert all("loss = " in line and "validation score = " in line for line in lines)


class Recorder:
    """Callback that records the tasks, and asks to stop after some of them."""

    def __init__(self, last=99):
        self.tasks, self.scores, self.last = [], [], last

    def setup(self, estimator, context):
        self.tasks.append("setup")

    def teardown(self, estimator, context):
        self.tasks.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.tasks.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.tasks.append(f"end {context.task_name}")
        self.scores.append(fitted_estimator.score(X, y))
        return self.tasks.count("end iteration") == self.last


def test_callbacks_of_scikit_learn():
    pytest.importorskip("sklearn.callback")
    X, y = load_digits(n_class=3, return_X_y=True)
    recorder = Recorder(last=3)
    model = HessianFreeClassifier((4,), random_state=0, max_iter=9).set_callbacks(recorder).fit(X, y)
    assert model.n_iter_ == 3
    iterations = ["begin iteration", "end iteration"] * 3
    assert recorder.tasks == ["setup", "begin fit", *iterations, "end fit", "teardown"]
    assert recorder.scores[-1] == model.score(X, y) > recorder.scores[0]


def test_a_client_is_cloned_by_reference_and_not_pickled():
    class Client:
        def __deepcopy__(self, memo):
            raise TypeError("cannot be copied")

        def __reduce__(self):
            raise TypeError("cannot be pickled")

    model = HessianFreeClassifier(client=Client())
    assert clone(model).client is model.client
    assert pickle.loads(pickle.dumps(model)).client is None


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csr_matrix, scipy.sparse.csc_array])
@pytest.mark.parametrize("standardise", [True, False])
def test_sparse_rows_give_the_bits_of_dense_ones(kind, standardise):
    X, y = load_digits(return_X_y=True)
    made = [
        HessianFreeClassifier((6,), random_state=0, max_iter=3, standardise=standardise).fit(rows, y)
        for rows in (X, kind(X))
    ]
    np.testing.assert_array_equal(made[0].theta_, made[1].theta_)
    np.testing.assert_array_equal(made[0].predict_proba(X), made[0].predict_proba(kind(X)))


def test_sparse_rows_that_do_not_fit_are_made_dense_in_each_round():
    X, y = load_digits(return_X_y=True)
    network, rows = Network([64, 4, 10]), Rows(scipy.sparse.csr_array(X), y)
    theta, found = network.initialize(0), []
    for memory in (None, 400_000):
        source = sparse_source(rows, None)
        problem = Problem("p", network, source, np.dtype(np.float32), memory, True, None)
        engine = LocalEngine(problem, 1)
        with RoundObjective(problem, engine, 0.0) as objective:
            found.append(objective.value_and_gradient(theta)[1])
            np.testing.assert_array_equal(objective.value_and_gradient(theta)[1], found[0])
        assert engine._host._cache._whole == (memory is None)
