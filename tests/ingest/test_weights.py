"""Weights of rows in sources and stores: reading, invalid values, information, and earlier versions."""

import json

import msgspec
import numpy as np
import pytest

from hfnumba.errors import DataError, StoreError
from hfnumba.ingest import build, write_frames, write_store
from hfnumba.store import manifest as manifests
from hfnumba.store import open_store
from hfnumba.store.info import info, survey
from hfnumba.store.layout import SplitLayout
from hfnumba.store.verify import verify

N = 40
WEIGHTS = np.arange(N) * 0.25


def rows_of(split):
    """First feature and weight of every row, in the order of the first feature."""
    parts = [(split.load(j)[0][:, 0], split.load_labels(j)[1]) for j in range(split.n_partitions)]
    X, weights = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(X)
    return X[order], weights[order]


def assert_weighted(store):
    """Row i has the weight i / 4 in every split."""
    assert verify(store) == []
    found = [rows_of(split) for split in store.splits.values()]
    assert all(weights.dtype == np.float32 for _, weights in found)
    np.testing.assert_array_equal(sorted(x for X, _ in found for x in X), np.arange(N))
    for X, weights in found:
        np.testing.assert_array_equal(weights, X * 0.25)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def recipe(root, *lines):
    path = root / "t.toml"
    path.write_text('name = "t"\n' + "\n".join(lines) + "\n")
    return path


CSV = "id,w,class\n" + "".join(f"{i},{i * 0.25},{'ab'[i % 2]}\n" for i in range(N))
TABLE = ("[table]", 'label = "class"', 'weight = "w"')


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_csv_and_parquet(root, tmp_path, task):
    from pyarrow import csv, parquet

    text = CSV if task == "classification" else CSV.replace(",a\n", ",1\n").replace(",b\n", ",2\n")
    (root / "a.csv").write_text(text)
    parquet.write_table(csv.read_csv(root / "a.csv"), root / "a.parquet")
    for kind in ("csv", "parquet"):
        path = recipe(root, f'format = "{kind}"', f'task = "{task}"', *TABLE, f'train = ["a.{kind}"]')
        store = build(path, root, tmp_path / f"{kind}.zarr", n_partitions=3)
        assert store["train"].n_features == 1
        assert_weighted(store)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (CSV.replace("5,1.25", "5,-1.25"), r"train: 1 of 40 weights are negative, NaN or infinite.*-1.25 at row 5"),
        (CSV.replace("5,1.25", "5,"), r"a weight is missing in column w, row 5 \(counted from 0\) of .*a.csv"),
        (CSV.replace("5,1.25", "5,heavy"), "cannot be read as CSV"),
        (CSV.replace("w,class", "v,class"), "has no column w"),
    ],
)
def test_bad_columns(root, tmp_path, text, complaint):
    (root / "a.csv").write_text(text)
    with pytest.raises(DataError, match=complaint):
        build(recipe(root, 'format = "csv"', *TABLE, 'train = ["a.csv"]'), root, tmp_path / "s.zarr")


def test_a_weight_is_no_feature_and_no_label(root, tmp_path):
    (root / "a.csv").write_text(CSV)
    for more in ('numeric = ["id", "w"]', 'categorical = ["w"]'):
        with pytest.raises(DataError, match=r"twice among numeric, categorical, label and weight"):
            build(recipe(root, 'format = "csv"', *TABLE, 'train = ["a.csv"]', more), root, tmp_path / "s.zarr")
    with pytest.raises(DataError, match="not for libsvm"):
        build(recipe(root, 'format = "libsvm"', *TABLE, 'train = ["a.svm"]'), root, tmp_path / "s.zarr")


def arrays():
    return {"X": np.arange(N, dtype=np.float32)[:, None], "y": np.arange(N) % 2, "weights": WEIGHTS}


def test_hdf5(root, tmp_path):
    import h5py

    with h5py.File(root / "a.h5", "w") as file:
        for name, array in arrays().items():
            file[name] = array
        file["short"] = WEIGHTS[1:]
    head = ('format = "hdf5"', "[table]", 'train = ["a.h5"]')
    assert_weighted(build(recipe(root, *head, 'weight = "weights"'), root, tmp_path / "s.zarr", n_partitions=3))
    plain = build(recipe(root, *head), root, tmp_path / "plain.zarr")
    assert not plain["train"].weighted
    with pytest.raises(DataError, match=r"short has shape \(39,\), expected one weight for each of the 40 rows"):
        build(recipe(root, *head, 'weight = "short"'), root, tmp_path / "t.zarr")


