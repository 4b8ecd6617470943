"""What happens to rounds when workers lie, die, freeze, are cut off, come and go; the faults are counted."""

import asyncio
import itertools
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster

from hfnumba.engine.cluster import membership
from hfnumba.engine.cluster.membership import Workers, WorkerState
from hfnumba.engine.cluster.messages import OPERATION
from hfnumba.engine.cluster.shared_memory import SharedMemoryError
from hfnumba.engine.host import PartitionHost
from hfnumba.errors import ClusterError, StoppedError
from hfnumba.launch import local
from hfnumba.stop import StopSignals
from tests.engine.cluster.test_engine import assert_same_bits, everything, objective, source
from tests.limits import LIMIT_S, until

# Long enough that a worker on a busy machine is heard.
SILENCE_S = 5.0


@pytest.fixture(scope="module")
def reference():
    with objective() as f:
        return everything(f)


@pytest.fixture
def own_client(caplog):
    with local(2) as client:
        # A quiet cluster silences the handlers that pytest gives to Dask's logger, and this one is also ours.
        caplog.handler.setLevel(logging.NOTSET)
        yield client


def pids(client):
    """Process of each worker, of those that answer."""
    found = {}

    def some():
        found.update(client.run(os.getpid, on_error="return"))
        return any(isinstance(pid, int) for pid in found.values())

    until(some)
    return {address: pid for address, pid in found.items() if isinstance(pid, int)}


def lie(kind, dask_worker, times=1):
    """Let a worker's next answers be wrong."""
    from dataclasses import replace

    server = dask_worker.plugins["hfnumba"]._server
    honest, left = server._answer, [times]

    def spoiled(request):
        if left[0] <= 0:
            return honest(request)
        # Answers that say what is lacking are no sums yet.
        answer = honest(replace(request, boxes=None))
        if not answer.nodes:
            return answer
        left[0] -= 1
        if kind == "stale":
            return replace(answer, number=answer.number - 1)
        nodes = {node: [np.array(array) for array in sums] for node, sums in answer.nodes.items()}
        (node, sums), *_ = nodes.items()
        if kind == "nan":
            sums[-1].reshape(-1)[-1] = np.nan
        elif kind == "shape":
            sums[-1] = sums[-1].reshape(-1)[:-1]
        elif kind == "dtype":
            sums[-1] = sums[-1].astype(np.float16)
        elif kind == "twice":
            nodes[node] = [*sums, sums[-1]]
        elif kind == "node":
            nodes[node[0] + 1, node[1]] = nodes.pop(node)
        elif kind == "exception":
            return replace(answer, nodes={}, failure="a bug")
        return replace(answer, nodes={node: tuple(sums) for node, sums in nodes.items()})

    server._answer = spoiled


KINDS = ["nan", "shape", "dtype", "twice", "node", "stale", "exception"]


def refused(caplog):
    return [record.getMessage() for record in caplog.records if "is refused" in record.getMessage()]


def strike_liar(client, rng, kind):
    address = rng.choice(sorted(pids(client)))
    client.run(lie, kind, workers=[address])
    return address


@pytest.mark.slow
def test_a_wrong_answer_is_refused_by_name_and_redone_and_the_process_replaced(own_client, reference, caplog):
    with objective(own_client) as f:
        for number, kind in enumerate(["nan", "stale"], 1):
            f.value(np.zeros(f.n_params))
            before = pids(own_client)
            address = strike_liar(own_client, random.Random(0), kind)
            liar = before[address]
            assert_same_bits(everything(f), reference)
            assert len(refused(caplog)) == number and address in refused(caplog)[-1]
            until(lambda liar=liar: liar not in pids(own_client).values())


@pytest.mark.slow
def test_no_wrong_answer_is_ever_added(own_client, reference, caplog):
    """That the process is replaced is for the test above; here one that has lied stays, and is asked again."""
    rng = random.Random(1)
    with objective(own_client) as f:
        everything(f)
        workers = f._engine._workers
        workers.replace, workers._replaced = lambda address: workers.states.pop(address, None), Never()
        for kind in KINDS * 2:
            until(lambda: f._engine.sharing()[1] == 2)
            at = rng.randrange(6)
            assert_same_bits(
                everything(f, lambda step, at=at, kind=kind: step == at and strike_liar(own_client, rng, kind)),
                reference,
            )
            workers._refusals.clear()
    assert len(refused(caplog)) == 2 * len(KINDS)


