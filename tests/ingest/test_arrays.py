import json
import tracemalloc

import dask
import dask.array
import numcodecs
import numpy as np
import pytest
import zarr

from hfnumba.errors import DataError
from hfnumba.ingest import build, finalise, init, write_partition, write_store
from hfnumba.ingest import lazy_arrays as streamed
from hfnumba.store.verify import verify

X = np.arange(240, dtype="f8").reshape(40, 3, 2) / 8
Y = np.arange(40) % 4


def recipe(root, kind, features, labels, *, more="", extra=""):
    path = root / "t.toml"
    arrays = f"[arrays]\n{extra}\n[arrays.train]\nfeatures = {json.dumps(features)}\nlabels = {json.dumps(labels)}\n"
    path.write_text(f'name = "t"\nformat = "{kind}"\n{more}\n{arrays}')
    return path


def write(root, kind, name, values, **options):
    if kind == "npy":
        np.save(root / name, values)
        return
    version = 2 if kind == "zarr 2" else 3
    array = zarr.create_array(root / name, shape=values.shape, dtype=values.dtype, zarr_format=version, **options)
    array[:] = values


def all_rows(store):
    parts = [split.load(j) for split in store.splits.values() for j in range(split.n_partitions)]
    found, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(found[:, 0], kind="stable")
    return found[order], y[order]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("dtype", ["uint8", "float64", "int16", ">f4"])
@pytest.mark.parametrize("kind", ["npy", "zarr 2", "zarr 3"])
def test_pairs_of_arrays(root, tmp_path, kind, dtype):
    if kind == "zarr 3" and dtype == ">f4":
        pytest.skip("the data types of version 3 have no byte order")
    values = (X * 8).astype(dtype)
    chunks = {} if kind == "npy" else {"chunks": (7, 2, 2)}
    for name, rows in (("a", slice(0, 25)), ("b", slice(25, 40))):
        write(root, kind, f"X-{name}.npy", values[rows], **chunks)
        write(root, kind, f"y-{name}.npy", Y[rows], **({} if kind == "npy" else {"chunks": (40,)}))
    path = recipe(root, kind.split()[0], ["X-a.npy", "X-b.npy"], ["y-a.npy", "y-b.npy"])
    store = build(path, root, tmp_path / "s.zarr", n_partitions=3)
    found, y = all_rows(store)
    np.testing.assert_array_equal(found, values.reshape(40, 6).astype("f4"))
    np.testing.assert_array_equal(y, Y)
    assert verify(store) == [] and store["train"].n_rows == 32
    assert store["train"].layout.x_dtype == ("uint8" if dtype == "uint8" else "float32")
    assert [source.name for source in store.manifest.header.sources] == ["X-a.npy", "X-b.npy", "y-a.npy", "y-b.npy"]


COMPRESSORS = {
    2: [None, numcodecs.Blosc(), numcodecs.GZip(), numcodecs.Zlib(), numcodecs.Zstd(), numcodecs.LZ4()],
    3: [None, zarr.codecs.BloscCodec(), zarr.codecs.GzipCodec(), zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()],
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("version", "codec"), [(v, codec) for v, held in COMPRESSORS.items() for codec in held])
def test_compressed_chunks_and_those_that_are_missing(root, tmp_path, version, codec, order):
    if order == "F" and version == 3:
        pytest.skip("version 3 has no order but by transposing")
    values = np.zeros((40, 5), "f4")
    values[30:] = 7.5
    values[:, 0] = np.arange(40) > 20  # the first chunks have only the fill value, so they are not written
    array = zarr.create_array(
        root / "X", shape=(40, 5), chunks=(10, 5), dtype="f4", zarr_format=version, compressors=codec,
        **({"order": order} if version == 2 else {}),
    )  # fmt: skip
    array[:] = values
    write(root, "zarr 2", "y", Y)
    found, _ = all_rows(build(recipe(root, "zarr", ["X"], ["y"]), root, tmp_path / "s.zarr", n_partitions=1))
    np.testing.assert_array_equal(found[np.lexsort(found.T)], values[np.lexsort(values.T)])


