import gzip
import io
import os
import pickle
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.errors import DataError, HfnumbaError
from hfnumba.ingest import build, sources
from hfnumba.ingest.recipes import Recipe, RecipeFile, find_recipe
from hfnumba.ingest.sources.idx import read_idx
from hfnumba.ingest.sources.npz import read_npz
from tests.silent import Silent

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array):
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def put(tmp_path, data, gz):
    path = tmp_path / ("file.gz" if gz else "file")
    path.write_bytes(gzip.compress(data) if gz else data)
    return path


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4), (0, 3)])
def test_idx_round_trip(tmp_path, gz, dtype, shape):
    array = (np.arange(np.prod(shape)) * 7 - 3).astype(dtype).reshape(shape)
    found, record = read_idx(put(tmp_path, idx_bytes(array), gz))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype and found.dtype.isnative
    assert record.name == "file" and record.nbytes == len(idx_bytes(array))


GOOD = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"\0\0\x08", "not an IDX file"),
        (b"\x01" + GOOD[1:], "not an IDX file"),
        (b"\0\0\x07" + GOOD[3:], "not an IDX file"),
        (b"\0\0\x08\0" + GOOD[4:], "not an IDX file"),
        (b"\0\0\x08\xff" + GOOD[4:] * 200, "not an IDX file"),
        (GOOD[:9], "ends within its IDX header"),
        (GOOD[:-1], r"shape \(3, 4\) in its header"),
        (GOOD + b"x", r"shape \(3, 4\) in its header"),
        (b"\0\0\x0e\x04" + b"\xff" * 16 + b"abc", r"claims the shape \(4294967295, .*which no array can have"),
        (b"\0\0\x08\x04" + b"\xff" * 12 + b"\0" * 4, r"claims the shape \(4294967295, .*which no array can have"),
    ],
)
def test_hostile_headers(tmp_path, gz, data, complaint):
    with pytest.raises(DataError, match=complaint):
        read_idx(put(tmp_path, data, gz))


def test_a_header_that_claims_more_than_the_file_can_hold_takes_no_memory(tmp_path):
    bomb = put(tmp_path, idx_bytes(np.zeros(3, np.uint8))[:4] + np.array([2**31], ">u4").tobytes(), True)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"more than its \d+ bytes can hold"):
        read_idx(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_gzip_bomb_is_read_one_byte_too_far_at_most(tmp_path):
    bomb = put(tmp_path, GOOD + bytes(200 * 2**20), True)
    assert bomb.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(DataError, match="12 bytes of values, but holds more"):
        read_idx(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_bomb_whose_header_fits_is_refused_by_the_size_in_the_recipe(tmp_path):
    bomb = put(tmp_path, b"\0\0\x08\x01" + np.array([50 * 2**20], ">u4").tobytes() + bytes(50 * 2**20), True)
    with pytest.raises(DataError, match="the recipe expects 100"):
        read_idx(bomb, RecipeFile(name="file", nbytes=100))


@pytest.mark.parametrize("cut", [5, 20, 30])
def test_damaged_gzip(tmp_path, cut):
    path = put(tmp_path, GOOD, True)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="not a complete gzip file"):
        read_idx(path)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match="not a complete gzip file"):
        read_idx(path)


def test_files_that_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DataError, match=r"pipe\.npz is a folder, pipe or device, expected a file"):
        build(tmp_path / "pipe.npz", None, tmp_path / "s.zarr")
    with pytest.raises(DataError, match="there is no file"):
        read_idx(tmp_path / "nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


def test_a_hash_that_differs(tmp_path):
    with pytest.raises(DataError, match=r"has the SHA-256 .* the recipe expects 0000"):
        read_idx(put(tmp_path, GOOD, True), RecipeFile(name="file", sha256="0" * 64))


@given(st.binary(max_size=64), st.booleans())
@settings(max_examples=200)
def test_any_bytes_are_an_array_or_a_data_error(tmp_path, data, header):
    path = tmp_path / "file"
    path.write_bytes(b"\0\0\x08\x01" + data if header else data)
    try:
        array, record = read_idx(path)
    except DataError:
        return
    assert array.nbytes < record.nbytes == path.stat().st_size


def npz(tmp_path, **arrays):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **arrays)
    return path


