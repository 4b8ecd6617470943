"""Values that rounding to float32 would make the same: an origin is subtracted if asked for, else they are refused."""

import json

import dask.array
import numpy as np
import pytest
import zarr

from hfnumba.engine import ArrayObjective
from hfnumba.errors import DataError
from hfnumba.estimator import HessianFreeClassifier, HessianFreeRegressor
from hfnumba.ingest import build, finalise, init, write_frames, write_partition, write_store
from hfnumba.network import Network
from hfnumba.run import RunDirectory, train
from hfnumba.run.model import load_model
from hfnumba.store.info import survey
from hfnumba.store.rounding import Ranges
from hfnumba.store.standardise import subtract
from hfnumba.store.verify import verify
from tests.silent import Silent

N = 200
TIMES = 1_700_000_000 + np.arange(N)
NANOSECONDS = 2**60 + 1 + np.arange(N)
LABELS = np.arange(N) % 2


def table(format_name, more, path):
    text = f'name = "t"\nformat = "{format_name}"\n{more}\n[table]\ntrain = ["a"]\n'
    path.write_text(text if format_name == "libsvm" else text + 'label = "y"\n')
    return path


def from_csv(root, X, y, more):
    lines = [",".join(map(repr, [*row, label])) for row, label in zip(X.tolist(), y.tolist(), strict=True)]
    (root / "a").write_text("\n".join([",".join([*(f"c{j}" for j in range(X.shape[1])), "y"]), *lines]) + "\n")
    return build(table("csv", more, root / "t.toml"), root, root / "s.zarr")


def from_parquet(root, X, y, more):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({f"c{j}": column for j, column in enumerate(X.T)} | {"y": y}), root / "a")
    return build(table("parquet", more, root / "t.toml"), root, root / "s.zarr")


def from_hdf5(root, X, y, more):
    with pytest.importorskip("h5py").File(root / "a", "w") as file:
        file["X"], file["y"] = X, y
    return build(table("hdf5", more, root / "t.toml"), root, root / "s.zarr")


def from_libsvm(root, X, y, more):
    rows = (" ".join(f"{j}:{value!r}" for j, value in enumerate(row, 1)) for row in X.tolist())
    (root / "a").write_text("".join(f"{label} {row}\n" for label, row in zip(y.tolist(), rows, strict=True)))
    return build(table("libsvm", more, root / "t.toml"), root, root / "s.zarr")


def from_pair(root, format_name, more):
    arrays = '[arrays.train]\nfeatures = ["X.npy"]\nlabels = ["y.npy"]\n'
    (root / "t.toml").write_text(f'name = "t"\nformat = "{format_name}"\n{more}\n{arrays}')
    return build(root / "t.toml", root, root / "s.zarr")


def from_npy(root, X, y, more):
    np.save(root / "X.npy", X)
    np.save(root / "y.npy", y)
    return from_pair(root, "npy", more)


def from_zarr(root, X, y, more):
    for name, values in (("X.npy", X), ("y.npy", y)):
        zarr.create_array(root / name, data=values, chunks=(64, *values.shape[1:]))
    return from_pair(root, "zarr", more)


def from_npz(root, X, y, more):
    np.savez(root / "a.npz", X_train=X, y_train=y)
    (root / "t.toml").write_text(f'name = "t"\nformat = "npz"\n{more}\nfiles = [{{ name = "a.npz" }}]\n')
    return build(root / "t.toml", root, root / "s.zarr")


def from_arrays(root, X, y, more):
    options = {"task": "regression"} if "regression" in more else {}
    return write_store(root / "s.zarr", {"train": (X, y)}, standardise="standardise" in more, **options)


def from_dask(root, X, y, more):
    return from_arrays(root, dask.array.from_array(X, chunks=(64, -1)), y, more)


SOURCES = {
    "csv": from_csv,
    "parquet": from_parquet,
    "hdf5": from_hdf5,
    "libsvm": from_libsvm,
    "npy": from_npy,
    "zarr": from_zarr,
    "npz": from_npz,
    "arrays": from_arrays,
    "dask": from_dask,
}
EXACT = ["hdf5", "npy", "zarr", "npz", "arrays", "dask"]
"""Sources whose integers of 64 bits are read as they are."""


def loaded(store):
    parts = [split.load(j) for split in store.splits.values() for j in range(split.n_partitions)]
    X, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(X[:, 0], kind="stable")
    return X[order], y[order]


