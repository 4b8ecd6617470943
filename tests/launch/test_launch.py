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
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client, LocalCluster, Status
from distributed.comm.core import CommClosedError

from hfnumba import versions
from hfnumba.engine import DaskObjective
from hfnumba.engine.cluster.worker import RoundPlugin
from hfnumba.errors import ClusterError, StoppedError, UsageError
from hfnumba.launch import address, local, open_cluster
from hfnumba.launch.connection import scheduler_answer
from hfnumba.launch.nanny import WatchedNanny
from hfnumba.launch.pipe_queue import PipeQueue
from hfnumba.launch.spec import _description, parse
from hfnumba.network import Network
from hfnumba.stop import StopSignals
from tests.limits import LIMIT_S, until


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """On a busy machine schedulers answer late."""
    monkeypatch.setattr(address, "CONNECT_TIMEOUT_S", LIMIT_S)


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
        assert all(address.startswith("unix://127.0.0.1/") for address in client.nthreads())
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
    nanny = SimpleNamespace(pid=child.pid, kill_process=child.kill, give_up=lambda: None)
    cluster = SimpleNamespace(loop=SimpleNamespace(add_callback=lambda call: call()), close=never.wait)
    folder, closed = ExitStack(), []
    folder.callback(closed.append, 1)
    with folder, module._ended(cluster, [nanny], folder):
        pass
    # Processes that end later need the folder until then.
    assert not closed
    module._UNCLOSED.pop().close()
    assert closed
    assert child.wait(LIMIT_S) == -signal.SIGKILL
    assert f"these processes may still run: {child.pid}" in caplog.text
    never.set()


def test_addresses(monkeypatch):
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

    async def run(self, function, on_error):
        assert function is versions.installed and on_error == "return"
        return self.found


def check(found):
    asyncio.run(versions.check_versions(Answers(found), "cluster", LIMIT_S))


def test_workers_with_other_versions_are_named():
    ours = versions.installed()
    assert set(ours) == {"hfnumba", "numpy", "scipy", "numba"} and "missing" not in ours.values()
    check({"tcp://a": ours, "tcp://b": dict(ours), "tcp://c": CommClosedError("it was killed meanwhile")})
    found = {f"tcp://{name}": ours | {"numpy": "1.0"} for name in "bcde"} | {"tcp://a": ours}
    with pytest.raises(ClusterError) as caught:
        check(found)
    message = str(caught.value)
    assert "4 of 5 workers" in message and "and 1 more" in message and "tcp://a" not in message
    assert "tcp://b has numpy 1.0; tcp://c has numpy 1.0; tcp://d has numpy 1.0" in message
    with pytest.raises(ClusterError, match="worker tcp://b of the cluster cannot import hfnumba"):
        check({"tcp://a": ours, "tcp://b": ModuleNotFoundError("hfnumba")})