def test_answers_that_stay_wrong_are_an_error_that_names_the_worker(own_client):
    with objective(own_client) as f:
        f.value(np.zeros(f.n_params))
        for address in pids(own_client):
            own_client.run(lie, "shape", times=10**6, workers=[address])
        # Processes that come anew would be honest.
        f._engine._workers.replace = lambda address: None
        f._engine._workers._replaced = Never()
        with pytest.raises(ClusterError, match=r"worker unix://127\.0\.0\.1/\S+:\d+ gave sums of shapes and dtypes"):
            f.value(np.zeros(f.n_params))


class Never(set):
    def add(self, _):
        pass


@contextmanager
def late_worker(client, folder, preload):
    """A third worker, which runs some code before it takes part."""
    (folder / "late.py").write_text(f"import hfnumba.launch.sockets\n{preload}")
    address = client.scheduler.address
    words = [sys.executable, "-m", "dask", "worker", address, "--no-nanny", "--no-dashboard"]
    words += ["--preload", str(folder / "late.py"), "--host", address.rpartition(":")[0]]
    late = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        client.wait_for_workers(3, timeout=LIMIT_S)
        yield
    finally:
        late.kill()
        late.wait()


def logged(caplog, words):
    return any(words in record.getMessage() for record in caplog.records)


def test_a_worker_that_joins_later_with_other_versions_is_left_out(own_client, reference, tmp_path, caplog):
    other = """
from hfnumba import versions
versions.installed = lambda: {"hfnumba": "0.0.0", "numpy": "1", "scipy": "1", "numba": "2"}
"""
    with objective(own_client) as f:
        f.value(np.zeros(f.n_params))
        with late_worker(own_client, tmp_path, other):
            until(lambda: f._engine.sharing() and logged(caplog, "left out"))
            assert f._engine.sharing()[1] == 2
            assert_same_bits(everything(f), reference)
    assert logged(caplog, "hfnumba 0.0.0")


@pytest.mark.slow
def test_a_worker_that_rounds_in_another_way_takes_part_with_a_warning(own_client, tmp_path, caplog):
    other = """
from hfnumba.kernels import blas
blas.arithmetic = lambda: "an abacus"
"""
    with objective(own_client) as f:
        f.value(np.zeros(f.n_params))
        assert not logged(caplog, "last bits")
        with late_worker(own_client, tmp_path, other):
            until(lambda: f._engine.sharing()[1] == 3)
            everything(f)
    (warning,) = [record.getMessage() for record in caplog.records if "last bits" in record.getMessage()]
    assert "has an abacus, others have" in warning


def crash(how):
    import ctypes

    if how == "segfault":
        ctypes.string_at(0)
    os._exit(137)


def strike(client, how, rng):
    """Do one thing to one worker, now."""
    address, pid = rng.choice(sorted(pids(client).items()))
    if how in ("segfault", "exit"):
        # In a thread of the worker, whatever its others do; nobody waits for it.
        client.submit(crash, how, workers=[address], pure=False, retries=0, key=f"crash-{rng.random()}")
    elif not signalled(pid, getattr(signal, how)):
        return strike(client, how, rng)
    return pid


