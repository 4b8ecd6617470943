"""Pools of threads that compute many answers."""

import threading

import numpy as np
import pytest

from hfnumba.errors import UsageError
from hfnumba.launch.pool import open_pool
from hfnumba.launch.spec import Placement


def test_threads_that_cannot_be_started_are_a_sentence(monkeypatch):
    started, start_thread, both = [], threading.Thread.start, threading.Event()

    def start(thread):
        if len(started) == 2:
            both.set()
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start_thread(thread)

    def task(shared, i):
        both.wait()
        return np.array([shared + i])

    monkeypatch.setattr(threading.Thread, "start", start)
    with (
        pytest.raises(UsageError, match=r"expected to start 5 threads, .* fewer \(can't start new thread\); give a"),
        open_pool(7, Placement(None, ""), 5) as pool,
    ):
        list(pool.map(task, [(i,) for i in range(9)]))
    assert not any(thread.is_alive() for thread in started)
