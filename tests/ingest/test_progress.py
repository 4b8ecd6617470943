"""Every long step of a build reports its progress, up to the end."""

import gzip

import numpy as np
import pytest
import zarr

from hfnumba.ingest import build, finalise, init, write_partition
from hfnumba.ingest.recipes import TABLES
from hfnumba.store.class_weights import balanced

N = 400


class Recorder(list):
    """Records the steps in order, each with its unit and its calls."""

    def note(self, text):
        assert not text.startswith("Warning") or "the order of the rows" in text, text

    def progress(self, what, unit):
        calls = []
        self.append((f"{what} in {unit}", calls))
        return lambda *call: calls.append(call)


def write_csv(root):
    (root / "a").write_text("x,k\n" + "".join(f"{i},{i % 2}\n" for i in range(N)))


def write_parquet(root):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"x": np.arange(N, dtype="f8"), "k": np.arange(N) % 2}), root / "a")


def write_hdf5(root):
    with pytest.importorskip("h5py").File(root / "a", "w") as file:
        file["X"], file["k"] = np.arange(2.0 * N).reshape(N, 2), np.arange(N) % 2


def write_libsvm(root):
    (root / "a").write_text("".join(f"{i % 2} 1:{i}\n" for i in range(N)))


def write_libsvm_gz(root):
    (root / "a.gz").write_bytes(gzip.compress(b"".join(b"%d 1:%d\n" % (i % 2, i) for i in range(N))))


def write_npy(root):
    np.save(root / "X.npy", np.arange(2.0 * N).reshape(N, 2))
    np.save(root / "y.npy", np.arange(N) % 2)


def write_zarr(root):
    for name, values in (("X", np.arange(2.0 * N).reshape(N, 2)), ("y", np.arange(N) % 2)):
        zarr.create_array(root / name, data=values, chunks=(100, *values.shape[1:]))


def write_kaldi(root):
    rows = [(f"u{i}", np.full((3, 2), i / 7)) for i in range(6)]
    text = "".join(f"{name} [ " + "\n".join(" ".join(map(str, row)) for row in X) + " ]\n" for name, X in rows)
    (root / "X.ark").write_text(text)
    (root / "y.ark").write_text("".join(f"{name} 0 1 1\n" for name, _ in rows))


TABLE, ARRAYS = '[table]\ntrain = ["{}"]\nlabel = "k"\n', '[arrays.train]\nfeatures = ["X{0}"]\nlabels = ["y{0}"]\n'
LIBSVM = '[table]\ntrain = ["{}"]\n'
KALDI = '[kaldi.train]\nfeatures = ["X.ark"]\nalignments = ["y.ark"]\n'
READ = {"Reading rows in bytes", "Checking rows in rows", "Measuring mean and deviation in rows"}
TWICE = READ | {"Reading columns in bytes"}
PAIRS = READ - {"Reading rows in bytes"} | {"Reading rows in rows"}
CASES = {
    "csv": (write_csv, "csv", TABLE.format("a"), TWICE),
    "parquet": (write_parquet, "parquet", TABLE.format("a"), TWICE),
    "hdf5": (write_hdf5, "hdf5", TABLE.format("a"), READ),
    "libsvm": (write_libsvm, "libsvm", LIBSVM.format("a"), READ | {"Counting features in bytes"}),
    "libsvm, compressed": (write_libsvm_gz, "libsvm", LIBSVM.format("a.gz"), READ | {"Counting features in bytes"}),
    "npy": (write_npy, "npy", ARRAYS.format(".npy"), PAIRS),
    "zarr": (write_zarr, "zarr", ARRAYS.format(""), PAIRS),
    "kaldi": (write_kaldi, "kaldi", KALDI, {"Checking utterances in utterances"}),
}
ALWAYS = {"Hashing files in bytes", "Writing partitions in partitions", "Syncing in files"}


def test_every_source_of_tables_and_arrays_is_tested():
    assert {name for name, table in TABLES.items() if table in ("table", "arrays")} <= {
        case[1] for case in CASES.values()
    }


@pytest.mark.parametrize("kind", CASES)
def test_each_step_goes_to_its_end(tmp_path, kind):
    write, format_name, table, expected = CASES[kind]
    write(tmp_path)
    recipe = tmp_path / "t.toml"
    recipe.write_text(f'name = "t"\nformat = "{format_name}"\nstandardise = true\n{table}')
    recorder = Recorder()
    build(recipe, tmp_path, tmp_path / "s.zarr", n_partitions=4, reporter=recorder)
    measured = {what for what, calls in recorder if calls}
    assert measured == expected | ALWAYS
    for _, calls in recorder:
        done = [n for n, _ in calls]
        assert done == sorted(done) and calls[-1][0] == calls[-1][1]


def test_steps_of_a_job_array(tmp_path):
    write_csv(tmp_path)
    recipe = tmp_path / "t.toml"
    recipe.write_text('name = "t"\nformat = "csv"\n' + TABLE.format("a"))
    begun, written, checked = Recorder(), Recorder(), Recorder()
    out, _ = init(recipe, tmp_path, tmp_path / "t.zarr", n_partitions=2, reporter=begun)
    write_partition(out, 0, reporter=written)
    assert begun == written and "Reading rows in bytes" in dict(begun)
    write_partition(out, 1)
    store = finalise(out, reporter=checked)
    assert [what for what, _ in checked] == ["Checking in bytes", "Syncing in files"]
    chunks = [record.nbytes for key, record in store.manifest.files.items() if "/c/" in key]
    read = [done for done, total in dict(checked)["Checking in bytes"] if total == sum(chunks)]
    assert sorted(np.diff([0, *read])) == sorted(chunks)
    assert dict(checked)["Syncing in files"][-1] == (len(store.manifest.files),) * 2


def test_labels_are_counted(store):
    recorder = Recorder()
    assert balanced(store["train"], recorder) == balanced(store["train"])
    assert recorder == [("Counting classes in partitions", [(j + 1, 4) for j in range(4)])]