def signalled(pid, number):
    """Send a signal; False if the process has been replaced meanwhile."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


class Rounds(threading.Thread):
    """Strikes at random moments while the main thread computes."""

    def __init__(self, act, n, gap_s, rng, ready):
        super().__init__(daemon=True)
        self.act, self.n, self.gap_s, self.rng, self.ready = act, n, gap_s, rng, ready
        self.done, self.error = [], None

    def run(self):
        try:
            for _ in range(self.n):
                self.ready()
                time.sleep(self.rng.uniform(0, self.gap_s))
                self.done.append(self.act())
        except Exception as error:
            self.error = error


def under_fire(f, reference, fire):
    """Compute until the strikes are over, comparing each time; how often."""
    fire.start()
    n = 0
    while fire.is_alive():
        assert_same_bits(everything(f), reference)
        n += 1
    if fire.error is not None:
        raise fire.error
    assert_same_bits(everything(f), reference)
    assert len(fire.done) == fire.n
    return n


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "segfault", "exit"])
def test_workers_that_die_at_random_moments_change_no_bit(own_client, reference, how):
    rng = random.Random(how)
    with objective(own_client) as f:
        fire = Rounds(
            lambda: strike(own_client, how, rng), 6, 0.3, rng, lambda: own_client.wait_for_workers(2, timeout=LIMIT_S)
        )
        under_fire(f, reference, fire)
        assert len(set(fire.done)) >= 5, "different processes died"


@pytest.mark.slow
def test_frozen_workers_are_replaced_and_those_that_wake_are_used_again(own_client, reference):
    rng = random.Random(2)

    def freeze():
        pid = strike(own_client, "SIGSTOP", rng)
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0.1, SILENCE_S / 2))
            signalled(pid, signal.SIGCONT)
        return pid

    with objective(own_client, timeout_s=SILENCE_S) as f:
        f.value(np.zeros(f.n_params))
        fire = Rounds(freeze, 6, 0.3, rng, lambda: until(lambda: none_is_frozen(own_client), every_s=0.2))
        under_fire(f, reference, fire)
        until(lambda: f._engine.sharing()[1] == 2)


def none_is_frozen(client, n_workers=2):
    """Whether all workers are there, and have started: Dask does not bring back one that freezes before."""
    # process_iter passes over those that end while it looks.
    ours = psutil.Process().children(recursive=True)
    states = [process.info["status"] for process in psutil.process_iter(["status"]) if process in ours]
    if len(client.nthreads()) != n_workers or psutil.STATUS_STOPPED in states:
        return False
    return all(found is True for found in client.run(takes_part, on_error="return").values())


def takes_part(dask_worker):
    return "hfnumba" in dask_worker.plugins and dask_worker.plugins["hfnumba"]._server._warming.done()


@pytest.mark.slow
def test_workers_that_join_and_leave_at_random_moments_change_no_bit(own_client, reference):
    rng, cluster = random.Random(3), own_client.cluster

    def rescale():
        n = rng.choice([k for k in (1, 2, 3, 4) if k != len(cluster.workers)])
        cluster.scale(n)
        until(lambda: len(own_client.nthreads()) == n)
        return n

    with objective(own_client) as f:
        under_fire(f, reference, Rounds(rescale, 8, 0.3, rng, lambda: None))


def hang(dask_worker):
    """Let a worker never answer a round, as where a network loses large messages only."""

    async def never(request):
        await asyncio.Event().wait()

    dask_worker.handlers[OPERATION] = never


def hang_in_a_kernel(dask_worker):
    """Let a worker take every message in hand, and then compute nothing: a thread waits for ever."""

    def never(host, evaluations, partitions, divisors=()):
        threading.Event().wait()

    PartitionHost.evaluate = never


def loses(monkeypatch):
    """Addresses of the workers that are lost from now on; not from the log, which a quiet LocalCluster silences."""
    lost, lose = [], Workers.lose

    def recorded(workers, address, why, silent=False):
        lost.append(address)
        lose(workers, address, why, silent)

    monkeypatch.setattr(Workers, "lose", recorded)
    return lost


def stay(workers):
    """Let processes stay that would be replaced."""
    workers.replace = lambda address: workers.states.pop(address, None)


@pytest.mark.slow
def test_healthy_workers_take_over_from_one_that_greets_but_never_answers(own_client, reference, monkeypatch):
    lost = loses(monkeypatch)
    with objective(own_client, timeout_s=2.0) as f:
        f.value(np.zeros(f.n_params))
        stay(f._engine._workers)
        hanging = min(pids(own_client))
        own_client.run(hang, workers=[hanging])
        assert_same_bits(everything(f), reference)
        # Of 6 rounds; after the second loss it rests.
        assert 1 <= lost.count(hanging) <= 6


@pytest.mark.slow
def test_a_worker_whose_kernel_hangs_is_lost_though_its_process_answers(own_client, reference, monkeypatch):
    lost = loses(monkeypatch)
    with objective(own_client, timeout_s=2.0) as f:
        f.value(np.zeros(f.n_params))
        hanging = min(pids(own_client))
        own_client.run(hang_in_a_kernel, workers=[hanging])
        assert_same_bits(everything(f), reference)
        assert hanging in lost


def slow_down(dask_worker):
    """Let a worker compute for four times as long as it may be silent, in a thread that is always ready to run."""
    evaluate = PartitionHost.evaluate

    def late(host, evaluations, partitions, divisors=()):
        end = time.monotonic() + 12.0
        while time.monotonic() < end:
            pass
        return evaluate(host, evaluations, partitions, divisors)

    PartitionHost.evaluate = late


@pytest.mark.slow
def test_a_worker_that_computes_for_long_is_heard(own_client, monkeypatch):
    lost = loses(monkeypatch)
    with objective(own_client, timeout_s=3.0) as f:
        value = f.value(np.zeros(f.n_params))
        own_client.run(slow_down, workers=[min(pids(own_client))])
        assert f.value(np.zeros(f.n_params)) == value
    assert not lost


@pytest.mark.slow
def test_a_round_that_no_worker_finishes_is_an_error_that_names_one(own_client, monkeypatch):
    lost = loses(monkeypatch)
    with objective(own_client, timeout_s=1.0) as f:
        f.value(np.zeros(f.n_params))
        stay(f._engine._workers)
        own_client.run(hang)
        lost.clear()
        with pytest.raises(ClusterError, match=r"worker \d \(\w+:.*\) is lost: silent for .*lost 3 times in one round"):
            f.value(np.zeros(f.n_params))
    assert 3 <= len(lost) <= 6


def test_processes_that_are_replaced_again_and_again_end_a_round(own_client, monkeypatch):
    """As those that are killed for the memory that they take before they can be asked anything."""
    workers, ports = Workers(own_client, SILENCE_S), itertools.count()

    async def look():
        return {f"tcp://10.0.0.1:{next(ports)}": 1, f"tcp://10.0.0.2:{next(ports)}": 1}

    monkeypatch.setattr(workers, "_look", look)
    monkeypatch.setattr(membership, "_POLL_S", 0.0)
    with pytest.raises(ClusterError, match="22 processes of workers were started, 2 at a time, and none stayed"):
        asyncio.run(workers.present(True))
    # One that stays is used without the others.
    steady = "tcp://10.0.0.3:1"
    workers.states[steady] = WorkerState(False, "3")

    async def look_again():
        return {steady: 1, **await look()}

    monkeypatch.setattr(workers, "_look", look_again)
    monkeypatch.setattr(workers._greetings, "expected", lambda there: True)
    assert asyncio.run(workers.present(True)) == {steady: 1}


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)], ids=["killed", "frozen"]
)
def test_a_worker_that_is_killed_or_frozen_before_it_is_greeted_is_replaced(reference, number):
    """In the moment in which it would get the handler of rounds."""
    with local(2, timeout_s=SILENCE_S) as client:
        victim = min(pids(client).values())
        os.kill(victim, number)
        with objective(client, timeout_s=SILENCE_S) as f:
            assert_same_bits(everything(f), reference)
            until(lambda: f._engine.sharing()[1] == 2)
            assert victim not in pids(client).values()


@pytest.mark.slow
def test_all_workers_frozen_at_once_are_replaced(own_client, reference):
    with objective(own_client, timeout_s=SILENCE_S) as f:

        def freeze(step):
            if step == 2:
                for pid in pids(own_client).values():
                    os.kill(pid, signal.SIGSTOP)

        assert_same_bits(everything(f, freeze), reference)


@pytest.mark.slow
def test_a_signal_ends_a_round_whose_workers_are_silent(own_client):
    with objective(own_client, timeout_s=SILENCE_S) as f, StopSignals(lambda name: None):
        f.value(np.zeros(f.n_params))
        for pid in pids(own_client).values():
            os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGTERM]).start()
        with pytest.raises(StoppedError):
            f.value(np.zeros(f.n_params))


@pytest.mark.slow
def test_a_worker_that_starts_for_longer_than_it_may_be_silent_is_not_replaced(own_client, tmp_path):
    """First it cannot answer, as while it imports packages; then it compiles, and says so. It has no nanny."""
    slow = """