def test_targets_and_order_of_fortran(root, tmp_path):
    np.save(root / "X.npy", np.asfortranarray(X.reshape(40, 6)))
    np.save(root / "y.npy", np.stack([X[:, 0, 0], -X[:, 0, 0]], axis=1))
    path = recipe(root, "npy", ["X.npy"], ["y.npy"], more='task = "regression"')
    found, y = all_rows(build(path, root, tmp_path / "s.zarr", n_partitions=1))
    np.testing.assert_array_equal(found, X.reshape(40, 6))
    np.testing.assert_array_equal(y, np.stack([found[:, 0], -found[:, 0]], axis=1))


@pytest.mark.parametrize(("x_dtype", "y_dtype"), [("<f2", ">i4"), (">f8", ">f4"), (">u2", "<i8")])
def test_dtypes_of_other_machines(root, tmp_path, x_dtype, y_dtype):
    np.save(root / "X.npy", (8 * X).astype(x_dtype).reshape(40, 6))
    np.save(root / "y.npy", Y.astype(y_dtype))
    found, y = all_rows(build(recipe(root, "npy", ["X.npy"], ["y.npy"]), root, tmp_path / "s.zarr", n_partitions=1))
    np.testing.assert_array_equal(found, 8 * X.reshape(40, 6))
    np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize("kind", ["npy", "zarr"])
def test_arrays_built_in_steps(root, tmp_path, kind, read_tree):
    write(root, kind, "X.npy", X)
    write(root, kind, "y.npy", Y)
    path = recipe(root, kind, ["X.npy"], ["y.npy"])
    out, n_partitions = init(path, root, tmp_path / "a.zarr", n_partitions=3)
    for j in range(n_partitions):
        write_partition(out, j)
    assert read_tree(finalise(out).path) == read_tree(build(path, root, tmp_path / "b.zarr", n_partitions=3).path)


def refused(root, tmp_path, kind, complaint, **options):
    tracemalloc.start()
    with pytest.raises(DataError, match=complaint):
        build(recipe(root, kind, ["X"], ["y"], **options), root, tmp_path / "s.zarr")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert not (tmp_path / "s.zarr").exists()


def npy(header, body=b""):
    text = repr(header).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "cannot be read"),
        (b"\x93NUMPY\x03\x00", "version"),
        (npy({"descr": "<f4", "fortran_order": False, "shape": (2**40, 6)}), r"but holds 0"),
        (npy({"descr": "<f4", "fortran_order": False, "shape": (-4, -6)}, bytes(96)), "no array can have"),
        (npy({"descr": "<f4", "fortran_order": False, "shape": (0, 2**62)}), "no array can have"),
        (npy({"descr": "<f4", "fortran_order": False, "shape": (0, 2**70)}), "no array can have"),
        (npy({"descr": "|u1", "fortran_order": False, "shape": (2**32, 2**32)}), "no array can have"),
        (npy({"descr": "|u1", "fortran_order": False, "shape": (40,) + (1,) * 64}, bytes(40)), "no array"),
        (npy({"descr": "|O", "fortran_order": False, "shape": (40, 6)}, b"cos\nsystem\n"), "Python objects"),
        (npy({"descr": "<U4", "fortran_order": False, "shape": (1, 6)}, bytes(96)), "expected real numbers"),
        (
            npy({"descr": "<f4", "fortran_order": False, "shape": (39, 1)}, bytes(156)),
            "expected the same number of rows",
        ),
        (npy({"descr": "<f4", "fortran_order": False}).replace(b"<f4", b"\\d4"), "cannot be read"),
    ],
)
def test_hostile_npy_files(root, tmp_path, recwarn, data, complaint):
    (root / "X").write_bytes(data)
    with (root / "y").open("wb") as file:
        np.save(file, Y)
    refused(root, tmp_path, "npy", complaint)
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["npy", "zarr"])
@pytest.mark.parametrize(
    ("features", "labels", "complaint"),
    [
        (X, np.eye(4)[np.arange(40) % 4], r"labels have shape \(40, 4\), expected one class number per row"),
        (X[:, 0, 0], Y, r"X.npy has shape \(40,\), expected rows of features, with 2 axes or more"),
    ],
)
def test_arrays_of_another_shape(root, tmp_path, kind, features, labels, complaint):
    write(root, kind, "X.npy", features)
    write(root, kind, "y.npy", labels)
    with pytest.raises(DataError, match=complaint):
        build(recipe(root, kind, ["X.npy"], ["y.npy"]), root, tmp_path / "s.zarr")


