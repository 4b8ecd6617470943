import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from hfnumba.errors import StoreError
from hfnumba.ingest import write_frames, write_store
from hfnumba.ingest.shuffle import shuffle
from hfnumba.store import codec, layout, open_store


def load_all(split):
    parts = [split.load(j) for j in range(split.n_partitions)]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def test_rows_come_back_in_the_recorded_order(store, arrays):
    for name, split in store.splits.items():
        X, y = load_all(split)
        order = shuffle(name, len(arrays[name][0]), 3)
        assert sorted(order) == list(range(len(order))) and list(order) != sorted(order)
        np.testing.assert_array_equal(X, arrays[name][0][order])
        np.testing.assert_array_equal(y, arrays[name][1][order])
        assert X.dtype == np.uint8 and y.dtype == np.int32
        assert X.flags.c_contiguous and y.flags.c_contiguous


def test_zarr_alone_reads_the_same(store):
    group = zarr.open_group(store.path, mode="r", zarr_format=3)
    for name, split in store.splits.items():
        X, y = load_all(split)
        np.testing.assert_array_equal(group[f"{name}/X"][:], X)
        np.testing.assert_array_equal(group[f"{name}/y"][:], y)
        assert group[f"{name}/X"].dtype == np.uint8 and group[f"{name}/y"].dtype == np.uint8


def test_dense_floats_are_stored_as_they_are_and_sparse_ones_packed(tmp_path):
    rng = np.random.default_rng(0)
    dense, labels = rng.standard_normal((4000, 30), np.float32), rng.integers(0, 3, 4000)
    for X, share in ((dense, (1.0, 1.01)), (dense * (rng.random(dense.shape) < 0.1), (0.0, 0.5))):
        store = write_store(tmp_path / f"{share[1]}.zarr", {"train": (X, labels)}, n_partitions=2)
        nbytes = sum(r.nbytes for key, r in store.manifest.files.items() if "/X/c" in key)
        assert share[0] <= nbytes / X.nbytes <= share[1]
        read, _ = load_all(store["train"])
        np.testing.assert_array_equal(read, X[shuffle("train", 4000, 0)])
        np.testing.assert_array_equal(zarr.open_group(store.path, mode="r")["train/X"][:], read)


@pytest.mark.parametrize("kind", ["uint8", "float32", "frames"])
def test_zarr_alone_writes_the_same_bytes(tmp_path, arrays, read_tree, monkeypatch, kind):
    monkeypatch.setattr(layout, "CHUNK_BYTES", 300)
    monkeypatch.setattr(codec, "WORTH_PACKING", float("inf"))  # Zarr always compresses.
    splits = {name: (X if kind == "uint8" else X / np.float32(7), y) for name, (X, y) in arrays.items()}
    if kind == "frames":
        utterances = {
            name: [(X[i : i + 9], y[i : i + 9]) for i in range(0, len(X), 9)] for name, (X, y) in splits.items()
        }
        store = write_frames(tmp_path / "s.zarr", utterances, n_partitions=3, context=1, standardise=False)
    else:
        store = write_store(tmp_path / "s.zarr", splits, n_partitions=3)
    ours = read_tree(store.path)
    del ours["manifest.json"]
    held = zarr.open_group(store.path, mode="r")
    other = zarr.open_group(tmp_path / "z.zarr", mode="w")
    for name, split in store.splits.items():
        group = other.create_group(name)
        for array in split.layout.arrays:
            like = held[f"{name}/{array}"]
            values = zarr.create_array(
                group.store_path / array,
                data=like[:],
                chunks=like.chunks,
                filters=None,
                serializer=like.serializer,
                compressors=like.compressors,
                fill_value=0,
                config={"write_empty_chunks": True},
            )
            assert values.dtype == like.dtype
    assert read_tree(tmp_path / "z.zarr") == ours
    assert any(len(split.layout.x_keys(0)) > 1 for split in store.splits.values())


def test_chunks_of_zeros_are_written(tmp_path):
    store = write_store(tmp_path / "z.zarr", {"train": (np.zeros((8, 3), np.uint8), [0, 1] * 4)}, n_partitions=2)
    assert len(list((store.path / "train/X/c").rglob("0"))) >= 2
    assert not load_all(store["train"])[0].any()


def test_what_a_split_says(store):
    split = store["train"]
    assert (split.n_rows, split.n_features, split.n_classes, split.n_outputs) == (100, 12, 3, 3)
    assert (split.task, split.scale, split.offset, split.n_partitions) == ("classification", 1.0, 0.0, 4)
    assert [split.partition_rows(j) for j in range(4)] == [(0, 25), (25, 50), (50, 75), (75, 100)]
    assert list(store.splits) == ["train", "test"]
    assert split.digest == store.digest and len(store.digest) == 64


def test_a_split_travels_and_is_small(store):
    data = pickle.dumps(store["train"])
    assert len(data) < 2000
    np.testing.assert_array_equal(pickle.loads(data).load(2)[0], store["train"].load(2)[0])


def test_loading_from_many_threads(store):
    split = store["train"]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda j: split.load(j % 4)[0], range(64)))
    for j, X in enumerate(found):
        np.testing.assert_array_equal(X, split.load(j % 4)[0])


def test_partitions_of_several_chunks(tmp_path, arrays, monkeypatch):
    monkeypatch.setattr(layout, "CHUNK_BYTES", 100)
    store = write_store(tmp_path / "c.zarr", arrays, n_partitions=3, seed=3)
    assert len(store["train"].layout.x_keys(0)) > 1
    X, y = load_all(store["train"])
    order = shuffle("train", 100, 3)
    np.testing.assert_array_equal(X, arrays["train"][0][order])
    np.testing.assert_array_equal(y, arrays["train"][1][order])