@pytest.mark.parametrize("dtype", ["float64", "int64"])
@pytest.mark.parametrize("kind", SOURCES)
def test_times_keep_their_differences_if_they_are_standardised(tmp_path, kind, dtype):
    X = np.stack([TIMES, np.arange(N) % 7], axis=1).astype(dtype)
    store = SOURCES[kind](tmp_path, X, LABELS, "standardise = true")
    found, y = loaded(store)
    np.testing.assert_allclose(np.diff(found[:, 0]) / np.diff(found[:, 0]).mean(), 1, rtol=1e-4)
    np.testing.assert_array_equal(y, LABELS)
    standardisation = store.manifest.header.standardisation
    assert standardisation.origin == (1_700_000_099.5 if dtype == "float64" or kind in ("csv", "parquet", "libsvm")
                                      else 1_700_000_100, 0)  # fmt: skip
    mean, deviation = (np.array(values) for values in (standardisation.mean, standardisation.deviation))
    train = np.concatenate([store["train"].load(j)[0] for j in range(store["train"].n_partitions)])
    np.testing.assert_allclose((train.mean(axis=0), train.std(axis=0)), ([0, 0], [1, 1]), atol=1e-6)
    raw = standardisation.apply(X)
    np.testing.assert_array_equal(raw, found)
    np.testing.assert_allclose(raw[:, 0], (TIMES - standardisation.origin[0] - mean[0]) / deviation[0], rtol=1e-6)
    rows = survey(store)["splits"]["train"]
    assert rows["minimum"][0] >= TIMES[0] and rows["maximum"][0] <= TIMES[-1]
    assert verify(store) == []


@pytest.mark.parametrize("kind", SOURCES)
def test_times_are_refused_otherwise(tmp_path, kind):
    X = np.stack([np.arange(N) % 7, TIMES], axis=1)
    column = "column c1" if kind in ("csv", "parquet") else r"feature 1 \(counted from 0\)"
    complaint = f"{column} goes from 1700000000 to 1700000199, where float32 has steps of 128: standardise"
    with pytest.raises(DataError, match=complaint):
        SOURCES[kind](tmp_path, X, LABELS, "")
    assert not (tmp_path / "s.zarr").exists()


def stored_rows(store):
    parts = [split.load_stored(j) for split in store.splits.values() for j in range(split.n_partitions)]
    X, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return X[np.argsort(X[:, 0])], y[np.argsort(X[:, 0])]


@pytest.mark.parametrize("more", ["", "standardise = true"])
@pytest.mark.parametrize("kind", SOURCES)
def test_values_that_float32_has_are_left_as_they_are(tmp_path, kind, more):
    X, y = np.stack([np.arange(N), 70_000 + np.arange(N) % 3], axis=1), 500_000 + np.arange(N) % 2
    found, targets = stored_rows(SOURCES[kind](tmp_path, X, y, f'task = "regression"\n{more}'))
    np.testing.assert_array_equal(found, X)
    np.testing.assert_array_equal(targets[:, 0], y)


def test_standardisation_does_not_take_them_for_constants(tmp_path):
    X = np.stack([np.arange(N), 2.0**31 + 256 * (np.arange(N) % 5)], axis=1)
    np.testing.assert_array_equal(stored_rows(from_npy(tmp_path, X, LABELS, ""))[0], X)
    (tmp_path / "b").mkdir()
    found, _ = loaded(from_npy(tmp_path / "b", X, LABELS, "standardise = true"))
    np.testing.assert_allclose(found[:, 1].std(), 1, rtol=0.1)


def test_a_column_across_a_power_of_two():
    """Blocks below 2**31 have steps of 128, those above of 256."""
    values = 2.0**31 - 16_384 + 130 * np.arange(252)
    for blocks in (np.split(values, 2), np.split(values, 4), [values]):
        ranges = Ranges()
        for block in blocks:
            ranges.update(block[:, None])
        with pytest.raises(DataError, match="where float32 has steps of 256"):
            ranges.origin(str, "subtract an offset")


@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_origins_of_stores_that_are_built_in_steps(tmp_path, kind, read_tree):
    whole = SOURCES[kind](tmp_path, np.stack([TIMES, np.arange(N) % 7], axis=1), LABELS, "standardise = true")
    out, n = init(tmp_path / "t.toml", tmp_path, tmp_path / "b.zarr")
    for j in range(n):
        write_partition(out, j)
    assert read_tree(finalise(out).path) == read_tree(whole.path)


