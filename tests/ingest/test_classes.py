"""What labels are taken for: classes or targets, the same in every format of arrays, and what build says of it."""

import numpy as np
import pytest

from hfnumba.errors import DataError
from hfnumba.ingest import build, write_frames, write_store
from hfnumba.ingest.remarks import remark_on_task
from tests.silent import Silent

N = 40
X = np.random.default_rng(0).normal(size=(N, 3))
FORMATS = ("npz", "npy", "zarr", "hdf5")


def write(root, kind, y, *, more="", features=X):
    """The recipe of a source with the labels ``y``."""
    root.mkdir(exist_ok=True)
    if kind == "npz":
        np.savez(root / "t.npz", X=features, y=y)
        table = '[[files]]\nname = "t.npz"\n'
    elif kind == "hdf5":
        with pytest.importorskip("h5py").File(root / "t.h5", "w") as file:
            file["X"], file["y"] = features, y
        table = '[table]\ntrain = ["t.h5"]\n'
    else:
        for name, values in (("X", features), ("y", y)):
            if kind == "npy":
                np.save(root / f"{name}.npy", values)
            else:
                import zarr

                array = zarr.create_array(root / f"{name}.npy", shape=values.shape, dtype=values.dtype)
                array[:] = values
        table = '[arrays.train]\nfeatures = ["X.npy"]\nlabels = ["y.npy"]\n'
    path = root / "t.toml"
    path.write_text(f'name = "t"\nformat = "{kind}"\n{more}\n{table}')
    return path


def targets(store):
    """Targets of all rows, in the order of the first feature."""
    parts = [split.load(j) for split in store.splits.values() for j in range(split.n_partitions)]
    found, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return y[np.argsort(found[:, 0])]