import time
from hfnumba.engine.cluster import worker
from hfnumba.kernels import cache
def begin(self, worker, begin=worker.RoundServer.__init__):
    time.sleep(1.5)
    begin(self, worker)
worker.RoundServer.__init__ = begin
cache.warm_up = lambda *_: time.sleep(1.5)
"""
    with objective(own_client, timeout_s=1.0) as f:
        f.value(np.zeros(f.n_params))
        with late_worker(own_client, tmp_path, slow):
            late = max(set(own_client.nthreads()) - set(f._engine._workers.states))
            until(lambda: f._engine.sharing() and late in f._engine._workers.states)


class Link:
    """A worker behind a network of its own, which can be cut."""

    def __init__(self):
        # Of this process only: a second link with the same addresses would carry what the first one loses.
        network = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self.here, self.there = f"{network}.1", f"{network}.2"
        self.space = f"hfnumba{os.getpid()}"
        self.device = f"hf{os.getpid()}"

    def ip(self, *words):
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=LIMIT_S)

    def __enter__(self):
        try:
            self.ip("netns", "add", self.space)
            self.ip("link", "add", self.device, "type", "veth", "peer", "name", "inside", "netns", self.space)
            self.ip("addr", "add", f"{self.here}/24", "dev", self.device)
            self.ip("link", "set", self.device, "up")
            for words in (("addr", "add", f"{self.there}/24", "dev", "inside"), ("link", "set", "inside", "up")):
                self.ip("-n", self.space, *words)
            self.ip("-n", self.space, "link", "set", "lo", "up")
        except (OSError, subprocess.SubprocessError) as error:
            self.__exit__()
            pytest.skip(f"network namespaces are not allowed here: {error}")
        return self

    def set(self, state):
        self.ip("link", "set", self.device, state)

    def shape(self, *how):
        """Limit what passes in each direction."""
        for space, device in (([], self.device), (["ip", "netns", "exec", self.space], "inside")):
            words = [*space, "tc", "qdisc", "replace", "dev", device, "root", "tbf", *how]
            subprocess.run(words, check=True, capture_output=True, timeout=LIMIT_S)

    def lose_large_packets(self):
        """Lose packets of more than 1000 bytes, as behind a router with a smaller MTU."""
        self.shape("rate", "1gbit", "burst", "1000", "limit", "1000000")

    def pass_all_packets(self):
        """Be as fast as the machine again."""
        self.shape("rate", "10gbit", "burst", "10000000", "limit", "10000000")

    def __exit__(self, *_):
        for words in (("link", "del", self.device), ("netns", "del", self.space)):
            subprocess.run(["ip", *words], check=False, capture_output=True, timeout=LIMIT_S)


@contextmanager
def remote_worker(link, n_here):
    """Yield a client of some workers here and one behind a link."""
    cluster = LocalCluster(
        n_workers=n_here, threads_per_worker=1, host=link.here, dashboard_address=None, silence_logs=logging.CRITICAL
    )
    with cluster, Client(cluster) as client:
        words = ["ip", "netns", "exec", link.space, sys.executable, "-m", "dask", "worker"]
        words += [cluster.scheduler_address, "--host", link.there, "--nthreads", "1", "--no-dashboard"]
        remote = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            client.wait_for_workers(n_here + 1, timeout=LIMIT_S)
            yield client
        finally:
            link.set("up")
            remote.terminate()
            remote.wait(LIMIT_S)


@pytest.mark.slow
@pytest.mark.parametrize("sees", [True, False])
def test_a_silent_cut_of_the_network_is_noticed_and_mended(reference, sees, monkeypatch):
    """Nothing is closed: packets are lost. Partitions move; the worker that is back is used again."""
    lost = loses(monkeypatch)
    if not sees:
        monkeypatch.setattr("hfnumba.engine.cluster.greeting.Box", no_box)
    rng, cuts = random.Random(4), 0
    with Link() as link, remote_worker(link, 1) as client, objective(client, timeout_s=SILENCE_S) as f:
        for _ in range(3):
            # One that was lost twice, in its old process and in its new one, is asked only after a rest.
            until(lambda: len(client.sync(f._engine._workers.present, True)) == 2)
            until(lambda: f._engine.sharing() == (2 * sees, 2))
            at = rng.randrange(1, 5)
            lost.clear()
            got = everything(f, lambda step, at=at: step == at and link.set("down"))
            cuts += 1
            # No connection breaks, and the kernel would try for many minutes.
            assert any(link.there in address for address in lost)
            assert_same_bits(got, reference)
            link.set("up")
    assert cuts == 3


@pytest.mark.slow
def test_a_network_that_loses_large_packets_only_is_noticed_and_mended(reference, monkeypatch):
    """The worker answers all greetings, but no round reaches it, or no answer the client."""
    lost = loses(monkeypatch)
    options = {"timeout_s": SILENCE_S, "shared_memory": False}
    with Link() as link, remote_worker(link, 1) as client, objective(client, **options) as f:
        for at in (1, 3):
            # One that was lost again and again is asked only after a rest, also in a new process.
            until(lambda: len(client.sync(f._engine._workers.present, True)) == 2)
            lost.clear()
            got = everything(f, lambda step, at=at: step == at and link.lose_large_packets())
            assert 1 <= sum(link.there in address for address in lost) <= 6 - at
            assert_same_bits(got, reference)
            link.pass_all_packets()


@pytest.mark.slow
def test_a_slow_network_is_no_silence(monkeypatch):
    """The rows travel for several times as long as a worker may be silent."""
    lost, rows = loses(monkeypatch), source(13_200)
    options = {"timeout_s": SILENCE_S, "shared_memory": False}
    with Link() as link, remote_worker(link, 0) as client, objective(client, rows, **options) as f:
        f._engine.sharing()
        link.shape("rate", "60kbit", "burst", "1600", "limit", "1000000")
        with objective(rows=rows) as here:
            assert f.value(np.zeros(f.n_params)) == here.value(np.zeros(f.n_params))
        assert not lost


@pytest.mark.slow
def test_a_round_over_a_network_that_loses_large_packets_ends():
    options = {"timeout_s": SILENCE_S, "shared_memory": False}
    with Link() as link, remote_worker(link, 0) as client, objective(client, **options) as f:
        f.value(np.zeros(f.n_params))
        stay(f._engine._workers)
        link.lose_large_packets()
        with pytest.raises(ClusterError, match="lost 3 times in one round"):
            f.value(np.ones(f.n_params))


def no_box(*_):
    raise SharedMemoryError("no memory of this kind")


def rss():
    import gc

    gc.collect()
    return psutil.Process().memory_info().rss


def grow():
    """Take memory until Dask ends this process."""
    taken = []
    while True:
        taken.append(np.ones(2**20))
        time.sleep(0.01)


@pytest.mark.slow
def test_a_worker_that_is_restarted_for_its_memory_is_named_with_what_it_took(reference, caplog):
    with (
        LocalCluster(n_workers=1, processes=True, memory_limit="500MiB", dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        objective(client) as f,
    ):
        assert_same_bits(everything(f), reference)
        (address,) = client.nthreads()
        kept = client.submit(grow)
        until(lambda: "and Dask restarts it" in caplog.text)
        kept.cancel()
        assert f"worker {address} took " in caplog.text
        assert_same_bits(everything(f), reference)


@pytest.mark.slow
def test_ten_thousand_rounds_take_no_memory(own_client):
    with objective(own_client) as f:
        theta = np.zeros(f.n_params, np.float32)
        sizes = []
        for i in range(12_001):
            theta[0] = i
            f.value_and_gradient(theta)
            if i in (2000, 12_000):
                sizes.append([rss(), own_client.run_on_scheduler(rss), *own_client.run(rss).values()])
    assert f.counters.rounds == 12_001
    grown = np.array(sizes[1]) - np.array(sizes[0])
    # Ten vectors of this objective would be 6 kB; a leak of one array of 170 floats a round would be 7 MB.
    assert grown.max() < 5e6, sizes