def read(path, seed=0):
    return sources.read(find_recipe(path), {path.name: path}, seed)


def test_npz_with_its_splits(tmp_path):
    arrays = {
        f"{role}_{split}": np.arange(n * 2).reshape(n, 2)[:, 0 if role == "y" else slice(None)]
        for split, n in (("train", 5), ("test", 3), ("validation", 2))
        for role in ("X", "y")
    }
    raw = read(npz(tmp_path, **arrays, other=np.zeros(3)))
    assert set(raw.splits) == {"train", "test", "validation"}
    for split, (X, y) in raw.splits.items():
        np.testing.assert_array_equal(X, arrays[f"X_{split}"])
        np.testing.assert_array_equal(y, arrays[f"y_{split}"])


@pytest.mark.parametrize(
    "names",
    [("x_train", "y_train", "x_test", "y_test", None, None),
     ("train_images", "train_labels", "test_images", "test_labels", "val_images", "val_labels"),
     ("X_train", "y_train", "X_test", "y_test", "X_valid", "y_valid")],
    ids=["Keras", "MedMNIST", "valid"],
)  # fmt: skip
def test_npz_with_the_names_of_others(tmp_path, names):
    rng = np.random.default_rng(0)
    sizes = {"train": 8, "test": 4, "validation": 2}
    arrays, expected = {}, {}
    for split, X_name, y_name in zip(sizes, names[::2], names[1::2], strict=True):
        if X_name is not None:
            arrays[X_name] = rng.integers(0, 255, (sizes[split], 2, 3), dtype=np.uint8)
            # MedMNIST has a column of labels.
            arrays[y_name] = rng.permutation(np.arange(sizes[split], dtype=np.uint8) % 2)[:, None]
            expected[split] = arrays[X_name], arrays[y_name]
    path = npz(tmp_path, **arrays)
    raw = read(path)
    assert set(raw.splits) == set(expected)
    for split, pair in expected.items():
        for found, array in zip(raw.splits[split], pair, strict=True):
            np.testing.assert_array_equal(found, array)
    store = build(path, out=tmp_path / "s.zarr", n_partitions=1)
    assert (store["train"].n_features, store["train"].n_classes, store["test"].n_rows) == (6, 2, 4)


def test_npz_with_two_arrays_for_one_split_and_arrays_for_none(tmp_path):
    X, y = np.zeros((4, 2)), np.arange(4) % 2
    with pytest.raises(DataError, match="holds X_train, y_train and x_train, y_train, which are both for train"):
        read(npz(tmp_path, X_train=X, x_train=X, y_train=y))
    with pytest.raises(DataError, match="holds X, y for all rows and X_train, y_train for a split; rename or remove"):
        read(npz(tmp_path, X=X, y=y, X_train=X, y_train=y))
    reporter = Silent()
    build(npz(tmp_path, X=X, y=y, ids=y, X_extra=X), out=tmp_path / "s.zarr", reporter=reporter)
    assert reporter.notes[0] == "Arrays of a.npz that are not used: X_extra, ids"


def test_npz_with_a_hold_out(tmp_path):
    path = npz(tmp_path, X=np.arange(40).reshape(20, 2), y=np.arange(20))
    first, again, other = read(path), read(path), read(path, seed=1)
    assert [len(first.splits[name][0]) for name in ("train", "test")] == [16, 4]
    np.testing.assert_array_equal(first.splits["test"][1], again.splits["test"][1])
    assert not np.array_equal(first.splits["test"][1], other.splits["test"][1])


def test_a_store_from_an_npz_file(tmp_path):
    path = npz(tmp_path, X=np.arange(40).reshape(20, 2), y=np.arange(20) % 2)
    store = build(path, out=tmp_path / "a.zarr")
    assert {name: split.n_rows for name, split in store.splits.items()} == {"train": 16, "test": 4}
    assert store.manifest.header.name == "a" and store.manifest.header.sources[0].name == "a.npz"


class Bomb:
    def __reduce__(self):
        return (sys.exit, ("a pickle was run",))


def test_pickles_are_refused_and_never_run(tmp_path):
    path = npz(tmp_path, X=np.array([[Bomb()]], dtype=object), y=np.zeros(1))
    with pytest.raises(DataError, match="holds Python objects"):
        read_npz(path, {"X", "y"})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", pickle.dumps(Bomb()))
        archive.writestr("y.npy", pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"cannot be read|can be read"):
        read_npz(path, {"X", "y"})


