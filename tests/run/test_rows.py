"""Rows in files are read block by block: the same numbers from every format, in little memory."""

import gzip
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from hfnumba.errors import DataError, UsageError
from hfnumba.run.rows import open_rows


def idx(X, code=8):
    header = bytes([0, 0, code, X.ndim]) + b"".join(n.to_bytes(4, "big") for n in X.shape)
    return header + X.astype(X.dtype.newbyteorder(">")).tobytes()


def test_rows_from_files(tmp_path):
    X = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", X=X, y=np.zeros(2))
    np.savez(tmp_path / "one.npz", rows=X)
    np.savez_compressed(tmp_path / "packed.npz", X=X)
    np.savez(tmp_path / "columns.npz", X=np.asfortranarray(X))
    (tmp_path / "x-idx3-ubyte").write_bytes(idx(X))
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx(X)))
    for name in ("x.npy", "x.npz", "one.npz", "packed.npz", "columns.npz", "x-idx3-ubyte", "x.gz"):
        rows = open_rows(tmp_path / name)
        assert (rows.n_rows, rows.n_features) == (2, 12)
        np.testing.assert_array_equal(np.concatenate(list(rows.blocks())), X.reshape(2, 12))
    np.save(tmp_path / "row.npy", X[0, 0])
    assert next(open_rows(tmp_path / "row.npy").blocks()).shape == (1, 4)


SHORT = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9)}    \n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("o.npy", np.array([{}], dtype=object), "holds Python objects"),
        ("s.npy", np.array(3.0), "a single number"),
        ("z.npz", b"PK no archive", "cannot be read"),
        ("t.npy", b"\x93NUMPY", "cannot be read"),
        ("noise", b"hello", "not an IDX file"),
        ("missing.npy", None, "there is no file"),
        ("deep.npy", b"\x93NUMPY\x01\x00\x60\xea" + b"(" * 60_000, "header that cannot be read"),
        ("null.npy", b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr':\nl\0".ljust(118), "header that cannot be read"),
        ("c.npy", np.zeros((2, 2), complex), "expected real numbers"),
        ("table.npy", np.zeros(2, [("a", "f4"), ("b", "f4")]), "expected real numbers"),
        (
            "short.npy",
            b"\x93NUMPY\x01\x00\x3e\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9)}    \n",
            "holds 0",
        ),
    ],
)
def test_files_that_hold_no_rows(tmp_path, name, content, message):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        np.save(tmp_path / name, content, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        open_rows(tmp_path / name)


def test_an_array_without_elements_has_no_rows_or_no_features(tmp_path):
    for shape in ((0, 4), (3, 0), (0, 2, 0)):
        np.save(tmp_path / "x.npy", np.empty(shape))
        np.savez(tmp_path / "x.npz", X=np.empty(shape))
        for name in ("x.npy", "x.npz"):
            rows = open_rows(tmp_path / name)
            assert (rows.n_rows, rows.n_features) == (shape[0], int(np.prod(shape[1:])))
            assert sum(len(block) for block in rows.blocks()) == shape[0]


def test_several_arrays_need_one_of_a_known_name(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(2), b=np.zeros(2))
    with pytest.raises(UsageError, match="holds the arrays a, b, expected one of them to be called X"):
        open_rows(tmp_path / "x.npz")


def read_all(path):
    for _ in open_rows(path).blocks():
        pass


def test_damage_shows_while_rows_are_read(tmp_path):
    X = np.random.default_rng(0).normal(size=(500, 30))
    np.savez(tmp_path / "x.npz", X=X)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.npz").write_bytes(data)
    whole = gzip.compress(idx(X, 0x0E))
    (tmp_path / "cut.gz").write_bytes(whole[:-100])
    (tmp_path / "long.gz").write_bytes(gzip.compress(idx(X, 0x0E) + b"more"))
    for name, message in (("bad.npz", "Bad CRC"), ("cut.gz", "not a complete gzip"), ("long.gz", "holds more than")):
        with pytest.raises(DataError, match=message):
            read_all(tmp_path / name)


def test_a_file_that_expands_takes_the_memory_of_a_block(tmp_path):
    n, width = 400_000, 200
    header = np.lib.format.header_data_from_array_1_0(np.empty((0, width), np.uint8)) | {"shape": (n, width)}
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("X.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(n // 10_000):
            file.write(bytes(10_000 * width))
    with gzip.open(tmp_path / "x.gz", "wb") as file:
        file.write(bytes([0, 0, 8, 2]) + n.to_bytes(4, "big") + width.to_bytes(4, "big"))
        for _ in range(n // 10_000):
            file.write(bytes(10_000 * width))
    for name in ("x.npz", "x.gz"):
        assert (tmp_path / name).stat().st_size < 200_000
        tracemalloc.start()
        read_all(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * 2**20


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
@pytest.mark.parametrize("name", ["x", "x.npy", "x.npz"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind, name):
    path = tmp_path / name
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"is a folder, pipe or device, .* write them to a file"):
        open_rows(path)
