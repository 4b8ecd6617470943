from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.errors import DataError
from hfnumba.ingest.prepare import prepare
from hfnumba.ingest.shuffle import hold_out, shuffle

X = np.arange(12.0).reshape(4, 3)
y = np.array([0, 1, 2, 1])


def changed(array, *places, value):
    array = array.astype(float)
    for place in places:
        array[place] = value
    return array


@pytest.mark.parametrize(
    ("splits", "complaint"),
    [
        (
            {"train": (changed(X, (2, 1), (3, 0), value=np.nan), y)},
            r"train: 2 of 12 features .*nan at row 2, column 1",
        ),
        ({"train": (changed(X, (1, 2), value=-np.inf), y)}, r"1 of 12 features .*-inf at row 1, column 2"),
        ({"train": (changed(X, (0, 0), value=1e39), y)}, r"not finite in float32 .*1e\+39 at row 0"),
        ({"train": (X, y), "test": (changed(X, (0, 2), value=np.nan), y)}, "test: 1 of 12 features"),
        (
            {"train": (X, y), "test": (X, [0, -1, -2, 1])},
            r"test: 2 of 4 labels are out of range .*-1 at row 1",
        ),
        ({"train": (X, y[:3])}, "X has 4 rows and y has 3"),
        ({"train": (X[:0], y[:0])}, "no rows"),
        ({"train": (X[:, :0], y)}, "no features"),
        ({"train": (X, y), "test": (X[:, :2], y)}, "test has 2 features a row, train has 3"),
        ({"train": (X, y), "exam": (X, y)}, "expected a split train"),
        ({"test": (X, y)}, "expected a split train"),
        ({"train": (X[:, 0], y)}, r"shapes \(4,\)"),
        ({"train": (X, np.eye(4, dtype=int))}, "not one-hot"),
        ({"train": (X.astype(str), y)}, "features have dtype <U"),
        ({"train": (X, y.astype(complex))}, "targets have dtype complex"),
        ({"train": (X.astype(object), y)}, "dtype object"),
        ({"train": (X, y * 0)}, "at least 2 classes"),
        ({"train": (X, np.ones((4, 2, 2)))}, r"expected \(rows,\) or \(rows, n_outputs\)"),
        ({"train": (X, [0.0, np.nan, np.inf, 1])}, "train: 2 of 4 targets are not finite .*nan at row 1"),
        ({"train": (X, X), "test": (X, X[:, :2])}, "unequal width"),
    ],
)
def test_bad_rows_are_refused_with_count_and_place(splits, complaint):
    with pytest.raises(DataError, match=complaint):
        prepare(splits)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([0, 1.5, 2, 0.5], r"2 of 4 labels are not integers; the first is 1.5 at row 1"),
        ([0, 1, np.nan, 0], r"1 of 4 labels are not integers; the first is nan at row 2"),
        ([0, 3, 1, 4], r"2 of 4 labels are out of range \(expected 0 to 2\); the first is 3 at row 1"),
        ([0, 1, 1e300, 1], r"1 of 4 labels are out of range"),
        ([0, 1, 1, -1], r"the first is -1 at row 3"),
        ([0.0, 1.0, 3.0, 1.0], r"the first is 3.0 at row 2"),
    ],
)
def test_bad_labels(labels, complaint):
    with pytest.raises(DataError, match=complaint):
        prepare({"train": (X, labels)}, task="classification", n_classes=3)


def test_labels_up_to_the_largest_integer():
    with pytest.raises(DataError, match="out of range"):
        prepare({"train": (X, np.array([0, 1, 2**64 - 1, 1], np.uint64))})


def test_float_labels_that_are_whole_are_labels_if_asked():
    prepared = prepare({"train": (X, y.astype(float))}, task="classification")
    assert prepared.n_classes == 3 and prepared.splits["train"][1].dtype == np.uint8
    assert prepare({"train": (X, y.astype(float))}).task == "regression"


def test_splits_share_one_dtype():
    prepared = prepare({"train": (X.astype(np.uint8), y), "test": (X, y)})
    assert {features.dtype.name for features, _ in prepared.splits.values()} == {"float32"}


@given(
    st.integers(0, 2000),
    st.integers(0, 2**63 - 1),
    st.sampled_from(["train", "test", "validation", "hold-out"]),
)
@settings(max_examples=50)
def test_shuffles_are_permutations_that_differ(n, seed, purpose):
    order = shuffle(purpose, n, seed)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    if n > 50:
        assert not np.array_equal(order, shuffle(purpose, n, (seed + 1) % 2**63))
        assert not np.array_equal(order, shuffle("validation" if purpose == "train" else "train", n, seed))


@given(st.integers(1, 500), st.integers(1, 500))
@settings(max_examples=50)
def test_rows_with_equal_numbers_keep_their_order(n, different):
    drawn = np.random.default_rng(n).integers(0, different, n).astype(np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "Philox", lambda key: SimpleNamespace(random_raw=lambda size: drawn[:size]))
        order = shuffle("train", n, 0)
    assert order.tolist() == sorted(range(n), key=lambda i: drawn[i])


@pytest.mark.parametrize(("n", "n_test"), [(1797, 360), (10, 2), (11, 3), (2, 1)])
def test_the_hold_out_is_a_fifth_and_loses_no_row(n, n_test):
    rows = np.arange(n).reshape(n, 1)
    splits = hold_out(rows, rows[:, 0], seed=5)
    assert len(splits["test"][0]) == n_test
    np.testing.assert_array_equal(np.sort(np.concatenate([splits["train"][1], splits["test"][1]])), rows[:, 0])
    np.testing.assert_array_equal(splits["test"][0][:, 0], splits["test"][1])