def npy_with_shape(shape, data):
    """An NPY file with a given shape in its header."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + data


@pytest.mark.parametrize("shape", [(0, 2**63), (2**70, 0), (2**32, 2**32)])
def test_npz_members_of_shapes_that_no_array_has(tmp_path, shape):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", npy_with_shape(shape, b""))
    with pytest.raises(DataError, match=r"X.npy claims the shape .* which no array can have"):
        read_npz(path, {"X", "y"})


@pytest.mark.parametrize("shape", [(2**40,), (7,), (5, 2**50), (3,)])
def test_npz_members_that_lie_about_their_size(tmp_path, shape):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", npy_with_shape(shape, b"12345"))
    with pytest.raises(DataError, match=r"X.npy has shape .* but the archive holds 5"):
        read_npz(path, {"X", "y"})


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_members_that_numpy_does_not_write(tmp_path, packing):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("X.npy", npy_with_shape((5,), b"12345"))
    with pytest.raises(DataError, match=r"X.npy has a compression that NumPy does not use"):
        read_npz(path, {"X", "y"})


def test_an_npz_member_whose_header_never_ends(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((\n\n")
    with pytest.raises(DataError, match="header that cannot be read"):
        read_npz(path, {"X", "y"})


def test_npz_without_what_is_needed(tmp_path):
    with pytest.raises(DataError, match="holds X; expected X_train, y_train"):
        read(npz(tmp_path, X=np.zeros((3, 2))))
    with pytest.raises(DataError, match=r"a.npz holds a, y_train; expected X_train, y_train"):
        read(npz(tmp_path, a=np.zeros(3), y_train=np.zeros(3)))
    with pytest.raises(DataError, match=r"a.npz holds no arrays; expected"):
        read(npz(tmp_path))
    with pytest.raises(DataError, match="as many labels as rows"):
        read(npz(tmp_path, X=np.zeros((3, 2)), y=np.zeros(2)))
    with pytest.raises(DataError, match=r"got shapes \(\)"):
        read(npz(tmp_path, X=np.float64(1), y=np.zeros(2)))
    with pytest.raises(DataError, match=r"got shapes .* \(\)|X with rows and features and y with a row"):
        build(npz(tmp_path, X_train=np.zeros((3, 2)), y_train=np.float64(1)), out=tmp_path / "s.zarr")
    (tmp_path / "b.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"not an .npz archive"):
        read(tmp_path / "b.npz")


@given(st.data())
@settings(max_examples=100)
def test_a_damaged_npz_is_read_or_refused_in_words(tmp_path, data):
    path = npz(tmp_path, X=np.arange(40.0).reshape(20, 2), y=np.arange(20))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read(path)
    except HfnumbaError as error:
        assert str(path) in str(error) or "rows" in str(error)


def test_digits_are_those_of_scikit_learn(tmp_path):
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    images, labels = load_digits(return_X_y=True)
    store = build("digits", out=tmp_path / "d.zarr")
    assert {name: split.n_rows for name, split in store.splits.items()} == {"train": 1437, "test": 360}
    assert store["train"].scale == 1 / 16 and store["train"].n_classes == 10
    parts = [s.load(j) for s in store.splits.values() for j in range(s.n_partitions)]
    found = {(X.tobytes(), int(y)) for Xs, ys in parts for X, y in zip(Xs, ys, strict=True)}
    assert found == {(X.tobytes(), int(y)) for X, y in zip(images.astype(np.uint8), labels, strict=True)}
    assert all(X.dtype == np.uint8 and X.max() <= 16 for X, _ in parts)


def test_digits_without_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"pip install 'hfnumba\[sklearn\]'"):
        build("digits", out=tmp_path / "d.zarr")
    assert not (tmp_path / "d.zarr").exists()


def test_the_format_decides_the_source(tmp_path):
    recipe = Recipe(name="x", format="npz", files=(RecipeFile(name="a.npz"),))
    path = npz(tmp_path, X=np.arange(8).reshape(4, 2), y=np.arange(4))
    assert sources.read(recipe, {"a.npz": path}, 0).sources[0].nbytes == path.stat().st_size
