"""`srun -n K hfnumba train … --cluster slurm`, simulated by processes with the variables of srun."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hfnumba.checkpoint import iterations
from hfnumba.errors import ClusterError, StoppedError, UsageError
from hfnumba.launch import job as launch_job
from hfnumba.launch import slurm
from hfnumba.launch.ranks import CLIENT
from hfnumba.launch.slurm import SlurmRanks, slurm_ranks
from hfnumba.stop import StopSignals
from tests.limits import LIMIT_S, until
from tests.mpi.ranks import (
    NOISE,
    SCRIPT,
    put,
    resumed,
    sigkill,
    start,
    straight,
    theta,
    train_words,
    wait_for_iteration,
)

pytest.importorskip("dask_mpi", reason="dask-mpi is missing in this environment; install hfnumba[slurm]")

# Waits for all, and exits with the first status that is not 0, as srun does with --kill-on-bad-exit=0.
SRUN = """\
import os, signal, subprocess, sys
size, script, *words = sys.argv[1:]
ranks = [
    subprocess.Popen(
        [sys.executable, script, *words],
        env={**os.environ, "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NNODES": "1",
             "SLURM_NTASKS": size, "SLURM_PROCID": str(rank)},
    )
    for rank in range(int(size))
]
with open("pids", "w") as file:
    file.write(" ".join(str(rank.pid) for rank in ranks))