@pytest.mark.parametrize("split", [True, False])
def test_npz(tmp_path, split):
    held = arrays()
    if split:
        test = np.arange(N) % 5 == 0
        held = {f"{k}_train": v[~test] for k, v in held.items()} | {f"{k}_test": v[test] for k, v in held.items()}
    np.savez(tmp_path / "a.npz", **held)
    assert_weighted(build(tmp_path / "a.npz", out=tmp_path / "s.zarr", n_partitions=3))
    held["weights_train" if split else "weights"] = np.float64(3)
    np.savez(tmp_path / "b.npz", **held)
    with pytest.raises(DataError, match=r"for each .*row.* got .*shape \(\)"):
        build(tmp_path / "b.npz", out=tmp_path / "t.zarr")


def test_npy_and_zarr(root, tmp_path):
    import zarr

    for name, array in arrays().items():
        np.save(root / f"{name}.npy", array)
        zarr.save_array(root / f"{name}.zarr", array)
    for kind in ("npy", "zarr"):
        keys = (("features", "X"), ("labels", "y"), ("weights", "weights"))
        named = [f'{key} = ["{name}.{kind}"]' for key, name in keys]
        store = build(recipe(root, f'format = "{kind}"', "[arrays.train]", *named), root, tmp_path / f"{kind}.s")
        assert_weighted(store)
        assert f"weights.{kind}" in {source.name for source in store.manifest.header.sources}
    with pytest.raises(DataError, match="as many weights as features, got 2 and 1"):
        named[2] = 'weights = ["weights.zarr", "weights.zarr"]'
        build(recipe(root, 'format = "zarr"', "[arrays.train]", *named), root, tmp_path / "t.s")
    with pytest.raises(DataError, match=r"short.zarr has shape \(39,\), expected one weight for each of the 40 rows"):
        zarr.save_array(root / "short.zarr", WEIGHTS[1:])
        named[2] = 'weights = ["short.zarr"]'
        build(recipe(root, 'format = "zarr"', "[arrays.train]", *named), root, tmp_path / "t.s")


def test_arrays_with_weights_in_one_split(tmp_path):
    X, y, weights = arrays().values()
    store = write_store(tmp_path / "s.zarr", {"train": (X, y, weights), "test": (X, y)}, n_partitions=3)
    assert [split.weighted for split in store.splits.values()] == [True, False]
    np.testing.assert_array_equal(rows_of(store["train"])[1], WEIGHTS)
    assert store["test"].load_labels(0)[1] is None
    assert [source.name for source in store.manifest.header.sources][-1] == "train.weights"
    for j in range(3):
        compact = store["train"].load_compact(j)
        assert sum(array.nbytes for array in compact.values()) == store["train"].compact_nbytes(j)


def test_frames(tmp_path):
    rng = np.random.default_rng(0)
    utterances = [(rng.standard_normal((n, 3)), rng.integers(0, 2, n), rng.uniform(0, 2, n)) for n in (5, 9, 4, 7)]
    utterances = [(np.c_[X[:, :2], w], y, w) for X, y, w in utterances]
    store = write_frames(tmp_path / "f.zarr", {"train": utterances}, context=1, standardise=False, n_partitions=2)
    assert verify(store) == []
    for j in range(2):
        # The third feature of the middle frame is the weight.
        X, (_, weights) = store["train"].load(j)[0], store["train"].load_labels(j)
        np.testing.assert_array_equal(X[:, 5], weights)
    utterances[1] = utterances[1][:2]
    with pytest.raises(DataError, match="3 of 4 utterances have weights"):
        write_frames(tmp_path / "g.zarr", {"train": utterances})
    utterances[1] = (*utterances[1], np.ones(8))
    with pytest.raises(DataError, match=r"utterance 1: expected 9 weights, got shape \(8,\)"):
        write_frames(tmp_path / "g.zarr", {"train": utterances})


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        (
            np.r_[np.nan, np.ones(N - 1)],
            "train: 1 of 40 weights are negative, NaN or infinite.* nan at row 0",
        ),
        (np.zeros(N), "train: all 40 weights are 0"),
        (np.ones(N - 1), "train: expected 40 weights, one for each row"),
    ],
)
def test_bad_weights(tmp_path, weights, complaint):
    X, y, _ = arrays().values()
    with pytest.raises(DataError, match=complaint):
        write_store(tmp_path / "s.zarr", {"train": (X, y, weights)})
    with pytest.raises(DataError, match="got 4 arrays"):
        write_store(tmp_path / "s.zarr", {"train": (X, y, weights, y)})