@pytest.mark.parametrize("kind", ["npy", "zarr"])
@pytest.mark.parametrize("name", ["../X", "link", "none"])
def test_arrays_elsewhere_are_not_read(root, tmp_path, kind, name):
    write(tmp_path, "zarr 3", "X", X)
    (root / "link").symlink_to(tmp_path / "X")
    with pytest.raises(DataError, match=r"leads out of|there is no file|is not a Zarr array"):
        build(recipe(root, kind, [name], [name]), root, tmp_path / "s.zarr")


def test_a_chunk_that_is_a_link_out_of_the_folder(root, tmp_path):
    write(root, "zarr 3", "X", X, chunks=(40, 3, 2))
    write(root, "zarr 3", "y", Y)
    chunk = root / "X/c/0/0/0"
    chunk.rename(tmp_path / "secret")
    chunk.symlink_to(tmp_path / "secret")
    refused(root, tmp_path, "zarr", "leads out of")


def changed(document, **change):
    document.write_text(json.dumps(json.loads(document.read_text()) | change))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"shape": [2**40, 3, 2]}, "more than the .* stored can hold"),
        ({"shape": [2**40, 3, 2], "chunks": [2**40, 3, 2]}, "write it in smaller chunks"),
        ({"shape": [40, 2**40, 2]}, "write it in smaller chunks"),
        ({"shape": [0, 2**62, 2]}, "no array can have"),
        ({"shape": [40] + [2**62] * 300, "chunks": [1] * 301}, "no array can have"),
        ({"shape": [40, -3, 2]}, "is not supported"),
        ({"shape": [True, 3, 2]}, "is not supported"),
        ({"chunks": [0, 3, 2]}, "is not supported"),
        ({"dtype": "|O", "filters": [{"id": "pickle"}]}, "filters"),
        ({"dtype": "|O"}, "Python objects"),
        ({"dtype": "<U3"}, "expected real numbers"),
        ({"dtype": [["a", "<f4"]]}, "dtype"),
        ({"dtype": ",f4"}, "dtype ,f4"),
        ({"compressor": {"id": "pickle"}}, "compressor pickle"),
        ({"zarr_format": 3}, "cannot be read"),
        ({"fill_value": "what"}, "cannot be read"),
    ],
)
def test_hostile_zarr_arrays(root, tmp_path, change, complaint):
    write(root, "zarr 2", "X", X)
    write(root, "zarr 2", "y", Y)
    changed(root / "X/.zarray", **change)
    refused(root, tmp_path, "zarr", complaint)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"node_type": "group"}, "is not supported"),
        ({"data_type": ",f4"}, "dtype ,f4"),
        ({"data_type": "string"}, "is not supported|Python objects|expected real numbers"),
        ({"codecs": [{"name": "vlen-utf8"}]}, "the codecs vlen-utf8"),
        ({"codecs": [{"name": "sharding_indexed"}]}, "the codecs sharding_indexed"),
        ({"chunk_grid": {"name": "rectilinear"}}, "is not supported"),
    ],
)
def test_hostile_zarr_arrays_of_version_3(root, tmp_path, change, complaint):
    write(root, "zarr 3", "X", X)
    write(root, "zarr 3", "y", Y)
    changed(root / "X/zarr.json", **change)
    refused(root, tmp_path, "zarr", complaint)


@pytest.mark.parametrize(
    "codec", [numcodecs.Blosc(), numcodecs.GZip(), numcodecs.Zlib(), numcodecs.Zstd(), numcodecs.LZ4()]
)
def test_a_zarr_chunk_that_expands_without_end(root, tmp_path, codec):
    write(root, "zarr 2", "y", Y)
    write(root, "zarr 2", "X", X, compressors=codec, chunks=(40, 3, 2))
    (root / "X/0.0.0").write_bytes(bytes(codec.encode(bytes(2**26))))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"claims .* bytes, expected 1920|cannot be decoded|more than the"):
        build(recipe(root, "zarr", ["X"], ["y"]), root, tmp_path / "s.zarr")
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