signal.signal(signal.SIGUSR1, lambda *_: [rank.send_signal(signal.SIGUSR1) for rank in ranks])
statuses = [rank.wait() for rank in ranks]
sys.exit(next((status % 256 for status in [statuses[1 % len(statuses)], *statuses] if status), 0))
"""
MANY = ("--max-iterations", 100_000)


def slurm_job(n, words, cwd, **env):
    path = Path(cwd) / "hfnumba-script"
    path.write_text(SCRIPT)
    (Path(cwd) / "srun").write_text(SRUN)
    return start([sys.executable, Path(cwd) / "srun", n, path, *words], cwd, **env)


def words_of(store, run, *more):
    return train_words(store, run, *more, cluster="slurm")


def left_in(folder):
    return [path.name for path in Path(folder).iterdir() if path.name.startswith(".hfnumba")]


@pytest.mark.slow
def test_a_good_run(toy_store, tmp_path):
    job = slurm_job(3, words_of(toy_store, tmp_path / "r", "--max-iterations", 3), tmp_path)
    status, err = job.finish()
    assert status == 0, err
    assert err.count("running on slurm cluster at tls://127.0.0.1:") == 1
    for noise in NOISE:
        assert noise not in err
    assert job.left() == []
    assert left_in(tmp_path) == []
    assert theta(tmp_path / "r") == straight(toy_store, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "words", "expected", "text"),
    [
        (3, ["train", "none.zarr", "--hidden", "4"], 1, "error: "),
        (3, ["train", "none.zarr", "--hiden", "4"], 2, "No such option"),
        (2, ["train", "none.zarr", "--hidden", "4"], 2, "error: --cluster slurm needs at least 3 ranks"),
    ],
)
def test_a_mistake_is_told_once_and_ends_all_ranks(tmp_path, n, words, expected, text):
    job = slurm_job(n, [*words, "--cluster", "slurm"], tmp_path)
    status, err = job.finish()
    assert (status, err.count(text)) == (expected, 1), err
    assert job.left() == []
    assert left_in(tmp_path) == []


@pytest.mark.slow
def test_sigusr1_stops_at_a_checkpoint(toy_store, tmp_path):
    run = tmp_path / "r"
    job = slurm_job(3, words_of(toy_store, run, *MANY), tmp_path)
    wait_for_iteration(job, run, 1)
    os.kill(job.process.pid, signal.SIGUSR1)
    status, err = job.finish()
    assert status == 75, err
    assert err.count("stopping after this iteration") == 1
    assert job.left() == []
    assert left_in(tmp_path) == []


@pytest.mark.slow
def test_a_killed_worker_comes_back_and_the_bits_are_the_same(toy_store, tmp_path):
    run, n = tmp_path / "r", 60
    job = slurm_job(4, words_of(toy_store, run, "--max-iterations", n), tmp_path)
    wait_for_iteration(job, run, 1)
    sigkill(job.workers()[0])
    status, err = job.finish()
    assert status == 0, err
    assert theta(run) == straight(toy_store, n)
    assert job.left() == []


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_without_scheduler_or_client_nothing_is_left(toy_store, tmp_path, victim):
    run = tmp_path / "r"
    job = slurm_job(3, words_of(toy_store, run, *MANY), tmp_path)
    wait_for_iteration(job, run, 1)
    sigkill(job.ranks()[victim])
    status, err = job.finish()
    assert status not in (0, 75)
    assert "Traceback" not in err
    if victim == 0:
        assert err.count("error: the scheduler is gone") == 1
    assert job.left() == []
    n = iterations(run / "checkpoints")[-1] + 2
    assert resumed(toy_store, run, n) == straight(toy_store, n)


@pytest.mark.slow
def test_a_frozen_nanny_does_not_keep_the_job_from_ending(toy_store, tmp_path):
    run, folder = tmp_path / "r", tmp_path / "bin"
    folder.mkdir()
    put(folder / "scancel", f'#!/bin/sh\n[ "$2" = 7.0 ] && kill "-${{1#--signal=}}" $(cat {tmp_path}/pids)\n')
    words = words_of(toy_store, run, "--max-iterations", 200, "--worker-timeout-s", 10)
    job = slurm_job(4, words, tmp_path, PATH=os.pathsep.join([str(folder), os.environ["PATH"]]))
    wait_for_iteration(job, run, 1)
    job.ranks()[2].suspend()
    status, err = job.finish()
    assert status == 0, err
    assert err.count("ranks do not end (rank 2); the step gets SIGCONT; the status of the run is 0") == 1
    assert job.left() == []
    assert left_in(tmp_path) == []


def test_ranks_that_do_not_end_are_woken_and_then_killed(tmp_path, monkeypatch, caplog):
    asked = []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_STEP_ID", "2")
    monkeypatch.setattr(slurm, "CLOSE_PATIENCE_S", 0.1)
    monkeypatch.setattr(subprocess, "run", lambda words, **_: asked.append(words))
    ranks = [SlurmRanks(rank, 3, 3, tmp_path / "meet") for rank in (0, 1)]
    for one in reversed(ranks):
        one.close(75)
    assert asked == [["scancel", f"--signal={name}", "7.2"] for name in ("CONT", "KILL")]
    assert "ranks do not end (rank 2); the step gets SIGKILL; the status of the run is 75" in caplog.text
    assert not (tmp_path / "meet").exists()


def test_without_srun(monkeypatch):
    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    with pytest.raises(UsageError, match=r"needs srun, which sets SLURM_JOB_ID.*SLURM_STEP_ID.* missing"):
        slurm_ranks()


@pytest.mark.parametrize(
    ("variables", "n_here", "share"),
    [
        ({"SLURM_NNODES": "1"}, 6, 4),
        ({"SLURM_NNODES": "4", "SLURM_STEP_NUM_NODES": "1"}, 6, 4),
        ({"SLURM_NNODES": "2", "SLURM_GTIDS": "3,4"}, 2, 2),
        ({"SLURM_NNODES": "4"}, 2, 2),
        ({}, 1, 1),
    ],
)
def test_the_workers_of_a_machine_share_its_memory(monkeypatch, tmp_path, variables, n_here, share):
    for name in ("SLURM_NNODES", "SLURM_STEP_NUM_NODES", "SLURM_GTIDS"):
        monkeypatch.delenv(name, raising=False)
    base = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_NTASKS": "6"}
    for name, value in (base | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch_job, "available_memory", lambda: 2**30)
    ranks = slurm_ranks()
    assert ranks.n_here == n_here
    assert launch_job._worker_memory(ranks) == 2**30 // share


def in_threads(ranks, work):
    """Run a function in all ranks at once; return the results."""
    results = {}

    def run(one):
        try:
            results[one.rank] = work(one)
        except ClusterError as error:
            results[one.rank] = error

    threads = [threading.Thread(target=run, args=(one,)) for one in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    return results


def test_messages_reach_all_ranks_and_the_files_are_private(tmp_path):
    place = tmp_path / "meet"
    ranks = [SlurmRanks(rank, 3, 3, place) for rank in (0, 1, 2)]
    modes = set()

    def work(one):
        first = one.bcast({"key": "k"} if one.rank == 0 else None, 0)
        if one.rank == 0:
            modes.update(path.stat().st_mode & 0o777 for path in [place, *place.iterdir()])
        second = one.bcast([1, 2] if one.rank == CLIENT else None, CLIENT)
        one.Barrier()
        if one.rank == 0:
            # The key is gone as soon as all have it.
            until(lambda: not list(place.glob("*message")))
        one.close(0)
        return first, second

    assert in_threads(ranks, work) == dict.fromkeys((0, 1, 2), ({"key": "k"}, [1, 2]))
    assert modes == {0o700, 0o600}
    assert not place.exists()


def test_a_rank_that_has_failed_is_named_to_those_that_wait(tmp_path):
    ranks = [SlurmRanks(rank, 3, 3, tmp_path / "meet") for rank in (0, 1)]
    (tmp_path / "meet" / "aborted").write_text(json.dumps(2))
    for result in in_threads(ranks, lambda one: one.bcast(None, 2)).values():
        assert "rank 2 has failed" in str(result)


def test_nobody_waits_for_ever(tmp_path):
    ranks = SlurmRanks(0, 3, 3, tmp_path / "meet")
    with pytest.raises(ClusterError, match=r"a message from rank 1 did not arrive within 0 s"):
        ranks.bcast(None, 1, patience_s=0.1)


def test_a_rank_that_freezes_while_it_starts_does_not_keep_the_others(tmp_path):
    """Its messages stay until it wakes."""
    ranks = [SlurmRanks(rank, 3, 3, tmp_path / "meet") for rank in (0, 1, 2)]
    for one in ranks:
        assert one.bcast("key" if one.rank == 0 else None, 0) == "key"
        one.Barrier()
    until(lambda: not list((tmp_path / "meet").glob("*message")))


def test_a_signal_ends_the_wait_for_other_ranks(tmp_path):
    with StopSignals(lambda name: None) as stop:
        stop.received = "SIGTERM"
        with pytest.raises(StoppedError, match="SIGTERM"):
            SlurmRanks(1, 3, 3, tmp_path / "meet").bcast(None, 0)


def test_a_directory_of_others_is_refused(tmp_path):
    place = tmp_path / "meet"
    place.mkdir(mode=0o755)
    with pytest.raises(ClusterError, match="is left from another start of this step"):
        SlurmRanks(0, 3, 3, place)
    with pytest.raises(ClusterError, match="is open to other users"):
        SlurmRanks(1, 3, 3, place).bcast({}, 1)
    with pytest.raises(ClusterError, match="cannot be made"):
        SlurmRanks(0, 3, 3, tmp_path / "none" / "meet")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_a_message_of_another_user_is_refused(tmp_path):
    """The directory may have been replaced since it was checked, where others can write to the one above it."""
    SlurmRanks(0, 3, 3, tmp_path / "meet")
    message = tmp_path / "meet" / "001-message"
    message.write_text("{}")
    assert SlurmRanks(1, 3, 3, tmp_path / "meet").bcast(None, 0) == {}
    os.chown(message, 65534, 65534)
    with pytest.raises(ClusterError, match="belongs to another user"):
        SlurmRanks(1, 3, 3, tmp_path / "meet").bcast(None, 0)