@pytest.mark.parametrize(
    ("arrays_of", "stray", "usable"),
    [
        (("X_train", "y_train"), "weights", "weights_train"),
        (("X_train", "y_train"), "weights_test", "weights_train"),
        (("X", "y"), "weights_train", "weights"),
    ],
)
def test_weights_that_no_rows_go_with_are_not_left_out_in_silence(tmp_path, arrays_of, stray, usable):
    X, y, weights = arrays().values()
    np.savez(tmp_path / "a.npz", **dict(zip(arrays_of, (X, y), strict=True)), **{stray: weights})
    with pytest.raises(DataError, match=f"has {stray} without such rows; expected {usable} for its features"):
        build(tmp_path / "a.npz", out=tmp_path / "s.zarr")


def test_rows_that_are_taken_need_a_weight(tmp_path):
    held = {f"{k}_train": v for k, v in arrays().items()}
    held["weights_train"] = np.zeros(N)
    np.savez(tmp_path / "a.npz", **held)
    first = int(rows_of(_plain(tmp_path, held, rows=1)["train"])[0][0])
    held["weights_train"][(first + 1) % N] = 1
    np.savez(tmp_path / "a.npz", **held)
    with pytest.raises(DataError, match="all weights of the 1 rows that are taken are 0"):
        build(tmp_path / "a.npz", out=tmp_path / "t.zarr", rows=1)


def _plain(tmp_path, held, rows):
    """Store of the first rows, all with weight 1."""
    np.savez(tmp_path / "b.npz", **{**held, "weights_train": np.ones(N)})
    return build(tmp_path / "b.npz", out=tmp_path / "p.zarr", rows=rows)


def test_info_tells(tmp_path):
    X, y, weights = arrays().values()
    store = write_store(tmp_path / "s.zarr", {"train": (X, y, weights), "test": (X, y)}, n_partitions=3)
    assert [split["weighted"] for split in info(store)["splits"].values()] == [True, False]
    measured = json.loads(json.dumps(survey(store)))["splits"]
    assert measured["train"]["weights"] == {"minimum": 0, "maximum": 9.75, "sum": 195, "zeros": 1}
    assert "weights" not in measured["test"]


def test_weights_leave_no_trace_in_stores_without_them(tmp_path):
    X, y, weights = arrays().values()
    plain = write_store(tmp_path / "plain.zarr", {"train": (X, y)})
    weighted = write_store(tmp_path / "weighted.zarr", {"train": (X, y, weights)})
    assert "weight" not in (plain.path / manifests.NAME).read_text()
    assert not (plain.path / "train" / "weights").exists()
    # Earlier versions refuse layouts with unknown fields, so they do not ignore weights.
    layout = json.loads((weighted.path / manifests.NAME).read_text())["header"]["splits"]["train"]
    assert layout["weighted"] is True
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert(layout | {"heavier": True}, SplitLayout)


def test_damaged_weights_are_named(tmp_path):
    X, y, weights = arrays().values()
    store = write_store(tmp_path / "s.zarr", {"train": (X, y, weights)}, n_partitions=2)
    chunk = store.path / "train" / "weights" / "c" / "1"
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(StoreError, match="train/weights/c/1"):
        store["train"].load(1)
    assert [problem.split()[0] for problem in verify(store)] == ["train/weights/c/1"]
    chunk.unlink()
    with pytest.raises(StoreError, match="train/weights/c/1"):
        open_store(store.path)


def test_weights_beyond_the_limits_keep_their_ratios(tmp_path):
    weights = np.arange(40.0)
    for i, unit in enumerate((2.0**-80, 2.0**90)):
        store = write_store(tmp_path / f"{i}.zarr", {"train": (np.zeros((40, 2)), np.arange(40) % 2, weights * unit)})
        stored = np.concatenate([store["train"].load_labels(j)[1] for j in range(store["train"].n_partitions)])
        own = np.sort(stored.astype(np.float64))
        np.testing.assert_array_equal(own / own[-1], weights / weights[-1])
        assert own[1] >= 1e-12 and own[-1] <= 1e12
