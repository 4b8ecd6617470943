"""`mpirun -n K hfnumba train … --cluster mpi` with real MPIs: exit statuses, bits, and no leftover processes."""

import http.client
import importlib.util
import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest
from distributed import Client
from distributed.security import Security

from hfnumba.checkpoint import iterations
from hfnumba.errors import UsageError
from hfnumba.launch.job import join
from hfnumba.launch.mpi import mpi_ranks
from hfnumba.processors import available_memory
from tests.limits import LIMIT_S
from tests.mpi.ranks import (
    FAILING_SCRIPT,
    KFAC,
    NOISE,
    alone,
    mpi_job,
    sigkill,
    straight,
    theta,
    train_words,
    wait_for_iteration,
)

MANY = ("--max-iterations", 100_000)


def check_good_run(mpi, store, tmp_path, *more):
    job = mpi_job(mpi, 4, train_words(store, tmp_path / "r", "--max-iterations", 3, *more), tmp_path)
    status, err = job.finish()
    assert status == 0, err
    assert err.count("running on mpi cluster at tls://127.0.0.1:") == 1
    assert ", 2 workers × 1 thread" in err
    assert "the limit of iterations is reached" in err
    for noise in NOISE:
        assert noise not in err
    assert job.left() == []
    assert theta(tmp_path / "r") == straight(store, 3, *more)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], KFAC], ids=["hf-cg", "kfac"])
def test_a_good_run_is_quiet_and_has_the_bits_of_one_process(mpich, toy_store, tmp_path, more):
    check_good_run(mpich, toy_store, tmp_path, *more)


def test_a_store_that_is_not_there_ends_all_ranks(mpich, tmp_path):
    job = mpi_job(mpich, 4, train_words(tmp_path / "none.zarr", tmp_path / "r"), tmp_path)
    status, err = job.finish()
    assert status == 1
    assert err.count("error: ") == 1 and "none.zarr" in err
    assert "rank" not in err and "Traceback" not in err
    assert job.left() == []
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_a_good_run_with_open_mpi(open_mpi, toy_store, tmp_path):
    check_good_run(open_mpi, toy_store, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "words", "expected", "text"),
    [
        ("open_mpi", ["train", "none.zarr", "--hidden", "4", "--cluster", "mpi"], 1, "error: "),
        ("open_mpi", ["train", "none.zarr", "--hiden", "4", "--cluster=mpi"], 2, "No such option"),
        ("mpich", ["train", "none.zarr", "--hiden", "4", "--cluster=mpi"], 2, "No such option"),
    ],
)
def test_a_mistake_is_told_once_and_ends_all_ranks_with_its_status(request, tmp_path, library, words, expected, text):
    job = mpi_job(request.getfixturevalue(library), 3, words, tmp_path)
    status, err = job.finish()
    assert (status, err.count(text)) == (expected, 1), err
    assert job.left() == []


@pytest.mark.slow
def test_too_few_ranks(mpi, toy_store, tmp_path):
    job = mpi_job(mpi, 2, train_words(toy_store, tmp_path / "r"), tmp_path)
    status, err = job.finish()
    assert status == 2
    assert err.count("error: --cluster mpi needs at least 3 ranks (scheduler, client, workers), but ") == 1, err
    assert job.left() == []


@pytest.mark.slow
def test_without_mpirun(mpich, toy_store, tmp_path):
    status, err = alone(train_words(toy_store, tmp_path / "r"), tmp_path)
    assert status == 2
    assert "but this process is alone; use mpirun -n 4 hfnumba train" in err


@pytest.mark.slow
def test_mpirun_without_cluster_mpi(mpi, toy_store, tmp_path):
    """Each rank would train separately, in the same directory."""
    job = mpi_job(mpi, 3, train_words(toy_store, tmp_path / "r", cluster="none"), tmp_path)
    status, err = job.finish()
    assert status == 2
    assert err.count("error: mpirun started 3 processes, each of which would train separately") == 1
    assert job.left() == []


