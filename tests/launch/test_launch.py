"""Clients: none, local processes, addresses; and the signals and threads of these processes."""

import asyncio
import errno
import multiprocessing.synchronize
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
from distributed import LocalCluster

from hfnumba import versions
from hfnumba.engine.cluster.worker import RoundPlugin
from hfnumba.errors import ClusterError, UsageError
from hfnumba.launch import address, local, open_cluster
from hfnumba.launch.pipe_queue import PipeQueue
from hfnumba.launch.spec import parse
from tests.limits import LIMIT_S, until


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("none", ("none", None)),
        ("local", ("local", None)),
        ("local:3", ("local", 3)),
        ("tcp://h:1", ("address", None)),
        ("tls://h:1", ("address", None)),
    ],
)
def test_words(spec, expected):
    assert parse(spec) == expected


@pytest.mark.parametrize("spec", ["", "local:", "local:0", "local:-1", "local:x", "local:²", "None", "ftp://h:1"])
def test_no_such_word(spec):
    with pytest.raises(UsageError, match="expected --cluster to be none, local, local:N"):
        parse(spec)


@pytest.mark.parametrize(("spec", "command"), [("mpi", "mpirun"), ("slurm", "srun")])
def test_ranks_need_their_launcher(spec, command):
    """The values are valid, but this process was not started by mpirun or srun."""
    assert parse(spec) == (spec, None)
    with pytest.raises(UsageError, match=f"use {command} -n 4 hfnumba train"), open_cluster(spec):
        pass


def test_none_is_this_process():
    with open_cluster("none", 3) as placement:
        assert placement.client is None
        assert placement.description == "this process, 3 threads"


def test_threads_must_be_there():
    with pytest.raises(UsageError, match="at least 1 thread"), open_cluster("none", 0):
        pass
    with pytest.raises(UsageError, match="leave --threads out"), open_cluster("tcp://127.0.0.1:9", 2):
        pass
    with pytest.raises(UsageError, match="at least 1 worker"), local(0):
        pass


def test_more_workers_than_there_is_memory_for_are_refused_before_they_start(monkeypatch):
    monkeypatch.setattr(sys.modules["hfnumba.launch.local"], "available_memory", lambda: 2**30)
    with pytest.raises(ClusterError, match="each of 8 workers would have 128MiB of the 1024MiB that this"), local(8):
        pass


def test_workers_share_the_memory_of_a_container(monkeypatch):
    """Dask itself sees the limit of some containers, and none of a batch job."""
    monkeypatch.setattr(sys.modules["hfnumba.launch.local"], "available_memory", lambda: 2 * 2**30)
    with local(2) as client:
        found = client.scheduler_info(n_workers=-1)["workers"].values()
        assert [worker["memory_limit"] for worker in found] == [2**30, 2**30]


def variables():
    return {name: os.environ.get(f"{name}_NUM_THREADS") for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}


def blocked():
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])}


def test_local_processes():
    """Two processes of one thread; signals of a terminal do not reach them, even after one was replaced."""
    before = blocked()
    with open_cluster("local:2") as placement:
        client = placement.client
        assert placement.description.startswith("local cluster, 2 workers × 1 thread")
        assert blocked() == before, "only what was started meanwhile holds the mask"
        pids = set(client.run(os.getpid).values())
        assert len(pids) == 2 and os.getpid() not in pids
        assert set(client.nthreads().values()) == {1}
        for found in client.run(variables).values():
            assert found == dict.fromkeys(found, "1")
        assert all(address.startswith("tcp://127.0.0.1") for address in client.nthreads())
        victim = min(pids)
        os.kill(victim, signal.SIGKILL)

        def replaced():
            found = {pid for pid in client.run(os.getpid, on_error="return").values() if isinstance(pid, int)}
            return found if len(found) == 2 and victim not in found else None

        now = until(replaced)
        for found in client.run(blocked).values():
            assert {signal.SIGINT, signal.SIGUSR1} <= found
            assert signal.SIGTERM not in found
        for pid in now:
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGUSR1)
        assert set(client.run(os.getpid).values()) == now
    for pid in now:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_no_shared_memory_is_needed(monkeypatch):
    """As where /dev/shm cannot be written; a process that was killed is replaced all the same."""

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", refuse)
    with local(1) as client:
        (pid,) = client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
        until(lambda: (now := list(client.run(os.getpid, on_error="ignore").values())) and now != [pid])


def test_messages_of_dask_about_handled_faults_are_not_shown(caplog):
    """Dask reports a worker that does not come back in time as an error, with a traceback of its own."""
    with local(1) as client:
        (pid,) = client.run(os.getpid).values()
        os.kill(pid, signal.SIGSTOP)
        client.restart_workers(list(client.nthreads()), timeout=0.1, raise_for_error=False)
    assert not any("did not shut down" in record.getMessage() for record in caplog.records)


def test_the_queue_of_a_nanny():
    there = PipeQueue()
    with pytest.raises(queue.Empty):
        there.get_nowait()
    there.put({"op": "stop"})
    there.put(2)
    assert (there.get_nowait(), there.get()) == ({"op": "stop"}, 2)
    there.close()
    there.join_thread()
    with pytest.raises(ValueError, match="closed"):
        there.put(3)