@pytest.mark.parametrize("kind", SOURCES)
def test_targets_are_refused(tmp_path, kind):
    target = "column y" if kind in ("csv", "parquet") else r"target 0 \(counted from 0\)"
    with pytest.raises(DataError, match=f"{target} goes from 1700000000 to .*: subtract an offset from the targets"):
        SOURCES[kind](tmp_path, np.arange(2.0 * N).reshape(N, 2), TIMES, 'standardise = true\ntask = "regression"')


@pytest.mark.parametrize("kind", EXACT)
def test_integers_beyond_float64_keep_their_differences(tmp_path, kind):
    found, _ = loaded(SOURCES[kind](tmp_path, NANOSECONDS[:, None], LABELS, "standardise = true"))
    np.testing.assert_allclose(np.diff(found[:, 0]) / np.diff(found[:, 0]).mean(), 1, rtol=1e-4)


@pytest.mark.parametrize("role", ["feature", "target"])
@pytest.mark.parametrize("kind", sorted(SOURCES.keys() - set(EXACT)))
def test_integers_that_are_read_as_float64_are_refused(tmp_path, kind, role):
    few = np.arange(N)
    X, y, more = (NANOSECONDS, LABELS, "") if role == "feature" else (few, NANOSECONDS, 'task = "regression"')
    with pytest.raises(DataError, match=r"1152921504606846976.*, where float64 has steps of 256: subtract an offset"):
        SOURCES[kind](tmp_path, X[:, None], y, f"standardise = true\n{more}")


@pytest.mark.parametrize("kind", ["csv", "npy", "arrays"])
def test_errors_of_calculation_make_no_column_a_variable_one(tmp_path, kind):
    X = np.stack([np.arange(N), np.where(LABELS, 0.3, 0.1 + 0.2)], axis=1)
    found, _ = loaded(SOURCES[kind](tmp_path, X, LABELS, "standardise = true"))
    assert set(found[:, 1]) == {0}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_that_is_taken_for_a_constant_is_named(tmp_path, kind):
    """Cents beside 10¹⁴, of whose 50 values float64 keeps some, all within 256 of its steps."""
    X = np.stack([np.arange(N), 1.2345678901234567e14 + np.arange(N) % 50 / 100], axis=1)
    path = table(kind, "standardise = true", tmp_path / "t.toml")
    (from_csv if kind == "csv" else from_parquet)(tmp_path, X, LABELS, "standardise = true")
    reporter = Silent()
    store = build(path, tmp_path, tmp_path / "again.zarr", reporter=reporter)
    said = "\n".join(reporter.notes)
    assert "Feature c1: number from 123456789012346 to 123456789012346, which differ in the last digits" in said
    assert said.count("which differ") == 1 and set(loaded(store)[0][:, 1]) == {0}


@pytest.mark.parametrize("role", ["feature", "target"])
def test_arrays_that_are_trained_on_without_a_store(role):
    few = np.arange(N, dtype="f8")[:, None]
    X, y = (TIMES[:, None], few) if role == "feature" else (few, TIMES)
    network = Network((1, 2, 1), "tanh", "squared_error")
    complaint = f"{role} 0 .* goes from 1700000000 to 1700000199, where float32 has steps of 128"
    with pytest.raises(DataError, match=complaint):
        ArrayObjective(network, X, y)
    ArrayObjective(network, X, y, dtype=np.float64).close()
    with pytest.raises(DataError, match=complaint):
        HessianFreeRegressor(standardise=False).fit(X, y.ravel())
    if role == "feature":
        with pytest.raises(DataError, match=complaint):
            HessianFreeClassifier(standardise=False).fit(X, LABELS)


@pytest.mark.parametrize("values", [TIMES, TIMES + 0.5, TIMES * 10**9])
def test_estimators_subtract_before_they_round(values):
    few = np.arange(N) % 20
    shifted = values - values[0]
    y = 2.0 * few
    predicted = [
        HessianFreeRegressor((4,), random_state=0).fit(X[few, None], y).predict(X[few, None]) for X in (values, shifted)
    ]
    np.testing.assert_allclose(predicted[0], predicted[1], atol=0.05)
    assert np.std(predicted[0]) > 1


def test_values_that_float32_makes_zero(tmp_path):
    X = np.arange(2.0 * N).reshape(N, 2) * 1e-48
    for more in ("", "standardise = true"):
        with pytest.raises(DataError, match=r"feature 0 .*, where float32 has steps of 1.*e-45: multiply by a factor"):
            from_npz(tmp_path, X, LABELS, more)