@pytest.mark.slow
def test_mpirun_of_another_mpi(mpich, toy_store, tmp_path, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    status, err = alone(train_words(toy_store, tmp_path / "r"), tmp_path)
    assert status == 1
    assert "mpirun started 4 processes, but the library that mpi4py has loaded (MPICH" in err


def test_packages_that_are_missing(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dask_mpi" else real(name))
    with pytest.raises(UsageError, match=r"--cluster slurm needs .* dask-mpi; run `pip install 'hfnumba\[slurm\]'`"):
        join("slurm")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(UsageError, match=r"needs the package mpi4py; run `pip install 'hfnumba\[mpi\]'`"):
        mpi_ranks()


@pytest.mark.slow
def test_no_mpi_library(mpich, toy_store, tmp_path, monkeypatch):
    monkeypatch.setenv("MPI4PY_LIBMPI", str(tmp_path / "libmpi.so"))
    status, err = alone(train_words(toy_store, tmp_path / "r"), tmp_path)
    assert status == 1
    assert "error: mpi4py cannot load an MPI library" in err


@pytest.mark.slow
def test_an_exception_in_the_client(mpi, toy_store, tmp_path):
    debug = "1" if mpi.name == "mpich" else "0"
    words = train_words(toy_store, tmp_path / "r")
    job = mpi_job(mpi, 3, words, tmp_path, script=FAILING_SCRIPT, HFNUMBA_DEBUG=debug)
    status, err = job.finish()
    assert status == 1
    assert err.count("RuntimeError: injected") == 1
    assert err.count("Traceback") == int(debug)
    assert job.left() == []


@pytest.mark.slow
def test_a_rank_that_cannot_serve_ends_the_job(mpi, toy_store, tmp_path):
    job = mpi_job(mpi, 3, train_words(toy_store, tmp_path / "r"), tmp_path, HFNUMBA_INTERFACE="nosuch0")
    status, err = job.finish()
    assert status not in (0, 2, 75)
    assert "error: rank 0: ValueError: 'nosuch0' is not a valid network interface" in err
    assert "Traceback" not in err
    assert job.left() == []


@pytest.mark.slow
def test_killed_workers_come_back_and_the_bits_are_the_same(mpi, toy_store, tmp_path):
    run, n = tmp_path / "r", 60
    job = mpi_job(mpi, 4, train_words(toy_store, run, "--max-iterations", n), tmp_path)
    killed = []
    for iteration in (1, 20):
        wait_for_iteration(job, run, iteration)
        victim = job.workers()[0]
        assert "/dev/shm/sem." not in "".join(Path(f"/proc/{one.pid}/maps").read_text() for one in job.alive())
        sigkill(victim)
        killed.append(victim.pid)
    status, err = job.finish()
    assert status == 0, err
    assert len(killed) == 2
    assert "Traceback" not in err
    assert job.left() == []
    assert theta(run) == straight(toy_store, n)


@pytest.mark.slow
def test_a_frozen_nanny_does_not_keep_the_job_from_ending(mpi, toy_store, tmp_path):
    run, n = tmp_path / "r", 200
    job = mpi_job(mpi, 4, train_words(toy_store, run, "--max-iterations", n, "--worker-timeout-s", 10), tmp_path)
    wait_for_iteration(job, run, 1)
    job.ranks()[2].suspend()
    status, err = job.finish()
    assert status == 0, err
    assert "ranks that do not answer are killed by MPI; the run itself has ended with status 0" in err
    assert "Traceback" not in err
    assert job.left() == []
    assert theta(run) == straight(toy_store, n)


def frozen_script(rank, where):
    """The command, whose rank stops itself when it comes to a function, with limits of seconds."""
    return f"""\
import os, signal, sys
from pkgutil import resolve_name
from hfnumba.cli import main

def patched(owner, name, value):
    setattr(resolve_name(owner), name, value)

if __name__ == "__main__":
    patched("hfnumba.engine.cluster.membership", "_SCHEDULER_TIMEOUT_S", 5.0)
    patched("hfnumba.launch.job", "_WORKERS_TIMEOUT_S", 10.0)
    patched("hfnumba.launch.mpi", "CLOSE_PATIENCE_S", 5.0)
    if "{rank}" in (os.environ.get("PMI_RANK"), os.environ.get("OMPI_COMM_WORLD_RANK")):
        patched(*"{where}".split(), lambda *_, **__: os.kill(os.getpid(), signal.SIGSTOP))
    sys.exit(main(prog_name="hfnumba"))
"""


@pytest.mark.slow
def test_a_nanny_that_freezes_while_it_starts_does_not_keep_the_others(mpi, toy_store, tmp_path):
    run, words = tmp_path / "r", train_words(toy_store, tmp_path / "r", "--max-iterations", 3)
    job = mpi_job(mpi, 4, words, tmp_path, script=frozen_script(2, "hfnumba.launch.job configure"))
    status, err = job.finish()
    assert status == 0, err
    assert "some workers have not connected within 10 s; the run begins without" in err
    assert ", 1 worker × 1 thread" in err
    assert job.left() == []
    assert theta(run) == straight(toy_store, 3)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["hfnumba.launch.job configure", "hfnumba.launch.mpi:MpiRanks Barrier"])
def test_a_signal_ends_the_wait_for_a_scheduler_that_freezes_while_it_starts(mpich, toy_store, tmp_path, where):
    words = train_words(toy_store, tmp_path / "r")
    job = mpi_job(mpich, 3, words, tmp_path, script=frozen_script(0, where))
    job.until(lambda: 0 in job.ranks() and job.ranks()[0].status() == psutil.STATUS_STOPPED)
    job.ranks()[1].send_signal(signal.SIGINT)
    status, err = job.finish()
    assert status == 75, err
    assert job.left() == []


@pytest.mark.slow
def test_a_scheduler_that_freezes_ends_the_job(mpich, toy_store, tmp_path):
    words = train_words(toy_store, tmp_path / "r", *MANY, "--worker-timeout-s", 5)
    job = mpi_job(mpich, 3, words, tmp_path, script=frozen_script(None, ""))
    wait_for_iteration(job, tmp_path / "r", 1)
    job.ranks()[0].suspend()
    status, err = job.finish()
    assert status == 1, err
    assert "error: the scheduler is gone; start a cluster again and use --resume" in err
    assert job.left() == []


def listening(processes):
    """Addresses and ports on which processes listen."""
    return {
        (connection.laddr.ip, connection.laddr.port)
        for process in processes
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def other_interface():
    """An interface with an address that other machines can reach, and that address; the loopback if there is none."""
    for name, addresses in psutil.net_if_addrs().items():
        for entry in addresses:
            if entry.family == socket.AF_INET and not entry.address.startswith("127."):
                return name, entry.address
    return "", "127.0.0.1"


def speaks_http(place):
    connection = http.client.HTTPConnection(*place, timeout=LIMIT_S)
    try:
        connection.request("GET", "/health")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


@pytest.mark.slow
def test_only_who_has_the_keys_can_connect(mpich, toy_store, tmp_path):
    name, host = other_interface()
    run = tmp_path / "r"
    job = mpi_job(mpich, 4, train_words(toy_store, run, *MANY), tmp_path, HFNUMBA_INTERFACE=name, HFNUMBA_DASHBOARD="1")
    try:
        first = job.process.stderr.readline()
        wait_for_iteration(job, run, 0)
        assert first.startswith(f"running on mpi cluster at tls://{host}:")
        address = first.split(" at ")[1].split(",")[0]
        # The ranks have ports of MPI, but the worker processes that they spawn do not.
        places = listening(job.workers())
        assert {ip for ip, _ in places} == {"127.0.0.1", host}
        assert len([place for place in places if speaks_http(place)]) == 2
        assert not any(speaks_http(place) for place in places if place[0] != "127.0.0.1")
        dashboard = int(first.split("dashboard http://127.0.0.1:")[1].split("/")[0])
        scheduler = int(address.rsplit(":", 1)[1])
        ports = {port: ip for ip, port in listening([job.ranks()[0]])}
        assert (ports[dashboard], ports[scheduler]) == ("127.0.0.1", host)
        for attempt in (
            {"address": address.replace("tls://", "tcp://")},
            {"address": address, "security": Security.temporary()},
        ):
            # The error may be a timeout, a reset or a closed connection; below is a client that can connect.
            with pytest.raises(OSError):
                Client(timeout=3, **attempt)
        assert job.process.poll() is None
    finally:
        os.kill(job.process.pid, signal.SIGUSR1)
    status, err = job.finish()
    assert status == 75, err


@pytest.mark.slow
def test_insecure_says_what_it_gives_up(mpich, toy_store, tmp_path):
    job = mpi_job(mpich, 4, train_words(toy_store, tmp_path / "r", *MANY, "--insecure"), tmp_path)
    first, second = job.process.stderr.readline(), job.process.stderr.readline()
    assert first == "--insecure: the cluster is open; anyone who can reach its ports can run code as you\n"
    address = second.split(" at ")[1].split(",")[0]
    assert address.startswith("tcp://127.0.0.1:")
    wait_for_iteration(job, tmp_path / "r", 0)
    with Client(address, timeout=LIMIT_S) as client:
        assert len(client.nthreads()) == 2
        limits = [worker["memory_limit"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
        assert limits == [available_memory() // 2] * 2
    assert {ip for ip, _ in listening(job.workers())} == {"127.0.0.1"}
    # That client has disconnected; the job continues.
    wait_for_iteration(job, tmp_path / "r", iterations(tmp_path / "r" / "checkpoints")[-1] + 5)
    os.kill(job.process.pid, signal.SIGUSR1)
    status, err = job.finish()
    assert status == 75, err
    status, err = alone(train_words(toy_store, tmp_path / "s", "--insecure", cluster="none"), tmp_path)
    assert status == 2
    assert "--insecure is only for --cluster mpi and --cluster slurm" in err