def test_workers_that_close_do_not_report_their_own_heartbeat(capfd):
    asked = threading.Event()

    async def unanswered(**_):
        asked.set()
        await asyncio.Event().wait()

    with local(1) as client:
        client.register_plugin(RoundPlugin())
        client.cluster.scheduler.handlers["heartbeat_worker"] = unanswered
        assert asked.wait(LIMIT_S)
    assert capfd.readouterr().err == ""


def test_frozen_processes_are_killed_if_they_keep_dask_waiting(monkeypatch):
    close, pids = LocalCluster.close, set()

    def close_after_them(cluster):
        while any(map(psutil.pid_exists, pids)):
            time.sleep(0.05)
        close(cluster)

    monkeypatch.setattr(LocalCluster, "close", close_after_them)
    monkeypatch.setattr(sys.modules["hfnumba.launch.local"], "_CLOSE_S", 2.0)
    with local(2) as client:
        pids |= set(client.run(os.getpid).values())
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    assert len(pids) == 2 and not any(map(psutil.pid_exists, pids))


def test_a_cluster_that_never_closes_does_not_keep_us_and_its_processes_are_named(monkeypatch, caplog):
    module = sys.modules["hfnumba.launch.local"]
    monkeypatch.setattr(module, "_CLOSE_S", 0.1)
    never = threading.Event()
    child = subprocess.Popen(["sleep", "infinity"])
    with module._ended(SimpleNamespace(workers={0: SimpleNamespace(pid=child.pid)}, close=never.wait)):
        pass
    assert child.wait(LIMIT_S) == -signal.SIGKILL
    assert f"these processes may still run: {child.pid}" in caplog.text
    never.set()


def test_addresses(monkeypatch):
    monkeypatch.setattr(address, "CONNECT_TIMEOUT_S", LIMIT_S)
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as cluster:
        with open_cluster(cluster.scheduler_address) as placement:
            assert placement.description == f"cluster at {cluster.scheduler_address}, 1 worker × 2 threads"
            (worker,) = placement.client.nthreads()
        # It is left running.
        with open_cluster(cluster.scheduler_address):
            pass
        with pytest.raises(ClusterError, match="is a Dask worker, expected a scheduler"), open_cluster(worker):
            pass
        # Functions are sent by name, so workers report their own packages.
        real = versions.version
        monkeypatch.setattr(versions, "version", lambda name: "0.0.1" if name == "numba" else real(name))
        with pytest.raises(ClusterError) as caught, open_cluster(cluster.scheduler_address):
            pass
        message = str(caught.value)
        assert message.startswith(f"1 of 1 workers of the cluster at {cluster.scheduler_address} have other versions")
        assert f"({worker} has numba {real('numba')}); install hfnumba" in message
        assert message.endswith("numba 0.0.1 everywhere")


class Answers:
    """A client whose workers return given answers."""

    def __init__(self, found):
        self.found = found

    def run(self, function):
        assert function is versions.installed
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_workers_with_other_versions_are_named():
    ours = versions.installed()
    assert set(ours) == {"hfnumba", "numpy", "scipy", "numba"} and "missing" not in ours.values()
    versions.check_versions(Answers({"tcp://a": ours, "tcp://b": dict(ours)}), "cluster")
    found = {f"tcp://{name}": ours | {"numpy": "1.0"} for name in "bcde"} | {"tcp://a": ours}
    with pytest.raises(ClusterError) as caught:
        versions.check_versions(Answers(found), "cluster")
    message = str(caught.value)
    assert "4 of 5 workers" in message and "and 1 more" in message and "tcp://a" not in message
    assert "tcp://b has numpy 1.0; tcp://c has numpy 1.0; tcp://d has numpy 1.0" in message
    with pytest.raises(ClusterError, match="cannot import hfnumba"):
        versions.check_versions(Answers(ModuleNotFoundError("hfnumba")), "cluster")


def test_a_scheduler_without_workers(monkeypatch):
    monkeypatch.setattr(address, "WORKERS_TIMEOUT_S", 0.2)
    with (
        LocalCluster(n_workers=0, dashboard_address=None, processes=True) as cluster,
        pytest.raises(ClusterError, match=r"has no workers after 0\.2 s; start some with `dask worker"),
        open_cluster(cluster.scheduler_address),
    ):
        pass


@pytest.mark.parametrize("spec", ["tcp://127.0.0.1", "tcp://:8786", "tcp://h:port", "tcp://"])
def test_no_such_address(spec):
    with pytest.raises(UsageError, match="expected an address such as tcp://"), open_cluster(spec):
        pass


def serve(answer):
    """A server that is not a scheduler: it sends ``answer``, or only listens."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            if answer is not None:
                connection.sendall(answer)
                connection.close()

    threading.Thread(target=accept, daemon=True).start()
    return server


@pytest.mark.parametrize("answer", [None, b"HTTP/1.0 400 Bad request\r\n\r\n", b""])
def test_something_else_listens(monkeypatch, answer):
    monkeypatch.setattr(address, "CONNECT_TIMEOUT_S", 1.0)
    with serve(answer) as server:
        spec = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ClusterError, match="scheduler"), open_cluster(spec):
            pass


def test_tls_needs_certificates():
    with pytest.raises(ClusterError, match="needs certificates"), open_cluster("tls://127.0.0.1:9"):
        pass
