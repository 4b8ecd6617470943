"""Boxes: what another process sees, what is refused, and when a box is used again."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hfnumba.engine.cluster.shared_memory import (
    AnswerBox,
    Box,
    SharedMemoryError,
    VectorBoxes,
    Window,
    Windows,
    machine,
)
from tests.limits import LIMIT_S

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no memfd")

READ = """
import pickle, sys
from hfnumba.engine.cluster.shared_memory import Window
parcel = pickle.loads(bytes.fromhex(sys.argv[1]))
window = Window(parcel.place)
array = window.array(parcel)
before = array.copy()
array += 1
print(pickle.dumps((window.number(), before)).hex())
"""


def test_another_process_reads_and_cannot_change():
    vector = np.random.default_rng(0).standard_normal((3, 1000))
    box = AnswerBox()
    _, parcel = box.pack(7, [np.arange(5, dtype=np.float32), vector])
    done = subprocess.run(
        [sys.executable, "-c", READ, pickle.dumps(parcel).hex()],
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    number, seen = pickle.loads(bytes.fromhex(done.stdout.strip()))
    assert number == 7
    np.testing.assert_array_equal(seen, vector)
    np.testing.assert_array_equal(Window(parcel.place).array(parcel), vector)


def test_what_is_not_the_box_is_not_opened(tmp_path):
    box = Box(100)
    place = box.place
    Window(place)
    with (tmp_path / "f").open("wb+") as file:
        file.write(b"x" * place.nbytes)
        file.flush()
        wrong = [
            place._replace(machine=machine() + "x"),
            place._replace(token=bytes(16)),
            place._replace(fd=file.fileno()),
            place._replace(fd=10_000),
            place._replace(nbytes=place.nbytes + 1),
            place._replace(pid=2**22 - 1),
        ]
        for other in wrong:
            with pytest.raises(SharedMemoryError):
                Window(other)
    del box
    with pytest.raises(SharedMemoryError):
        Window(place)


def test_a_box_cannot_shrink_under_its_readers():
    box = Box(10_000)
    with pytest.raises(OSError):
        os.truncate(f"/proc/self/fd/{box.place.fd}", 10)
    assert Path(f"/proc/self/fd/{box.place.fd}").stat().st_size == box.place.nbytes


def test_a_window_outlives_its_box():
    box = AnswerBox()
    (parcel,) = box.pack(1, [np.arange(1000.0)])
    array = Windows().open(parcel.place).array(parcel)
    del box
    np.testing.assert_array_equal(array, np.arange(1000.0))


def test_a_vectors_box_is_used_again_only_when_its_name_is_dead():
    boxes, windows = VectorBoxes(), Windows()

    def read(parcel):
        return windows.open(parcel.place).array(parcel).copy()

    vectors = {f"v{i}": np.full(500, i, np.float32) for i in range(50)}
    tokens = set()
    for i in range(49):
        live = ["v0", f"v{i + 1}"]
        boxes.retain(live)
        parcels = {name: boxes.parcel(name, vectors[name]) for name in live}
        assert {parcel.place.token for parcel in parcels.values()} <= set(boxes.tokens())
        tokens |= set(boxes.tokens())
        for name, parcel in parcels.items():
            np.testing.assert_array_equal(read(parcel), vectors[name])
    assert len(tokens) <= 3


def test_an_answer_half_written_has_no_number():
    box = AnswerBox()
    (parcel,) = box.pack(3, [np.zeros(10)])
    window = Window(parcel.place)
    assert window.number() == 3

    class Failing:
        nbytes, shape, dtype = 80, (10,), np.dtype(np.float64)

        def __array__(self, *_):
            raise RuntimeError("while it is written")

    with pytest.raises(RuntimeError):
        box.pack(4, [Failing()])
    assert window.number() == -1


def test_without_memfd_there_is_no_box(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(SharedMemoryError):
        Box(10)