def test_a_scheduler_without_workers(monkeypatch):
    monkeypatch.setattr(address, "WORKERS_TIMEOUT_S", 0.2)
    with (
        LocalCluster(n_workers=0, dashboard_address=None, processes=True) as cluster,
        pytest.raises(ClusterError, match=r"has no workers after 0\.2 s; start some with `dask worker"),
        open_cluster(cluster.scheduler_address),
    ):
        pass


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def worker_of(spec):
    """A worker of a scheduler elsewhere, which ends when that is gone."""
    words = [sys.executable, "-m", "dask", "worker", spec, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    worker = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        worker.kill()
        worker.wait(LIMIT_S)


def test_a_scheduler_that_goes_away_leaves_no_traceback_of_dask(caplog):
    """The sentence is that of the round that needs it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    scheduler = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    spec = f"tcp://127.0.0.1:{port}"
    try:
        until(lambda: answers(port))
        with worker_of(spec), open_cluster(spec) as placement:
            scheduler.kill()
            scheduler.wait(LIMIT_S)
            until(lambda: placement.client.status != "running")
    finally:
        scheduler.kill()
        scheduler.wait(LIMIT_S)
    assert not [record for record in caplog.records if record.name == "distributed.client"]


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


def test_a_signal_ends_the_wait_for_a_scheduler_at_once(monkeypatch):
    """It accepts a connection and is silent, as one that is frozen."""
    monkeypatch.setattr(address, "CONNECT_TIMEOUT_S", LIMIT_S)
    with socket.create_server(("127.0.0.1", 0)) as server, StopSignals(lambda name: None):
        connections = []

        def accept():
            connections.append(server.accept())
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=accept, daemon=True).start()
        with pytest.raises(StoppedError, match="SIGTERM"), open_cluster(f"tcp://127.0.0.1:{server.getsockname()[1]}"):
            pass


def test_a_scheduler_that_does_not_answer_is_an_error():
    async def fails():
        raise CommClosedError("in <TCP>: Stream is closed")

    with pytest.raises(ClusterError, match="the scheduler does not answer within 0 s; check that it runs"):
        asyncio.run(scheduler_answer(asyncio.sleep(LIMIT_S), 0.0))
    with pytest.raises(ClusterError, match=r"the scheduler does not answer \(Stream is closed\); check"):
        asyncio.run(scheduler_answer(fails()))
    assert asyncio.run(scheduler_answer(asyncio.sleep(0, "yes"))) == "yes"


def test_workers_that_are_lost_before_they_are_described():
    client = SimpleNamespace(sync=lambda *_: {}, scheduler=SimpleNamespace(ncores=lambda: None))
    assert _description(client, "local cluster") == "local cluster, whose workers have been lost and are awaited"


def test_tls_needs_certificates():
    with pytest.raises(ClusterError, match="needs certificates"), open_cluster("tls://127.0.0.1:9"):
        pass


def test_in_a_notebook_where_an_event_loop_runs():
    """What a cell calls is on the thread of a running event loop."""
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        for spec in (cluster.scheduler_address, "local:1"):

            async def cell(spec=spec):
                with open_cluster(spec) as placement:
                    return placement.client.run(os.getpid)

            assert len(asyncio.run(cell())) == 1


def test_an_asynchronous_client_is_refused_with_what_to_do(store):
    split = store["train"]

    async def cell(address):
        async with Client(address, asynchronous=True) as client:
            with pytest.raises(UsageError, match=r"asynchronous.*make the client with asynchronous=False"):
                DaskObjective(Network([12, 3]), split, client)

    with LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        asyncio.run(cell(cluster.scheduler_address))


def children():
    """Worker processes of this one, also those that start yet."""
    found = psutil.Process().children(recursive=True)
    return [child for child in found if "spawn_main" in " ".join(words(child))]


def words(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class Strike(threading.Thread):
    """Sends a signal to the first worker process that comes after the start."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.number, self.before, self.victim = number, set(children()), None

    def run(self):
        self.victim = until(lambda: next(iter(set(children()) - self.before), None), every_s=0.001)
        self.victim.send_signal(self.number)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)], ids=["killed", "frozen"]
)
def test_a_worker_that_is_killed_or_frozen_while_it_starts_is_started_again(number, monkeypatch):
    # Not from the log, which a quiet LocalCluster silences.
    found, ending = [], WatchedNanny._ending
    monkeypatch.setattr(WatchedNanny, "_ending", lambda nanny: found.append(ending(nanny)) or found[-1])
    strike = Strike(number)
    strike.start()
    with local(1, timeout_s=2.0) as client:
        strike.join()
        (pid,) = client.run(os.getpid).values()
        assert pid != strike.victim.pid
    assert not psutil.pid_exists(strike.victim.pid)
    why = "was killed by signal 9" if number == signal.SIGKILL else "was stopped (SIGSTOP) for "
    assert found[0].startswith(why)


@pytest.mark.parametrize(
    ("state", "lives"),
    [(psutil.STATUS_RUNNING, True), (psutil.STATUS_SLEEPING, False), (psutil.STATUS_STOPPED, False)],
)
def test_a_process_that_waits_for_a_processor_gives_a_sign_of_life(monkeypatch, state, lives):
    """Among many others it may get none for longer than the clock of its processor time can show."""
    times = SimpleNamespace(user=1.0, system=0.5)
    monkeypatch.setattr(psutil, "Process", lambda pid: SimpleNamespace(status=lambda: state, cpu_times=lambda: times))
    nanny = SimpleNamespace(pid=7)
    assert (WatchedNanny._signs(nanny) != WatchedNanny._signs(nanny)) == lives


@pytest.mark.slow
def test_workers_that_never_start_are_an_error_with_what_became_of_them(monkeypatch):
    monkeypatch.setattr(WatchedNanny, "_watch", killing)
    why = "no worker process has started on this machine: was killed by signal 9"
    with pytest.raises(ClusterError, match=why), local(1):
        pass
    assert not children()


async def killing(nanny):
    """Kill every process of a nanny while it starts."""
    while nanny.status is Status.init:
        nanny.kill_process()
        await asyncio.sleep(0.001)


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from hfnumba.launch import local\nwith local(2) as client:\n    print(client)\n")
    ended = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True, timeout=LIMIT_S)
    assert ended.returncode == 1
    *_, last = ended.stderr.splitlines()
    assert 'put what it does under `if __name__ == "__main__":`' in last
    assert ended.stderr.count("Traceback") == 1, "that of the script itself"


def test_a_signal_ends_the_wait_for_a_cluster_at_once(monkeypatch):
    """The worker is frozen while it starts, and would be waited for."""
    strike = Strike(signal.SIGSTOP)
    strike.start()
    with StopSignals(lambda name: None) as stop:

        def send():
            strike.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=send, daemon=True).start()
        with pytest.raises(StoppedError, match="SIGTERM"), local(1, timeout_s=LIMIT_S):
            pass
        assert stop.received == "SIGTERM"
    assert not psutil.pid_exists(strike.victim.pid)
