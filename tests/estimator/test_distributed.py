"""Fits on Dask arrays, stores and clusters, and lazy predictions."""

import dask.array as da
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits

from hfnumba.errors import DataError, UsageError
from hfnumba.estimator import HessianFreeClassifier, HessianFreeRegressor
from hfnumba.ingest import write_store

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
LAZY = da.from_array(X, chunks=(500, 20)), da.from_array(Y, chunks=400)
SETTINGS = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 4}


def test_an_array_of_dask_is_standardised_and_learned_like_one_in_memory():
    lazy = HessianFreeClassifier(**SETTINGS).fit(*LAZY)
    plain = HessianFreeClassifier(**SETTINGS).fit(X, Y)
    np.testing.assert_allclose(lazy._features.mean, plain._features.mean, rtol=1e-12)
    np.testing.assert_allclose(lazy._features.deviation, plain._features.deviation, rtol=1e-12)
    assert lazy.loss_curve_[0] == pytest.approx(plain.loss_curve_[0], rel=1e-5)
    assert lazy.loss_ == pytest.approx(plain.loss_, rel=0.3)
    assert lazy.score(X, Y) > 0.8


def test_predictions_for_an_array_of_dask_are_lazy_and_the_same():
    model = HessianFreeClassifier(**SETTINGS).fit(X, Y)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        lazy = getattr(model, method)(LAZY[0])
        assert isinstance(lazy, da.Array)
        found, expected = lazy.compute(), getattr(model, method)(X)
        assert lazy.shape == expected.shape and lazy.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(DataError, match="of 64 features"):
        model.predict(LAZY[0][:, :3])


@pytest.mark.parametrize("n_targets", [1, 2])
def test_regression_on_an_array_of_dask_stops_early(n_targets):
    features, y = load_diabetes(return_X_y=True)
    targets = y if n_targets == 1 else np.stack([y, -y], axis=1)
    model = HessianFreeRegressor((6,), random_state=0, max_iter=6)
    model.fit(da.from_array(features, chunks=100), da.from_array(targets, chunks=100), np.ones(len(y)))
    assert len(model.validation_scores_) == model.n_iter_ + 1
    lazy = model.predict(da.from_array(features, chunks=100))
    np.testing.assert_array_equal(lazy.compute(), model.predict(features))
    assert lazy.shape == targets.shape and model.score(features, targets) > 0.3


def test_a_store_brings_its_classes_and_its_scale(tmp_path):
    write_store(tmp_path / "s.zarr", {"train": (X.astype(np.uint8), Y)}, scale=1 / 16, offset=-0.5)
    for source in (tmp_path / "s.zarr", str(tmp_path / "s.zarr")):
        model = HessianFreeClassifier(**SETTINGS).fit(source)
        assert model.score(X, Y) > 0.8 and model.n_features_in_ == 64
    with pytest.raises(UsageError, match="a store alone"):
        model.fit(tmp_path / "s.zarr", Y)
    with pytest.raises(UsageError, match="split validation"):
        HessianFreeClassifier(early_stopping=True).fit(tmp_path / "s.zarr")
    with pytest.raises(UsageError, match="use HessianFreeClassifier"):
        HessianFreeRegressor().fit(tmp_path / "s.zarr")


def test_a_standardised_store_and_its_validation_split(tmp_path):
    features, y = load_diabetes(return_X_y=True)
    splits = {"train": (features[:300], y[:300] / 100), "validation": (features[300:], y[300:] / 100)}
    write_store(tmp_path / "s.zarr", splits, standardise=True)
    model = HessianFreeRegressor((6,), random_state=0, max_iter=8).fit(tmp_path / "s.zarr")
    assert model.best_validation_score_ == pytest.approx(model.score(features[300:], y[300:] / 100), rel=1e-3)


def test_class_weights_of_a_store(tmp_path):
    write_store(tmp_path / "s.zarr", {"train": (X.astype(np.uint8), np.minimum(Y, 1))})
    fits = [
        HessianFreeClassifier(**SETTINGS, class_weight=given).fit(tmp_path / "s.zarr").loss_curve_[0]
        for given in ({0: len(Y) / 2 / (Y == 0).sum(), 1: len(Y) / 2 / (Y > 0).sum()}, "balanced", None)
    ]
    assert fits[0] == pytest.approx(fits[1], rel=1e-6) and fits[1] != pytest.approx(fits[2], rel=1e-3)


@pytest.mark.slow
def test_a_client_gives_the_same_bits_as_this_process(client, tmp_path):
    here = HessianFreeClassifier(**SETTINGS).fit(*LAZY)
    there = HessianFreeClassifier(**SETTINGS, client=client).fit(*LAZY)
    from_memory = HessianFreeClassifier(**SETTINGS, client=client).fit(X, Y)
    np.testing.assert_array_equal(here.theta_, there.theta_)
    np.testing.assert_array_equal(here.theta_, from_memory.theta_)
    write_store(tmp_path / "s.zarr", {"train": (X.astype(np.uint8), Y)})
    of_store = HessianFreeClassifier(**SETTINGS, client=client).fit(tmp_path / "s.zarr")
    np.testing.assert_array_equal(of_store.theta_, HessianFreeClassifier(**SETTINGS).fit(tmp_path / "s.zarr").theta_)
    with client.as_current():
        np.testing.assert_array_equal(there.predict(LAZY[0]).compute(), there.predict(X))
