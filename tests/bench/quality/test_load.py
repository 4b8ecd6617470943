"""Measured load of other processes."""

import multiprocessing
import time

from hfnumba.bench.quality.load import MachineLoad


def burn(seconds):
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def test_time_of_other_processes_is_seen_and_lies_in_0_to_1():
    load, start = MachineLoad(), time.perf_counter()
    other = multiprocessing.get_context("spawn").Process(target=burn, args=(1.0,))
    other.start()
    other.join()
    share = load.others()
    available = (time.perf_counter() - start) * multiprocessing.cpu_count()
    # The kernel counts in ticks of 10 ms.
    assert 0.9 / available <= share <= 1


def test_own_time_is_not_that_of_others():
    load, start = MachineLoad(), time.perf_counter()
    burn(0.5)
    available = (time.perf_counter() - start) * multiprocessing.cpu_count()
    assert load.others() <= 1 - 0.4 / available
