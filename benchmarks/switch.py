"""Training by kfac over networks of limited speed: namespaces of workers, and a run beside the model of scaling.

Each worker is in a network namespace of its own, behind a switch in another one. `tc` limits the link between this
process and the switch, in each direction, since the model takes the client's link for the narrow one. It needs root.
"""

import json
import os
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from hfnumba.bench.model import transport_s
from hfnumba.bench.remote import WorkerProcess, workers_at
from hfnumba.bench.round_costs import RoundCost
from hfnumba.bench.scaling import STAR, problem_of, remote_engine
from hfnumba.bench.targets import on_network
from hfnumba.engine import RoundObjective
from hfnumba.engine.local import LocalEngine
from hfnumba.engine.rows import ArraySource
from hfnumba.errors import HfnumbaError
from hfnumba.optim.kfac import KFAC

ROWS, BATCH_ROWS, PARTITIONS = 2048, 1024, 8
STEPS, ITERATIONS = 4, 3
_BURST, _QUEUE = "256k", "64m"


@dataclass(frozen=True)
class Link:
    """Bandwidth in Gbit/s and latency in seconds, in each direction."""

    gbit_s: float
    latency_s: float

    def __str__(self):
        rate = f"{self.gbit_s:g} Gbit/s" if self.gbit_s >= 1 else f"{1000 * self.gbit_s:g} Mbit/s"
        return rate + (f", {1000 * self.latency_s:g} ms" if self.latency_s else "")


LINKS = (Link(1.0, 0.5e-3), Link(0.1, 5e-3))


class Switch:
    """Namespaces of some workers, and the link of this process to them."""

    def __init__(self, n_workers):
        # Of this process only.
        self._network = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self._switch, self._device = f"hfs{os.getpid()}", f"hfs{os.getpid()}"
        self._spaces = [f"hfw{os.getpid()}-{k}" for k in range(n_workers)]
        self._has_netem = True

    @property
    def here(self):
        """Address of this process."""
        return f"{self._network}.1"

    @property
    def processes(self):
        """A process of one worker in each namespace."""
        launchers = [("ip", "netns", "exec", space) for space in self._spaces]
        return [WorkerProcess(f"{self._network}.{k + 2}", 1, launcher) for k, launcher in enumerate(launchers)]

    def __enter__(self):
        try:
            for space in (self._switch, *self._spaces):
                _run("ip", "netns", "add", space)
            inside = ("ip", "-n", self._switch)
            _run(*inside, "link", "add", "bridge", "type", "bridge")
            _run("ip", "link", "add", self._device, "type", "veth", "peer", "name", "port", "netns", self._switch)
            _run("ip", "addr", "add", f"{self.here}/24", "dev", self._device)
            for k, space in enumerate(self._spaces):
                peer = ("peer", "name", "inside", "netns", space)
                _run(*inside, "link", "add", f"port{k}", "type", "veth", *peer)
                _run("ip", "-n", space, "addr", "add", f"{self._network}.{k + 2}/24", "dev", "inside")
                for device in ("lo", "inside"):
                    _run("ip", "-n", space, "link", "set", "dev", device, "up")
            for port in ("port", *(f"port{k}" for k in range(len(self._spaces)))):
                _run(*inside, "link", "set", "dev", port, "master", "bridge", "up")
            _run(*inside, "link", "set", "dev", "bridge", "up")
            _run("ip", "link", "set", "dev", self._device, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for words in (["link", "del", self._device], *(["netns", "del", s] for s in (self._switch, *self._spaces))):
            subprocess.run(["ip", *words], check=False, capture_output=True)

    def limit(self, link):
        """Limit what passes in each direction; return the link as it is, without latency where that is impossible."""
        rate = f"{1000 * link.gbit_s:g}mbit"
        if self._has_netem:
            try:
                self._set("netem", "delay", f"{1e6 * link.latency_s:g}us", "rate", rate, "limit", "100000")
            except subprocess.CalledProcessError:
                self._has_netem = False
            else:
                return link
        self._set("tbf", "rate", rate, "burst", _BURST, "limit", _QUEUE)
        return Link(link.gbit_s, 0.0)

    def _set(self, *how):
        for words in ([], ["ip", "netns", "exec", self._switch]):
            device = "port" if words else self._device
            _run(*words, "tc", "qdisc", "replace", "dev", device, "root", *how)

    def nbytes(self):
        """Bytes that have passed the link, in both directions, with the headers of all packets."""
        text = _run("ip", "-s", "-j", "link", "show", "dev", self._device)
        stats = json.loads(text)[0]["stats64"]
        return stats["rx"]["bytes"] + stats["tx"]["bytes"]


def _run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Found:
    """A run from its second iteration on: what was counted, and its last parameters."""

    rounds: int
    nbytes: int
    nbytes_in: int
    seconds: float
    passed: int
    theta: bytes

    @property
    def round_cost(self):
        """Mean bytes of a round, out and in."""
        return RoundCost((self.nbytes - self.nbytes_in) / self.rounds, self.nbytes_in / self.rounds, 0.0)


class _Incoming:
    """Engine that counts the bytes of the sums."""

    def __init__(self, engine):
        self._engine, self.nbytes = engine, 0

    def run(self, request):
        sums = self._engine.run(request)
        self.nbytes += sum(array.nbytes for array in sums)
        return sums

    def close(self):
        self._engine.close()


def train(network, make_engine, passed=lambda: 0):
    """Train by kfac on random rows; ``make_engine`` makes the engine of a problem."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, network.n_features), dtype=np.float32)
    y = rng.integers(0, network.n_outputs, ROWS)
    problem = problem_of(network, ArraySource.of(X, y, PARTITIONS, 1.0, 0.0))
    incoming = _Incoming(make_engine(problem))
    marks = []
    with RoundObjective(problem, incoming, 0.0) as objective:
        method = KFAC(batch_rows=BATCH_ROWS, record_every=STEPS, max_iterations=ITERATIONS)
        for line in method.iterate(objective, network.initialize(0)):
            counted = objective.counters.rounds, objective.counters.nbytes, incoming.nbytes
            marks.append(np.array([*counted, time.perf_counter(), passed()]))
            theta = line.state.theta.tobytes()
    rounds, nbytes, nbytes_in, seconds, link_nbytes = (marks[-1] - marks[1]).tolist()
    return Found(int(rounds), int(nbytes), int(nbytes_in), seconds, int(link_nbytes), theta)


@contextmanager
def cluster(n_workers):
    """Yield a switch and the client of its workers."""
    with ExitStack() as stack:
        switch = stack.enter_context(Switch(n_workers))
        yield switch, stack.enter_context(workers_at(switch.here, switch.processes))


def compare(network, constants, n_workers, links=LINKS):
    """Yield link, run, and the modelled seconds of its transport; refuse other bits, bytes or rounds than here."""
    alone = train(network, lambda problem: LocalEngine(problem, 1))
    with cluster(n_workers) as (switch, client):
        for wanted in links:
            link = switch.limit(wanted)
            found = train(network, lambda problem: remote_engine(problem, client, STAR), switch.nbytes)
            if (found.theta, found.nbytes, found.rounds) != (alone.theta, alone.nbytes, alone.rounds):
                raise HfnumbaError(f"over {link} the run has other bits, bytes or rounds than in one process")
            limited = on_network(constants, link.gbit_s, link.latency_s)
            yield link, found, found.rounds * transport_s(limited, found.round_cost, n_workers)
