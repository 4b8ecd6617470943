import os
import shutil

import numpy as np
import pytest

from hfnumba.errors import StoreError
from hfnumba.ingest import write_store
from hfnumba.store import checks, files, manifest, open_store
from hfnumba.store.verify import verify
from tests.silent import Silent


def flip(path, other):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(path, other):
    first, second = path.read_bytes(), other.read_bytes()
    assert first != second
    path.write_bytes(second)
    other.write_bytes(first)


FAULTS = {
    "flip": flip,
    "swap": swap,
    "delete": lambda path, other: path.unlink(),
    "truncate": lambda path, other: path.write_bytes(path.read_bytes()[:-7]),
    "lengthen": lambda path, other: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path, other: path.write_bytes(b""),
    "folder": lambda path, other: (path.unlink(), path.mkdir()),
    "pipe": lambda path, other: (path.unlink(), os.mkfifo(path)),
    "device": lambda path, other: (path.unlink(), path.symlink_to("/dev/zero")),
}
PLACES = {
    "features": ("train/X/c/1/0", "train/X/c/2/0", 1),
    "labels": ("train/y/c/3", "train/y/c/0", 3),
    "metadata": ("train/X/zarr.json", "train/y/zarr.json", 0),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", PLACES)
def test_each_fault_is_found_and_named(store, fault, place):
    key, other, j = PLACES[place]
    split = store["train"]
    FAULTS[fault](store.path / key, store.path / other)
    problems = verify(store.path)
    named = {problem.split()[0] for problem in problems}
    assert named == ({key, other} if fault == "swap" else {key})
    with pytest.raises(StoreError, match=rf"{store.path}: .*{key}.* delete the store and build it again") as error:
        split.load(j)
    if place != "metadata":
        assert f"partition {j}" in str(error.value)
        split.load(1 if place == "labels" else 0)


@pytest.mark.parametrize("fault", ["folder", "pipe", "device"])
def test_a_manifest_that_is_no_file(store, fault):
    """A pipe would wait for a writer for ever, and a device fill the memory."""
    FAULTS[fault](store.path / "manifest.json", None)
    for read in (open_store, verify):
        with pytest.raises(StoreError, match=r"manifest.json cannot be read: .*(directory|pipe or device)"):
            read(store.path)


def test_a_manifest_of_terabytes(store):
    with (store.path / "manifest.json").open("r+b") as file:
        file.truncate(2**42)
    with pytest.raises(StoreError, match=r"manifest.json cannot be read: it has 4398046511104 bytes, expected at most"):
        open_store(store.path)


@pytest.mark.parametrize("nbytes", [0, 5])
def test_a_chunk_of_any_size_that_is_no_file(tmp_path, nbytes):
    os.mkfifo(tmp_path / "a")
    (tmp_path / "b").symlink_to("/dev/zero")
    for name in ("a", "b"):
        assert "pipe or device" in files.fault(tmp_path / name, files.FileRecord(nbytes, "0" * 64))


@pytest.mark.parametrize("fault", ["delete", "truncate", "lengthen", "empty"])
def test_a_wrong_size_does_not_open(store, fault):
    FAULTS[fault](store.path / "test/X/c/0/0", None)
    with pytest.raises(StoreError, match=r"test/X/c/0/0 .*data verify"):
        open_store(store.path)


def test_every_file_matters(store, tmp_path):
    """A flipped bit in any file is found, and the file is named."""
    keys = [p.relative_to(store.path) for p in store.path.rglob("*") if p.is_file() and p.name != "manifest.json"]
    assert len(keys) == len(store.manifest.files) > 10
    for key in keys:
        bad = tmp_path / "bad.zarr"
        shutil.copytree(store.path, bad)
        flip(bad / key, None)
        assert [problem.split()[0] for problem in verify(bad)] == [key.as_posix()]
        shutil.rmtree(bad)


def test_a_sound_store_has_no_problems_and_reports_progress(store):
    reporter = Silent()
    assert verify(store, reporter) == []
    ((what, calls),) = reporter.steps
    assert what == "Verifying" and [done for done, _, _ in calls] == list(range(1, len(calls) + 1))
    assert calls[-1][1:] == (len(calls), "files and partitions")


def test_files_that_nobody_wrote(store):
    (store.path / "train/X/c/9").mkdir()
    (store.path / "train/X/c/9/0").write_bytes(b"extra")
    assert verify(store) == ["train/X/c/9/0 is not listed in the manifest"]


def test_several_faults_are_all_named(store):
    for key in ("train/X/c/0/0", "train/X/c/1/0", "test/y/c/0"):
        (store.path / key).unlink()
    assert len(verify(store.path)) == 3
    with pytest.raises(StoreError, match="files at fault: 3"):
        open_store(store.path)


def test_rows_that_were_wrong_when_written(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "refuse", lambda *args: None)
    X = np.ones((10, 2), np.float32)
    X[3, 1] = np.nan
    store = write_store(tmp_path / "w.zarr", {"train": (X, np.arange(10))}, n_partitions=1, n_classes=5)
    features, labels = verify(store)
    assert features.startswith("train/X/c/0/0 ") and "not finite" in features
    assert labels.startswith("train/y/c/0 ") and "labels from 0 to 9, expected 0 to 4" in labels


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"uint8"', b'"int8"'), (b'"crc32c"', b'"bytes"'), (b'"name": "blosc"', b'"name": "zstd"'), (b"100", b"101")],
)
def test_metadata_of_another_hand_are_not_followed(store, old, new):
    """Matching digests are not enough: metadata with other codecs, dtypes or shapes are refused."""
    key = "train/X/zarr.json"
    document = (store.path / key).read_bytes()
    assert old in document
    (store.path / key).write_bytes(document.replace(old, new))
    records = store.manifest.files | {key: files.record(document.replace(old, new))}
    (store.path / "manifest.json").write_bytes(manifest.sealed(store.manifest.header, records))
    with pytest.raises(StoreError, match="partition 0 of train cannot be decoded"):
        open_store(store.path)["train"].load(0)


def test_a_chunk_that_zarr_cannot_decode(store, tmp_path, arrays, monkeypatch):
    """Bytes with the right digest that are not a Zarr chunk are reported in one sentence."""
    from hfnumba.store import codec

    real = codec.encode
    monkeypatch.setattr(
        codec, "encode", lambda *args: {key: b"not a chunk" + value for key, value in real(*args).items()}
    )
    bad = write_store(tmp_path / "b.zarr", arrays, n_partitions=2)
    with pytest.raises(StoreError, match="partition 1 of train cannot be decoded"):
        bad["train"].load(1)
    assert len(verify(bad)) == 4
