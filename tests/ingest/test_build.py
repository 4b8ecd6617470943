import errno
import fcntl
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from hfnumba import atomic
from hfnumba.errors import DataError, StoreError, UsageError
from hfnumba.ingest import build, finalise, init, write_frames, write_partition, write_store
from hfnumba.ingest.writer import locked
from hfnumba.store import files, open_store
from hfnumba.store.verify import verify
from tests.limits import LIMIT_S


def steps(recipe, out, order=None, **options):
    path, n_partitions = init(recipe, recipe.parent, out, **options)
    for j in order or range(n_partitions):
        write_partition(path, j)
    return finalise(path)


def test_build_and_its_steps_give_the_same_bytes(idx_dir, tmp_path, read_tree):
    recipe = idx_dir / "tiny.toml"
    whole = build(recipe, idx_dir, tmp_path / "a.zarr", n_partitions=5, seed=4)
    order = [3, 0, 4, 1, 2, 2, 0]
    parts = steps(recipe, tmp_path / "b.zarr", order, n_partitions=5, seed=4)
    assert read_tree(whole.path) == read_tree(parts.path)
    assert whole.digest == parts.digest
    assert not (whole.path / ".building").exists()


def test_build_and_arrays_give_the_same_chunks(idx_dir, tmp_path, arrays, read_tree):
    whole = build(idx_dir / "tiny.toml", idx_dir, tmp_path / "a.zarr", n_partitions=4, seed=3)
    other = write_store(tmp_path / "b.zarr", arrays, n_partitions=4, seed=3)
    first, second = read_tree(whole.path), read_tree(other.path)
    assert first.pop("manifest.json") != second.pop("manifest.json")
    assert first == second