SIGNS = np.where(np.arange(N) % 3 == 0, -1, 1)
LABELS = {
    "integers": (np.arange(N) % 3, (), np.arange(N) % 3),
    "whole floats": ((np.arange(N) % 3).astype("f8"), (), np.arange(N) % 3),
    "a column": ((np.arange(N) % 3).astype("f4")[:, None], (), np.arange(N) % 3),
    "signs": (SIGNS.astype("i1"), ("-1", "1"), (SIGNS + 1) // 2),
    "signs, floats": (SIGNS.astype("f8"), ("-1", "1"), (SIGNS + 1) // 2),
    "booleans": (np.arange(N) % 3 == 0, (), np.arange(N) % 3 == 0),
    "large numbers": (10**6 + np.arange(N) % 2, ("1000000", "1000001"), np.arange(N) % 2),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", LABELS)
def test_labels_are_the_same_classes_in_every_format_of_arrays(tmp_path, kind, name):
    y, names, expected = LABELS[name]
    reporter = Silent()
    store = build(write(tmp_path / "in", kind, y), tmp_path / "in", tmp_path / "s.zarr", reporter=reporter)
    assert store.manifest.header.task == "classification" and store.manifest.header.classes == names
    np.testing.assert_array_equal(targets(store), expected[np.argsort(X[:, 0].astype("f4"))])
    (note,) = [note for note in reporter.notes if note.startswith("The task")]
    assert f"classification with {len(set(expected))} classes" in note and "to change it, set task in a recipe" in note
    assert all(repr(word) in note for word in names)


TARGETS = {
    "fractions": np.arange(N) / 8,
    "two in a row": np.stack([np.arange(N), -np.arange(N)], axis=1).astype("f8"),
    "beyond whole numbers of floats": np.where(np.arange(N) % 2, 1e30, 2.0),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_for_regression_in_every_format_of_arrays(tmp_path, kind, name):
    y, reporter = TARGETS[name], Silent()
    store = build(write(tmp_path / "in", kind, y), tmp_path / "in", tmp_path / "s.zarr", reporter=reporter)
    assert store.manifest.header.task == "regression"
    np.testing.assert_array_equal(targets(store), y.reshape(N, -1)[np.argsort(X[:, 0])].astype("f4"))
    (note,) = [note for note in reporter.notes if note.startswith("The task")]
    outputs = "1 output;" if y.ndim == 1 else "2 outputs;"
    assert f"The task is regression with {outputs} to change it, set task in a recipe" in note


@pytest.mark.parametrize("kind", FORMATS)
def test_the_task_of_the_recipe_decides(tmp_path, kind):
    y = (np.arange(N) % 3).astype("f8")
    path, reporter = write(tmp_path / "in", kind, y, more='task = "regression"'), Silent()
    store = build(path, tmp_path / "in", tmp_path / "s.zarr", reporter=reporter)
    assert store.manifest.header.task == "regression"
    assert "The task is regression with 1 output" in reporter.notes
    path = write(tmp_path / "other", kind, y / 2, more='task = "classification"')
    with pytest.raises(DataError, match=r"labels are not integers|expected whole numbers"):
        build(path, tmp_path / "other", tmp_path / "t.zarr")


@pytest.mark.parametrize("kind", FORMATS)
def test_one_hot_labels_are_refused_in_every_format_of_arrays(tmp_path, kind):
    path = write(tmp_path / "in", kind, np.eye(4)[np.arange(N) % 4])
    with pytest.raises(DataError, match=r"labels have shape \(\d+, 4\), expected .* \(not one-hot"):
        build(path, tmp_path / "in", tmp_path / "s.zarr")


def test_many_different_whole_floats_are_targets(tmp_path):
    prices = np.arange(5000) * 100.0
    np.savez(tmp_path / "t.npz", X=np.ones((5000, 1)), y=prices)
    assert build(tmp_path / "t.npz", out=tmp_path / "s.zarr").manifest.header.task == "regression"


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_floats_with_few_rows_each_are_targets(tmp_path, kind):
    """As those of scikit-learn's diabetes; integers, and floats with many rows each, are classes."""
    y = np.arange(N) % 25
    for values, task in ((y.astype("f8"), "regression"), (y, "classification")):
        root = tmp_path / task
        store = build(write(root, kind, values), root, tmp_path / f"{task}.zarr")
        assert store.manifest.header.task == task
    np.savez(tmp_path / "t.npz", X=np.ones((300, 1)), y=np.arange(300.0) // 10)
    assert build(tmp_path / "t.npz", out=tmp_path / "s.zarr").manifest.header.task == "classification"


def test_classes_that_never_train_are_named(tmp_path):
    """The labels of UCI Adult's test file end with a point."""
    (tmp_path / "adult.data").write_text("x,k\n" + "1,<=50K\n2,>50K\n" * 20)
    (tmp_path / "adult.test").write_text("x,k\n1,<=50K.\n2,>50K.\n3,>50K\n")
    path = tmp_path / "t.toml"
    path.write_text('name = "t"\nformat = "csv"\n[table]\ntrain = ["adult.data"]\ntest = ["adult.test"]\nlabel = "k"\n')
    reporter = Silent()
    build(path, tmp_path, tmp_path / "s.zarr", reporter=reporter)
    (warning,) = [note for note in reporter.notes if note.startswith("Warning")]
    assert warning == (
        "Warning: 2 of 3 rows of test have a class that no row of train has, so it cannot be learnt: '<=50K.', "
        "'>50K.'; is it spelled in another way in train?"
    )


def test_classes_that_never_train_because_of_few_rows(tmp_path):
    y = np.array([0] * 30 + [1] * 5 + [2] * 5)
    np.savez(tmp_path / "t.npz", X_train=X, y_train=y, X_test=X, y_test=y)
    reporter = Silent()
    build(tmp_path / "t.npz", out=tmp_path / "s.zarr", rows=1, reporter=reporter)
    (warning,) = [note for note in reporter.notes if note.startswith("Warning")]
    assert "rows of test have a class that no row of train has" in warning


@pytest.mark.parametrize(("first", "none"), [(1, "class 0 has"), (2, "the classes 0 to 1 have")])
def test_labels_that_do_not_begin_with_0_stay_and_that_is_said(tmp_path, first, none):
    y = first + np.arange(len(X)) % 3
    np.savez(tmp_path / "t.npz", X_train=X, y_train=y, X_test=X, y_test=y)
    reporter = Silent()
    store = build(tmp_path / "t.npz", out=tmp_path / "s.zarr", reporter=reporter)
    assert store["train"].n_classes == first + 3
    assert sorted({int(label) for label in store["train"].load(0)[1]} | set(y)) == sorted(set(y))
    (warning,) = [note for note in reporter.notes if note.startswith("Warning")]
    assert warning.startswith(f"Warning: {none} no rows, since the labels of the source begin with {first}.")


def test_frames_of_classes_that_never_train(tmp_path):
    frames = np.random.default_rng(0).normal(size=(9, 2)).astype("f4")
    splits = {"train": [(frames, np.zeros(9, int))], "test": [(frames, np.array([0] * 7 + [2] * 2))]}
    header = write_frames(tmp_path / "s.zarr", splits).manifest.header
    reporter = Silent()
    counts = {"train": {0: 9}, "test": {0: 7, 2: 2}}
    remark_on_task(header, True, counts, reporter)
    assert reporter.notes[0] == (
        "The task is classification with 3 classes, the class numbers 0 to 2, of which no row of train has 1, 2"
    )
    assert reporter.notes[1].startswith("Warning: 2 of 9 rows of test have a class that no row of train has") and (
        "learnt: 2" in reporter.notes[1]
    )


@pytest.mark.parametrize("kind", [*FORMATS, "csv", "libsvm", "arrays", "frames"])
@pytest.mark.parametrize("place", ["features", "targets"])
def test_numbers_beyond_float32_are_refused_in_every_source(tmp_path, kind, place):
    values, y = X.copy(), np.arange(N) / 4
    (values[:, 1] if place == "features" else y)[7] = 1e300
    root = tmp_path / "in"
    root.mkdir()
    if kind == "frames":
        if place == "targets":
            pytest.skip("frames have labels only")
        with pytest.raises(DataError, match=r"1 of 120 features are not finite in float32.*at row 7, column 1"):
            write_frames(tmp_path / "s.zarr", {"train": [(values, np.arange(N) % 2)]})
        return
    if kind == "arrays":
        with pytest.raises(DataError, match=f"1 of .* {place} are not finite in float32.*1e.300 at row 7"):
            write_store(tmp_path / "s.zarr", {"train": (values, y)})
        return
    if kind in ("csv", "libsvm"):
        lines = {
            "csv": ["a,b,c,k", *(",".join(map(str, (*row, k))) for row, k in zip(values, y, strict=True))],
            "libsvm": [
                f"{k} " + " ".join(f"{j + 1}:{value}" for j, value in enumerate(row))
                for row, k in zip(values, y, strict=True)
            ],
        }[kind]
        (root / "a").write_text("\n".join(lines) + "\n")
        path = root / "t.toml"
        label = 'label = "k"' if kind == "csv" else ""
        path.write_text(f'name = "t"\nformat = "{kind}"\ntask = "regression"\n[table]\ntrain = ["a"]\n{label}\n')
    else:
        path = write(root, kind, y, more='task = "regression"', features=values)
    with pytest.raises(DataError, match=rf"1 of \d+ {place} are not finite in float32.* at row \d+"):
        build(path, root, tmp_path / "s.zarr")


@pytest.mark.parametrize("kind", FORMATS)
def test_columns_of_zeros_and_ones_are_told_what_they_are(tmp_path, kind):
    """Several labels a row are no classes, and neither are columns of whole numbers."""
    for y, words in (
        (np.stack([np.arange(N) % 2, np.arange(N) % 3 == 0, np.arange(N) > 9], axis=1).astype("u1"), "a label of its"),
        (np.stack([np.arange(N), np.arange(N)], axis=1), 'if they are targets, set task = "regression"'),
    ):
        with pytest.raises(DataError, match=rf"labels have shape \(\d+, {y.shape[1]}\), expected .*{words}"):
            root = tmp_path / f"{y.shape[1]}"
            build(write(root, kind, y), root, tmp_path / "s.zarr")
    root = tmp_path / "in"
    path = write(root, kind, np.stack([np.arange(N) % 2, np.arange(N) > 9], axis=1), more='task = "regression"')
    assert build(path, root, tmp_path / "s.zarr").manifest.header.task == "regression"


def test_booleans_beside_numbers_are_the_same_classes(tmp_path):
    """Not four classes: one archive has booleans to train on, and numbers to test."""
    y = np.arange(N) % 2
    for kind, arrays in (("npz", {"y_train": y == 1, "y_test": y}), ("npy", {})):
        root = tmp_path / kind
        path = write(root, kind, y == 1)
        if arrays:
            np.savez(root / "t.npz", X_train=X, X_test=X, **arrays)
        else:
            np.save(root / "z.npy", y)
            more = '[arrays.test]\nfeatures = ["X.npy"]\nlabels = ["z.npy"]\n'
            path.write_text(path.read_text() + more)
        store = build(path, root, tmp_path / f"{kind}.zarr")
        assert store.manifest.header.n_classes == 2 and store.manifest.header.classes == ()
        for split in store.splits.values():
            parts = map(split.load, range(split.n_partitions))
            found, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            np.testing.assert_array_equal(labels[np.argsort(found[:, 0])], y[np.argsort(X[:, 0].astype("f4"))])


def test_booleans_of_python_and_of_tables_are_the_same_classes(tmp_path):
    pandas = pytest.importorskip("pandas")
    y = np.arange(N) % 3 == 0
    root = tmp_path / "in"
    root.mkdir()
    frame = pandas.DataFrame({"a": X[:, 0], "k": y})
    frame.to_csv(root / "t.csv", index=False)
    frame.to_parquet(root / "t.parquet", index=False)
    stores = [write_store(tmp_path / "s.zarr", {"train": (X[:, :1], y)})]
    for kind in ("csv", "parquet"):
        path = root / f"{kind}.toml"
        path.write_text(f'name = "t"\nformat = "{kind}"\n[table]\ntrain = ["t.{kind}"]\nlabel = "k"\n')
        stores.append(build(path, root, tmp_path / f"{kind}.zarr"))
        assert stores[-1].manifest.header.classes == ("false", "true")
    for store in stores:
        np.testing.assert_array_equal(targets(store), y[np.argsort(X[:, 0].astype("f4"))])
