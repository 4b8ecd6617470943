"""Masked arrays of NumPy: what is under a mask never becomes data."""

import dask.array
import numpy as np
import pytest

from hfnumba.engine import ArrayObjective, predict
from hfnumba.errors import DataError
from hfnumba.estimator import HessianFreeClassifier, HessianFreeRegressor
from hfnumba.ingest import write_frames, write_store
from hfnumba.network import Network

N = 40
X = np.arange(2.0 * N).reshape(N, 2)
Y = np.arange(N) % 2
W = np.ones(N)


def masked(values, *places):
    found = np.ma.masked_array(values.copy(), np.zeros(values.shape, bool))
    for place in places:
        found.data[place], found[place] = -999, np.ma.masked
    return found


def lazy(values):
    return dask.array.from_array(values, chunks=(16, *values.shape[1:]))


def store(tmp_path, X, y, *weights):
    return write_store(tmp_path / "s.zarr", {"train": (X, y, *weights)})


NETWORK = Network((2, 3, 2), "tanh", "softmax_cross_entropy")
USES = {
    "store": store,
    "a later split": lambda path, X, y, *w: write_store(path / "s", {"train": (X.data * 0 + 1, Y), "test": (X, y, *w)}),
    "lists": lambda path, X, y, *w: store(path, list(X), list(y.reshape(N, 1)), *w),
    "dask": lambda path, X, y, *w: store(path, lazy(X), lazy(y), *map(lazy, w)),
    "frames": lambda path, X, y, *w: write_frames(path / "s.zarr", {"train": [(X, y, *w)]}),
    "objective": lambda path, X, y, *w: ArrayObjective(NETWORK, X, y, weights=w[0] if w else None),
    "fit": lambda path, X, y, *w: HessianFreeClassifier().fit(X, y, *w),
    "fit a regressor": lambda path, X, y, *w: HessianFreeRegressor().fit(X, y, *w),
}


@pytest.mark.parametrize("where", ["X", "y", "weights"])
@pytest.mark.parametrize("use", USES)
def test_masked_values_are_refused_with_count_and_place(tmp_path, use, where):
    arrays = [masked(X), masked(Y), masked(W)]
    i = ["X", "y", "weights"].index(where)
    arrays[i] = masked((X, Y, W)[i], *(((2, 1), (3, 0)) if where == "X" else (5, 7)))
    place = "row 2, column 1" if where == "X" else "row 5"
    number = "2 of (80|40|32|8)"
    with pytest.raises(DataError, match=rf"{number} values are masked .*; the first is -999(\.0)? at {place}"):
        USES[use](tmp_path, *arrays[: max(2, i + 1)])
    assert not list(tmp_path.iterdir())


def test_rows_to_predict_are_refused():
    theta = np.zeros(NETWORK.n_params, np.float32)
    with pytest.raises(DataError, match="rows: 1 of 80 values are masked"):
        predict(NETWORK, theta, masked(X, (0, 0)))
    model = HessianFreeClassifier(max_iter=1).fit(X, Y)
    with pytest.raises(DataError, match="X: 1 of 80 values are masked"):
        model.predict(masked(X, (0, 0)))


@pytest.mark.parametrize("kind", [HessianFreeClassifier, HessianFreeRegressor])
def test_scores_of_masked_rows_are_refused(kind):
    """scikit-learn takes what is under the mask of targets and weights."""
    model = kind(max_iter=1).fit(X, Y)
    for name, arrays in (
        ("X", (masked(X, (0, 0)), Y)),
        ("y", (X, masked(Y, 5))),
        ("sample_weight", (X, Y, masked(W, 5))),
    ):
        with pytest.raises(DataError, match=f"^{name}: 1 of (80|40) values are masked"):
            model.score(*arrays)
    assert model.score(masked(X), masked(Y), masked(W)) == model.score(X, Y)


def test_a_mask_that_hides_nothing(tmp_path):
    found = store(tmp_path, masked(X), masked(Y), masked(W))
    rows = np.concatenate([found["train"].load(j)[0] for j in range(found["train"].n_partitions)])
    np.testing.assert_array_equal(np.sort(rows[:, 0]), X[:, 0])
