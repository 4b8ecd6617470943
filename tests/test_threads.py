"""A round's threads: all take part, errors come out, nothing stays behind."""

import gc
import os
import threading

import numpy as np
import pytest

from hfnumba.engine import ArrayObjective
from hfnumba.errors import UsageError
from hfnumba.network import Network
from hfnumba.processors import available_processors
from hfnumba.threads import Team
from tests.limits import LIMIT_S


def _names() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("hfnumba-")}


def test_tasks_run_at_the_same_time_and_the_first_in_the_calling_thread() -> None:
    team, met, seen = Team(3), threading.Barrier(3, timeout=LIMIT_S), {}

    def task(i: int) -> None:
        met.wait()
        seen[i] = threading.current_thread()

    for _ in range(20):
        team.run([lambda i=i: task(i) for i in range(3)])
        assert seen[0] is threading.current_thread()
        assert len(set(seen.values())) == 3
    team.close()


def test_threads_that_cannot_be_started_are_a_sentence(monkeypatch) -> None:
    started, start_thread = [], threading.Thread.start

    def start(thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start_thread(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(UsageError, match="expected to start 5 threads, but this machine allows this process 3"):
        Team(5)
    for thread in started:
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def test_threads_without_partitions_are_not_started() -> None:
    X = np.zeros((600, 3), np.float32)
    before = threading.active_count()
    with ArrayObjective(Network([3, 2]), X, np.zeros(600, int), n_partitions=4, n_threads=1_000_000) as f:
        assert threading.active_count() - before == 3
        assert f.value(np.zeros(8, np.float32)) == pytest.approx(np.log(2))


def test_an_error_in_any_thread_comes_out_after_all_have_ended() -> None:
    team, ended = Team(2), []

    def fail() -> None:
        raise ValueError("in a thread")

    for tasks in ([fail, lambda: ended.append(1)], [lambda: ended.append(1), fail]):
        with pytest.raises(ValueError, match="in a thread"):
            team.run(tasks)
    assert len(ended) == 2
    team.run([lambda: ended.append(1)] * 2)
    assert len(ended) == 4
    team.close()


@pytest.mark.parametrize("how", ["close", "forget"])
def test_threads_end_with_the_team(how: str) -> None:
    before = set(threading.enumerate())
    team = Team(3)
    mine = set(threading.enumerate()) - before
    assert len(mine) == 2
    if how == "close":
        team.close()
    del team
    gc.collect()
    for thread in mine:
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def test_one_thread_needs_no_others() -> None:
    names, team, ran = _names(), Team(1), []
    team.run([lambda: ran.append(threading.current_thread())])
    assert ran == [threading.current_thread()]
    assert _names() == names


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or available_processors() < 2, reason="needs two processors")
def test_other_threads_keep_off_the_calling_threads_processor() -> None:
    all_of_them = os.sched_getaffinity(0)
    team, seen = Team(2), []

    def look() -> None:
        seen.append(os.sched_getaffinity(0))

    os.sched_setaffinity(0, {min(all_of_them)})
    try:
        team.run([lambda: None, look])
    finally:
        os.sched_setaffinity(0, all_of_them)
    assert seen.pop() == all_of_them, "two threads on the one processor that there is cannot be kept apart"
    for _ in range(5):
        team.run([lambda: None, look])
        assert len(all_of_them - seen.pop()) == 1
    team.close()
