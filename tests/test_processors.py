"""Processors and memory that a process may use, in control groups of both versions."""

import os
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from hfnumba import linux, processors
from hfnumba.processors import available_memory, available_processors
from tests.limits import LIMIT_S

GIB = 2**30
V1, V2 = "memory.limit_in_bytes", "memory.max"
NO_LIMIT = "9223372036854771712"


def proc(folder, groups, mounts, files):
    """A folder like /proc/self of a process in some groups, and the files of groups below mounts in it."""
    (folder / "cgroup").write_text("".join(f"{line}\n" for line in groups))
    lines = [
        f"{i} 1 0:{i} {root} {folder / place} rw,nosuid master:{i} - {kind} {kind} rw,{options}\n"
        for i, (root, place, kind, options) in enumerate(mounts)
    ]
    (folder / "mountinfo").write_text("20 1 8:1 / / rw - ext4 /dev/sda rw\n" + "".join(lines))
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    return folder


TWO = [("/", "sys/unified", "cgroup2", "")]
MEMORY = [("/", "sys/memory", "cgroup", "memory")]
CPU = [("/", "sys/cpu", "cgroup", "cpu,cpuacct")]


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "expected"),
    [
        # A container of its own name space, and one that is told the machine's name of its group.
        (["0::/"], TWO, {f"sys/unified/{V2}": GIB}, GIB),
        (["0::/"], TWO, {f"sys/unified/{V2}": "max"}, None),
        (["0::/docker/a"], [("/docker/a", *TWO[0][1:])], {f"sys/unified/{V2}": GIB}, GIB),
        (["4:memory:/docker/a"], MEMORY, {f"sys/memory/{V1}": GIB}, GIB),
        (["4:memory:/docker/a"], [("/docker/a", *MEMORY[0][1:])], {f"sys/memory/{V1}": GIB}, GIB),
        (["4:memory:/"], MEMORY, {f"sys/memory/{V1}": NO_LIMIT}, int(NO_LIMIT)),
        # A job of a batch system: the least of its step, its job and the user counts.
        (
            ["0::/slurm/job_7/step_0"],
            TWO,
            {"sys/unified/slurm/job_7/memory.max": GIB, "sys/unified/slurm/job_7/step_0/memory.max": "max"},
            GIB,
        ),
        (
            ["5:cpu,cpuacct:/", "4:memory:/slurm/uid_1/job_7"],
            CPU + MEMORY,
            {f"sys/memory/slurm/uid_1/{V1}": GIB, f"sys/memory/slurm/uid_1/job_7/{V1}": 3 * GIB},
            GIB,
        ),
        # Above this a process of version 2 is slowed down until it hardly goes on.
        (["0::/a"], TWO, {f"sys/unified/a/{V2}": 2 * GIB, "sys/unified/a/memory.high": GIB}, GIB),
        # Both versions at once, as systemd has them.
        (["4:memory:/a", "0::/b"], TWO + MEMORY, {f"sys/memory/a/{V1}": GIB, f"sys/unified/b/{V2}": 2 * GIB}, GIB),
        (["4:memory:/b", "0::/a"], TWO, {f"sys/unified/b/{V2}": GIB}, None),
        ([], [], {}, None),
        (["not like that"], TWO, {}, None),
    ],
)
def test_memory_of_control_groups(tmp_path, groups, mounts, files, expected):
    assert linux.memory_limit(proc(tmp_path, groups, mounts, files)) == expected