@pytest.mark.parametrize(("at", "claimed"), [(12, 2**31), (8, 0), (8, 2**30)], ids=["packed", "no block", "block"])
@pytest.mark.parametrize("checksum", [False, True])
def test_a_blosc_frame_that_leads_beyond_its_bytes(root, tmp_path, at, claimed, checksum):
    """The decoder would read beyond the chunk, and a signal would end the process."""
    codecs = [zarr.codecs.BloscCodec(), *([zarr.codecs.Crc32cCodec()] if checksum else [])]
    write(root, "zarr 3", "y", Y)
    write(root, "zarr 3", "X", X, compressors=codecs, chunks=(40, 3, 2))
    build(recipe(root, "zarr", ["X"], ["y"]), root, tmp_path / "good.zarr")
    path = root / "X/c/0/0/0"
    frame = bytearray(path.read_bytes())
    frame[at : at + 4] = claimed.to_bytes(4, "little")
    path.write_bytes(frame)
    with pytest.raises(DataError, match=rf"a Blosc frame of \d+ bytes claims .*{claimed}"):
        build(recipe(root, "zarr", ["X"], ["y"]), root, tmp_path / "s.zarr")


def test_unequal_pairs_and_wide_rows(root, tmp_path):
    write(root, "npy", "X.npy", X)
    write(root, "npy", "y.npy", Y)
    with pytest.raises(DataError, match="as many labels as features"):
        build(recipe(root, "npy", ["X.npy"], ["y.npy", "y.npy"]), root, tmp_path / "s.zarr")
    with pytest.raises(DataError, match=r"6 features, expected 1 to 5; .* in \[arrays\]"):
        build(recipe(root, "npy", ["X.npy"], ["y.npy"], extra="max_features = 5"), root, tmp_path / "s.zarr")


def lazy(tmp_path, kind, values):
    if kind == "dask":
        return dask.array.from_array(values, chunks=(70, *values.shape[1:]))
    if kind == "zarr":
        write(tmp_path, "zarr 3", "lazy", values, chunks=(33, *values.shape[1:]))
        return zarr.open_array(tmp_path / "lazy", mode="r")
    if kind == "hdf5":
        file = pytest.importorskip("h5py", reason="h5py, of hfnumba[tables], is not installed").File(
            tmp_path / "lazy.h5", "w"
        )
        return file.create_dataset("X", data=values)
    np.save(tmp_path / "lazy.npy", values)
    return np.load(tmp_path / "lazy.npy", mmap_mode="r")


@pytest.mark.parametrize("dtype", ["uint8", "int64", "int16", "float64"])
@pytest.mark.parametrize("kind", ["dask", "zarr", "hdf5", "map"])
def test_lazy_arrays_make_the_store_of_those_in_memory(tmp_path, monkeypatch, read_tree, kind, dtype):
    monkeypatch.setattr(streamed, "BLOCK_NBYTES", 1000)
    values = np.random.default_rng(1).integers(0, 200, (300, 3, 2)).astype(dtype)
    values[0, 0, 0] = 300 if dtype == "int16" else 1
    y = np.arange(300) % 3
    one = write_store(tmp_path / "a.zarr", {"train": (values, y)}, n_partitions=2)
    other = write_store(tmp_path / "b.zarr", {"train": (lazy(tmp_path, kind, values), y)}, n_partitions=2)
    assert read_tree(one.path) == read_tree(other.path)


def test_dask_computes_a_block_at_a_time(tmp_path, monkeypatch):
    """Each chunk is computed once, and only a few are in memory at a time."""
    monkeypatch.setattr(streamed, "BLOCK_NBYTES", 1000)
    computed = []

    def block(block_info=None):
        computed.append(block_info[None]["array-location"][0])
        return np.ones((50_000, 20), "f4")

    X = dask.array.map_blocks(block, dtype="f4", chunks=((50_000,) * 10, (20,)))
    # Not on a cluster that another test has a client of.
    with dask.config.set(scheduler="synchronous"):
        # Imports of Dask at its first computation are not counted.
        streamed.gather_arrays({"train": (dask.array.ones((9, 2), chunks=(3, 2)), np.zeros(9, np.uint8))})
        tracemalloc.start()
        streamed.gather_arrays({"train": (X, np.zeros(500_000, np.uint8))})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * 50_000 * 20 * 4
    assert sorted(computed) == [(i, i + 50_000) for i in range(0, 500_000, 50_000)]