def test_a_test_split_has_the_origin_of_the_training_rows(tmp_path):
    lazy = dask.array.from_array(TIMES[:, None] + 0.5, chunks=(64, 1))
    for n, (X, Z) in enumerate([(TIMES[:, None], lazy), (lazy, TIMES[:, None]), (TIMES[:, None] + 0.5,) * 2]):
        splits = {"train": (X, LABELS), "test": (Z, LABELS)}
        store = write_store(tmp_path / f"{n}.zarr", splits, standardise=True, n_partitions=1)
        mean, deviation = TIMES.mean() + (0.5 if n else 0), TIMES.std()
        expected = {name: (np.asarray(given)[:, 0] - mean) / deviation for name, (given, _) in splits.items()}
        for name, values in expected.items():
            np.testing.assert_allclose(np.sort(store[name].load(0)[0][:, 0]), values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["csv", "parquet", "libsvm"])
def test_a_constant_that_is_no_number_of_64_bits(tmp_path, kind):
    X = np.stack([np.arange(N), np.full(N, 1e20)], axis=1)
    np.testing.assert_array_equal(stored_rows(SOURCES[kind](tmp_path, X, LABELS, ""))[0], X.astype("f4"))


def test_frames_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"feature 0 .* of the training frames goes from 1700000000 to 1700000199"):
        write_frames(tmp_path / "s.zarr", {"train": [(TIMES[:, None].astype("f8"), LABELS)]})


def test_a_run_predicts_from_the_rows_of_the_source(tmp_path):
    X = np.stack([TIMES, np.arange(N) % 7], axis=1).astype("f8")
    store = write_store(tmp_path / "s.zarr", {"train": (X, (np.arange(N) >= 100).astype(int))}, standardise=True)
    train(store.path, RunDirectory(tmp_path / "run"), {"hidden": (3,), "max_iterations": 12, "seed": 1}, Silent())
    model = load_model(tmp_path / "run")
    _, error = model.evaluate(store["train"])
    predicted = model.predict(X).argmax(axis=1)
    assert error == np.mean(predicted != (np.arange(N) >= 100)) < 0.05


def test_a_run_is_evaluated_on_stores_of_other_origins(tmp_path):
    X = np.stack([TIMES, np.arange(N) % 7], axis=1).astype("f8")
    late = (np.arange(N) >= 100).astype(int)
    splits = {"whole": (X, late), "half": (X[60:160], late[60:160]), "wide": (np.r_[X, [[0, 1]]], np.r_[late, 0])}
    stores = {
        name: write_store(tmp_path / f"{name}.zarr", {"train": pair}, standardise=True) for name, pair in splits.items()
    }
    train(stores["whole"].path, RunDirectory(tmp_path / "run"), {"hidden": (3,), "max_iterations": 12}, Silent())
    model = load_model(tmp_path / "run")
    _, error = model.evaluate(stores["half"]["train"])
    assert error == np.mean(model.predict(X[60:160]).argmax(axis=1) != late[60:160]) < 0.1
    with pytest.raises(
        DataError, match=r"feature 0 .* is rounded to float32 as it is, but the run subtracts 1700000099.5"
    ):
        model.evaluate(stores["wide"]["train"])


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_differences_of_integers_of_64_bits(dtype):
    ends = np.iinfo(dtype)
    X = np.array([[ends.min, ends.max, 0, 2**53 + 1]], dtype)
    for origin in (0.0, 2.0**62, 1.5, float(2**53)):
        expected = [float(int(value) - int(origin)) - (origin - int(origin)) for value in X[0].tolist()]
        np.testing.assert_allclose(subtract(X, np.full(4, origin))[0], expected, rtol=2e-16)
    assert subtract(X, np.full(4, float(2**53)))[0, 3] == 1


def test_ranges_of_blocks_of_several_dtypes():
    ranges = Ranges()
    for block in (np.ones((3, 1), np.float32), np.array([[5]]), np.array([[2.5], [7.0]]), np.empty((0, 1))):
        ranges.update(block)
    assert (ranges.lowest, ranges.highest) == (2.5, 7)
    assert ranges.origin(str, None) is None


def test_stores_without_an_origin_do_not_mention_it(tmp_path):
    store = write_store(tmp_path / "s.zarr", {"train": (np.arange(2.0 * N).reshape(N, 2), LABELS)}, standardise=True)
    assert set(json.loads((store.path / "manifest.json").read_text())["header"]["standardisation"]) == {
        "mean",
        "deviation",
    }