def test_a_limit_that_changes_while_a_process_runs_is_seen(tmp_path):
    here = proc(tmp_path, ["0::/a"], TWO, {f"sys/unified/a/{V2}": 2 * GIB})
    assert linux.memory_limit(here) == 2 * GIB
    (tmp_path / f"sys/unified/a/{V2}").write_text(f"{GIB}\n")
    assert linux.memory_limit(here) == GIB


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "expected"),
    [
        (["0::/"], TWO, {"sys/unified/cpu.max": "150000 100000"}, 1.5),
        (["0::/"], TWO, {"sys/unified/cpu.max": "max 100000"}, None),
        (["0::/a/b"], TWO, {"sys/unified/a/cpu.max": "50000 100000", "sys/unified/a/b/cpu.max": "max 100000"}, 0.5),
        (["3:cpu,cpuacct:/"], CPU, {"sys/cpu/cpu.cfs_quota_us": 300000, "sys/cpu/cpu.cfs_period_us": 100000}, 3),
        (["3:cpu,cpuacct:/"], CPU, {"sys/cpu/cpu.cfs_quota_us": -1, "sys/cpu/cpu.cfs_period_us": 100000}, None),
        (["3:cpu,cpuacct:/"], CPU, {}, None),
    ],
)
def test_processors_of_control_groups(tmp_path, groups, mounts, files, expected):
    assert linux.processor_limit(proc(tmp_path, groups, mounts, files)) == expected


def test_without_proc_nothing_limits(tmp_path):
    assert linux.memory_limit(tmp_path / "none") is None
    assert linux.processor_limit(tmp_path / "none") is None


def test_the_least_of_machine_and_limits_counts(monkeypatch):
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed = len(os.sched_getaffinity(0))
    for memory, expected in ((None, machine), (machine * 2, machine), (GIB // 4, GIB // 4)):
        monkeypatch.setattr(linux, "memory_limit", lambda memory=memory: memory)
        assert available_memory() == expected
    for limit, n in ((None, allowed), (0.2, 1), (1.0, 1), (allowed - 0.5, allowed), (allowed + 3.5, allowed)):
        monkeypatch.setattr(linux, "processor_limit", lambda limit=limit: limit)
        assert available_processors() == n


@pytest.fixture
def groups():
    """Control groups of this machine, for memory and for processors, that a process may join."""
    name = f"hfnumba-{uuid.uuid4().hex}"
    made = [Path("/sys/fs/cgroup") / controller / name for controller in ("memory", "cpu")]
    try:
        for folder in made:
            folder.mkdir()
        (made[0] / V1).write_text(str(600 * 2**20))
        (made[1] / "cpu.cfs_quota_us").write_text("50000")
        yield made
    except OSError:
        pytest.skip("needs control groups of version 1 that this user can make")
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def test_in_a_group_of_the_machine(groups):
    joined = "".join(f"echo $$ > {folder}/cgroup.procs; " for folder in groups)
    code = "from hfnumba.processors import *; print(available_processors(), available_memory())"
    words = ["sh", "-c", f'{joined} exec "$0" -c "{code}"', sys.executable]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert done.stdout.split() == ["1", str(600 * 2**20)]


def test_workers_that_could_not_start_are_refused_by_name():
    from hfnumba.errors import ClusterError

    processors.check_memory({})
    processors.check_memory({"tcp://a": None, "tcp://b": 0, "tcp://c": processors.LEAST_MEMORY})
    small = {f"tcp://{name}": 150_000_000 for name in "abcd"}
    with pytest.raises(
        ClusterError, match=r"4 of 5 workers have a memory limit below the 285MiB.*and 1 more"
    ) as caught:
        processors.check_memory(small | {"tcp://e": GIB})
    assert "(tcp://a has 144MiB; tcp://b has 144MiB; tcp://c has 144MiB and 1 more)" in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "n_threads", "expected"),
    [
        (16 * GIB, 2, GIB),  # a quarter of the machine by itself, so a quarter of the group
        (64 * GIB, 8, 4 * GIB),
        (64 * GIB, 20, 4 * GIB),
        (GIB // 2, 2, GIB // 2),  # given by hand
        (16 * GIB, 4, 16 * GIB),
        (None, 2, None),
    ],
)
def test_workers_that_are_started_by_hand_divide_the_memory_of_their_control_group(
    monkeypatch, limit, n_threads, expected
):
    monkeypatch.setattr("dask.system.CPU_COUNT", 8)
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 64 * GIB)
    monkeypatch.setattr(processors, "available_memory", lambda: 4 * GIB)
    assert processors.worker_memory(limit, n_threads) == expected