def test_repeating_a_step_changes_nothing(idx_dir, tmp_path, read_tree):
    recipe, out = idx_dir / "tiny.toml", tmp_path / "a.zarr"
    store = steps(recipe, out, n_partitions=3)
    before = read_tree(out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert init(recipe, idx_dir, out, n_partitions=3) == (out, 3)
    write_partition(out, 1)
    assert finalise(out).digest == store.digest
    assert build(recipe, idx_dir, out, n_partitions=3).digest == store.digest
    assert read_tree(out) == before
    assert stamps == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_a_written_partition_is_not_written_again(idx_dir, tmp_path):
    out, _ = init(idx_dir / "tiny.toml", idx_dir, tmp_path / "a.zarr", n_partitions=3)
    write_partition(out, 1)
    chunk = out / "train/X/c/1/0"
    before = chunk.stat().st_mtime_ns
    write_partition(out, 1)
    assert chunk.stat().st_mtime_ns == before
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    write_partition(out, 1)
    write_partition(out, 0)
    write_partition(out, 2)
    assert verify(finalise(out)) == []


def test_an_unfinished_store_does_not_open_and_says_what_is_missing(idx_dir, tmp_path):
    recipe, out = idx_dir / "tiny.toml", tmp_path / "a.zarr"
    with pytest.raises(StoreError, match="no store was begun"):
        write_partition(out, 0)
    init(recipe, idx_dir, out, n_partitions=4)
    write_partition(out, 1)
    with pytest.raises(StoreError, match="unfinished"):
        open_store(out)
    with pytest.raises(StoreError, match=r"these are missing: 0, 2, 3; .*data partition"):
        finalise(out)
    with pytest.raises(UsageError, match="from 0 to 3, got 4"):
        write_partition(out, 4)
    assert verify(build(recipe, idx_dir, out, n_partitions=4)) == []


def test_a_chunk_damaged_before_the_end_is_not_blessed(idx_dir, tmp_path):
    out, n_partitions = init(idx_dir / "tiny.toml", idx_dir, tmp_path / "a.zarr", n_partitions=4)
    for j in range(n_partitions):
        write_partition(out, j)
    (out / "test/y/c/2").write_bytes(b"?")
    with pytest.raises(StoreError, match="test/y/c/2 has 1 bytes"):
        finalise(out)
    with pytest.raises(StoreError, match="unfinished"):
        open_store(out)
    assert verify(build(idx_dir / "tiny.toml", idx_dir, out, n_partitions=4)) == []


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"seed": 1}, "seed is 0, requested 1"),
        ({"n_partitions": 7}, "n_partitions is 4"),
        ({"rows": 50}, "rows is not given, requested 50"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_touched(idx_dir, tmp_path, read_tree, finished, options, complaint):
    recipe, out = idx_dir / "tiny.toml", tmp_path / "a.zarr"
    (build if finished else init)(recipe, idx_dir, out, n_partitions=4)
    before = read_tree(out)
    with pytest.raises(StoreError, match=rf"already holds an? (unfinished )?store .*{complaint}"):
        build(recipe, idx_dir, out, **({"n_partitions": 4} | options))
    assert read_tree(out) == before


def test_other_things_at_the_place_are_left_alone(tmp_path, arrays, read_tree):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("mine")
    with pytest.raises(StoreError, match="not empty and not a store"):
        write_store(tmp_path / "thesis", arrays)
    with pytest.raises(StoreError, match="is a file"):
        write_store(tmp_path / "thesis/chapter.txt", arrays)
    assert read_tree(tmp_path) == {"thesis/chapter.txt": b"mine"}


def test_a_source_that_changed_meanwhile(idx_dir, tmp_path):
    out, _ = init(idx_dir / "tiny.toml", idx_dir, tmp_path / "a.zarr", n_partitions=4)
    images = idx_dir / "train-X"
    images.write_bytes(images.read_bytes()[:-1] + b"\xfe")
    with pytest.raises(DataError, match=r"has changed since the store was begun .*sources differ"):
        write_partition(out, 0)


def test_rows_are_a_prefix_of_all_rows(idx_dir, tmp_path):
    recipe = idx_dir / "tiny.toml"
    some = build(recipe, idx_dir, tmp_path / "a.zarr", n_partitions=1, rows=30)
    whole = build(recipe, idx_dir, tmp_path / "b.zarr", n_partitions=1)
    assert some["train"].n_rows == 30 and some["test"].n_rows == whole["test"].n_rows == 37
    for few, many in zip(some["train"].load(0), whole["train"].load(0), strict=True):
        np.testing.assert_array_equal(few, many[:30])
    with pytest.raises(UsageError, match="from 1 to the 100 training rows there are, got 101"):
        build(recipe, idx_dir, tmp_path / "c.zarr", rows=101)
    assert not (tmp_path / "c.zarr").exists()


def test_training_rows_are_held_out_for_validation(idx_dir, tmp_path, read_tree):
    recipe, options = idx_dir / "tiny.toml", {"n_partitions": 3, "seed": 5}
    plain = build(recipe, idx_dir, tmp_path / "a.zarr", **options)
    store = build(recipe, idx_dir, tmp_path / "b.zarr", validation=0.125, **options)
    assert list(store.splits) == ["train", "validation", "test"]
    found = {
        name: [np.concatenate(rows) for rows in zip(*map(split.load, range(split.n_partitions)), strict=True)]
        for name, split in store.splits.items()
    }
    train, test = (
        [np.concatenate(rows) for rows in zip(*map(plain[name].load, range(3)), strict=True)]
        for name in ("train", "test")
    )
    # 13 of 100 rows, from the end of the shuffled order.
    for i in (0, 1):
        np.testing.assert_array_equal(found["train"][i], train[i][:87])
        np.testing.assert_array_equal(found["validation"][i], train[i][87:])
        np.testing.assert_array_equal(found["test"][i], test[i])
    parts = steps(recipe, tmp_path / "c.zarr", validation=0.125, **options)
    assert read_tree(parts.path) == read_tree(store.path)
    fewer = build(recipe, idx_dir, tmp_path / "d.zarr", validation=0.125, rows=10, **options)
    assert [split.n_rows for split in fewer.splits.values()] == [10, 13, 37]
    for requested in (0.5, None):
        word = "not given" if requested is None else "0.5"
        with pytest.raises(StoreError, match=rf"\(splits differ; validation is 0.125, requested {word}\)"):
            build(recipe, idx_dir, store.path, validation=requested, **options)


def test_a_second_split_for_validation_is_refused(tmp_path):
    X, y = np.arange(24.0).reshape(12, 2), np.arange(12) % 2
    for name in ("train", "validation", "test"):
        np.save(tmp_path / f"{name}-X.npy", X)
        np.save(tmp_path / f"{name}-y.npy", y)
    lines = ['name = "three"', 'format = "npy"']
    for name in ("train", "validation", "test"):
        lines += [f"[arrays.{name}]", f'features = ["{name}-X.npy"]', f'labels = ["{name}-y.npy"]']
    (tmp_path / "three.toml").write_text("\n".join(lines))
    assert list(build(tmp_path / "three.toml", tmp_path, tmp_path / "a.zarr").splits) == ["train", "validation", "test"]
    with pytest.raises(UsageError, match="has a split validation already; leave out --validation"):
        build(tmp_path / "three.toml", tmp_path, tmp_path / "b.zarr", validation=0.1)


@pytest.mark.parametrize(
    "options",
    [{"n_partitions": 0}, {"seed": -1}, {"rows": 0}, {"seed": 2**63}, {"validation": 0.0}, {"validation": 1.0}],
)
def test_impossible_settings(idx_dir, tmp_path, options):
    with pytest.raises(UsageError):
        build(idx_dir / "tiny.toml", idx_dir, tmp_path / "c.zarr", **options)
    assert not (tmp_path / "c.zarr").exists()


class Killed(BaseException):
    """Stands for SIGKILL: no code may catch it and clean up."""


class Disk:
    """Makes the k-th operation of writing (data, rename, sync of a file or a folder) fail half-way."""

    def __init__(self, monkeypatch, error):
        self.error, self.fail_at, self.count = error, None, 0
        self.lock = threading.Lock()
        real_write, real_replace = atomic.write_all, os.replace

        def write(descriptor, data):
            if self.due():
                os.write(descriptor, data[: len(data) // 2])
                raise self.error
            real_write(descriptor, data)

        def replace(source, target):
            if self.due():
                raise self.error
            real_replace(source, target)

        def synced(real):
            def sync(path):
                real(path)
                if self.due():
                    raise self.error

            return sync

        monkeypatch.setattr(atomic, "write_all", write)
        monkeypatch.setattr(atomic.os, "replace", replace)
        for module in (atomic, files):
            monkeypatch.setattr(module, "sync_folder", synced(atomic.sync_folder))
        monkeypatch.setattr(files, "sync", synced(atomic.sync))

    def due(self):
        with self.lock:
            self.count += 1
            return self.count - 1 == self.fail_at

    def run(self, fail_at, action):
        self.fail_at, self.count = fail_at, 0
        return action()


@pytest.fixture
def quick_path(tmp_path):
    """A folder in memory, if there is one: on a disk, renaming and removing files takes milliseconds."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("kind", "error"),
    [("rows", OSError(errno.ENOSPC, "No space left on device")), ("rows", Killed()), ("frames", Killed())],
    ids=["full", "killed", "frames"],
)
def test_a_fault_at_every_single_step_of_writing(quick_path, arrays, monkeypatch, read_tree, kind, error):
    """After a failure of any operation the store does not open or is complete, and the same command completes it."""
    held = {name: np.array_split(X.astype(np.float32), 5) for name, (X, _) in arrays.items()}
    utterances = {name: [(X, np.arange(len(X)) % 3) for X in parts] for name, parts in held.items()}

    def write_to(path):
        if kind == "rows":
            return write_store(path, arrays, n_partitions=2)
        return write_frames(path, utterances, n_partitions=2, context=1)

    reference = write_to(quick_path / "reference.zarr")
    expected = read_tree(reference.path)
    disk = Disk(monkeypatch, error)
    out = quick_path / "a.zarr"

    def write():
        return write_to(out)

    disk.run(None, write)
    n_steps = disk.count
    shutil.rmtree(out)
    assert n_steps >= 3 * len(expected)
    opened = 0
    for k in range(n_steps):
        with pytest.raises((StoreError, Killed)) as caught:
            disk.run(k, write)
        if error.args and error.errno == errno.ENOSPC:
            assert "the disk is full" in str(caught.value) and str(out) in str(caught.value)
        try:
            store = open_store(out)
        except StoreError as refusal:
            assert re.search("unfinished|is not a store|there is no store", str(refusal))
        else:
            opened += 1
            assert verify(store) == [] and store.digest == reference.digest
        assert disk.run(None, write).digest == reference.digest
        assert read_tree(out) == expected
        shutil.rmtree(out)
    # Only a failure of the last operation, the sync after renaming the manifest, leaves a store that opens.
    assert opened == 1


def _build_and_die(recipe, out, k):
    real, count = os.replace, 0

    def replace(source, target):
        nonlocal count
        if count == k:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        real(source, target)

    os.replace = replace
    build(recipe, recipe.parent, out, n_partitions=3)


@pytest.mark.parametrize("k", [0, 5, 12])
def test_a_killed_build_is_continued(idx_dir, tmp_path, read_tree, k):
    recipe, out = idx_dir / "tiny.toml", tmp_path / "a.zarr"
    process = multiprocessing.get_context("spawn").Process(target=_build_and_die, args=(recipe, out, k))
    process.start()
    process.join(LIMIT_S)
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(StoreError, match="unfinished"):
        open_store(out)
    store = build(recipe, idx_dir, out, n_partitions=3)
    assert verify(store) == []
    assert read_tree(out) == read_tree(build(recipe, idx_dir, tmp_path / "b.zarr", n_partitions=3).path)


def test_partitions_written_by_several_processes_at_once(idx_dir, tmp_path, read_tree):
    recipe = idx_dir / "tiny.toml"
    out, n_partitions = init(recipe, idx_dir, tmp_path / "a.zarr", n_partitions=6)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(write_partition, [(out, j % n_partitions) for j in range(2 * n_partitions)], chunksize=1)
    finalise(out)
    assert read_tree(out) == read_tree(build(recipe, idx_dir, tmp_path / "b.zarr", n_partitions=6).path)


def _build_with_a_pause(recipe, out, begun, go_on):
    """Build, but wait before the third file is written."""
    real, count = os.replace, 0

    def replace(source, target):
        nonlocal count
        count += 1
        if count == 3:
            begun.set()
            go_on.wait(LIMIT_S)
        real(source, target)

    os.replace = replace
    build(recipe, recipe.parent, out, n_partitions=3, seed=1)


def test_two_builds_at_one_place(idx_dir, tmp_path, arrays, read_tree):
    """Of builds with other settings at one place, 3 of 10 left a damaged store that opened."""
    recipe, out = idx_dir / "tiny.toml", tmp_path / "a.zarr"
    spawn = multiprocessing.get_context("spawn")
    begun, go_on = spawn.Event(), spawn.Event()
    process = spawn.Process(target=_build_with_a_pause, args=(recipe, out, begun, go_on))
    process.start()
    assert begun.wait(LIMIT_S)
    others = (
        lambda: build(recipe, idx_dir, out, n_partitions=3, seed=2),
        lambda: build(recipe, idx_dir, out, n_partitions=3, seed=1),
        lambda: write_store(out, arrays),
        lambda: finalise(out),
    )
    for other in others:
        with pytest.raises(
            StoreError, match=rf"another process is building {out} \(it has locked .*lock\); wait for it"
        ):
            other()
    go_on.set()
    process.join(LIMIT_S)
    assert process.exitcode == 0
    store = open_store(out)
    assert verify(store) == [] and store.manifest.header.seed == 1
    assert read_tree(out) == read_tree(build(recipe, idx_dir, tmp_path / "b.zarr", n_partitions=3, seed=1).path)
    # Complete now: the same settings open it, others are refused.
    assert build(recipe, idx_dir, out, n_partitions=3, seed=1).digest == store.digest
    with pytest.raises(StoreError, match="already holds a store with other settings"):
        build(recipe, idx_dir, out, n_partitions=3, seed=2)


def _begin_when_told(recipe, out, start, seed):
    start.wait(LIMIT_S)
    try:
        build(recipe, recipe.parent, out, n_partitions=3, seed=seed)
    except StoreError as error:
        return str(error)
    return seed


@pytest.mark.slow
def test_many_builds_at_one_place(idx_dir, tmp_path):
    recipe = idx_dir / "tiny.toml"
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, spawn.Pool(4) as pool:
        for attempt in range(10):
            out, start = tmp_path / f"{attempt}.zarr", manager.Event()
            results = pool.starmap_async(
                _begin_when_told, [(recipe, out, start, seed) for seed in range(4)], chunksize=1
            )
            start.set()
            found = results.get(LIMIT_S)
            store = open_store(out)
            assert verify(store) == [] and not (out / ".building").exists()
            assert [seed for seed in found if isinstance(seed, int)] == [store.manifest.header.seed]
            refusals = [text for text in found if isinstance(text, str)]
            assert all(re.search("another process is building|with other settings", text) for text in refusals)


def test_a_file_system_without_locks(idx_dir, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    recipe, out = idx_dir / "tiny.toml", tmp_path / "a.zarr"
    # Another process, whose lock is a file.
    with locked(out), pytest.raises(StoreError, match=r"another process is building.*if it was killed, delete"):
        build(recipe, idx_dir, out)
    assert not out.exists()
    store = build(recipe, idx_dir, out)
    assert verify(store) == [] and not (out / ".building").exists()


@pytest.mark.parametrize("name", ["plan.json", "partition-000001.json"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_notes_of_an_unfinished_store_that_are_no_files(idx_dir, tmp_path, name, make):
    out, n_partitions = init(idx_dir / "tiny.toml", idx_dir, tmp_path / "a.zarr", n_partitions=3)
    for j in range(n_partitions):
        write_partition(out, j)
    (out / ".building" / name).unlink()
    make(out / ".building" / name)
    with pytest.raises(StoreError, match=r"plan.json cannot be read|these are missing: 1"):
        finalise(out)


def test_arrays_cannot_be_continued_from_elsewhere(tmp_path, arrays, monkeypatch):
    disk = Disk(monkeypatch, OSError(errno.EIO, "Input/output error"))
    out = tmp_path / "a.zarr"
    with pytest.raises(StoreError, match="Input/output error"):
        disk.run(25, lambda: write_store(out, arrays, n_partitions=4))
    with pytest.raises(StoreError, match="call write_store with them again"):
        write_partition(out, 3)