@pytest.mark.parametrize(
    ("X", "stored"),
    [
        (np.arange(12).reshape(6, 2), np.uint8),
        (np.arange(12).reshape(6, 2) > 5, np.uint8),
        (np.arange(12).reshape(6, 2) - 1, np.float32),
        (np.arange(12, dtype=np.uint16).reshape(6, 2) * 100, np.float32),
        (np.arange(12, dtype=np.float64).reshape(6, 2), np.float32),
        (np.arange(12, dtype=np.float16).reshape(6, 2), np.float32),
    ],
)
def test_the_smallest_dtype(tmp_path, X, stored):
    found = load_all(write_store(tmp_path / "d.zarr", {"train": (X, [0, 1] * 3)}, n_partitions=2)["train"])[0]
    assert found.dtype == stored
    np.testing.assert_array_equal(found, X[shuffle("train", 6, 0)].astype(stored))


@pytest.mark.parametrize(("n_classes", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (70_000, "int32")])
def test_the_smallest_label_dtype(tmp_path, n_classes, dtype):
    y = np.array([0, n_classes - 1, 1])
    split = write_store(tmp_path / "l.zarr", {"train": (np.eye(3), y)})["train"]
    assert split.layout.y_dtype == dtype and split.n_classes == n_classes
    np.testing.assert_array_equal(load_all(split)[1], y[shuffle("train", 3, 0)])


@pytest.mark.parametrize("shape", [(9,), (9, 1), (9, 2)])
def test_regression(tmp_path, shape):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((9, 4)), rng.standard_normal(shape)
    split = write_store(tmp_path / "r.zarr", {"train": (X, y)}, n_partitions=2, scale=0.5, offset=-1)["train"]
    order = shuffle("train", 9, 0)
    found_X, found_y = load_all(split)
    np.testing.assert_array_equal(found_X, X.astype(np.float32)[order])
    np.testing.assert_array_equal(found_y, y.reshape(9, -1).astype(np.float32)[order])
    assert found_y.dtype == np.float32
    assert (split.task, split.n_classes, split.n_outputs) == ("regression", None, found_y.shape[1])
    assert (split.scale, split.offset) == (0.5, -1.0)


def test_the_seed_decides_the_order_and_the_digest(tmp_path, arrays):
    first, again, other = (
        write_store(tmp_path / name, arrays, n_partitions=4, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.digest == again.digest != other.digest
    assert not np.array_equal(first["train"].load(0)[0], other["train"].load(0)[0])


def test_the_shuffle_is_pinned():
    # The order of stores must not depend on the version; these numbers never change.
    assert list(shuffle("train", 8, 0)) == [3, 4, 6, 0, 5, 7, 1, 2]


def test_images_are_flattened(tmp_path):
    images = np.arange(4 * 6, dtype=np.uint8).reshape(4, 2, 3)
    X = load_all(write_store(tmp_path / "i.zarr", {"train": (images, [0, 1, 0, 1])})["train"])[0]
    np.testing.assert_array_equal(X, images.reshape(4, 6)[shuffle("train", 4, 0)])


def test_no_store(tmp_path):
    with pytest.raises(StoreError, match=r"there is no store at .*nowhere"):
        open_store(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        open_store(tmp_path / "file")
    with pytest.raises(StoreError, match="is not a store"):
        open_store(tmp_path)


def test_no_such_split(store):
    with pytest.raises(StoreError, match="no split 'valid'; it has train, test"):
        store["valid"]


def test_without_its_manifest_it_does_not_open(store):
    (store.path / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"unfinished.*hfnumba data build.*hfnumba data finalise"):
        open_store(store.path)


def test_a_changed_manifest_is_refused(store):
    path = store.path / "manifest.json"
    good = path.read_bytes()
    for edit, complaint in (
        (lambda m: m["header"].update(scale=0.5), "was changed"),
        (lambda m: m["files"].popitem(), "was changed"),
        (lambda m: m.update(schema_version=3), "schema version 3.*reads version 4; build the store again"),
        (lambda m: m.update(schema_version=5), "schema version 5.*reads version 4"),
        (lambda m: m.update(schema="other"), "not a store"),
        (lambda m: m.update(surprise=1), "damaged.*surprise"),
        (lambda m: m["header"]["splits"]["train"].update(n_rows=-1), "damaged.*at least 1"),
        (lambda m: m["header"].update(scale=None), "damaged"),
    ):
        manifest = json.loads(good)
        edit(manifest)
        path.write_text(json.dumps(manifest))
        with pytest.raises(StoreError, match=complaint):
            open_store(store.path)
    for damage in (b"", good[:100], b"[]", b"\xff" * 20):
        path.write_bytes(damage)
        with pytest.raises(StoreError, match="damaged"):
            open_store(store.path)


def test_a_manifest_that_claims_more_rows_than_files(store, monkeypatch):
    """Chunks are counted, not listed: the names of 10**15 chunks do not fit in memory."""
    manifest = json.loads((store.path / "manifest.json").read_text())
    manifest["header"]["splits"]["train"]["n_rows"] = 10**17
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr("hfnumba.store.manifest._checksum", lambda m: m.checksum)
    with pytest.raises(StoreError, match="does not list the files"):
        open_store(store.path)


def test_a_store_that_changed_under_a_split(store, arrays, tmp_path):
    split = store["train"]
    other = write_store(tmp_path / "other.zarr", arrays, n_partitions=4, seed=9)
    (store.path / "manifest.json").write_bytes((other.path / "manifest.json").read_bytes())
    with pytest.raises(StoreError, match="has changed since it was opened"):
        pickle.loads(pickle.dumps(split)).load(0)
