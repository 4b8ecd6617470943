"""One run that is repeatedly killed or stopped at random moments and resumed, until it is complete.

Each link of a chain starts the same command with --resume on another launcher or another number of workers. Whatever
happens to it, it leaves no process behind, gives the right exit status, and leaves a run that the next link continues
(or begins). At the end the parameters have the bits of an uninterrupted run in one process.
"""

import os
import random
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from hfnumba.atomic import TEMPORARY
from hfnumba.checkpoint import iterations
from tests.mpi.ranks import SCRIPT, mpi_job, resumed, script_job, start, straight, train_words

pytestmark = [pytest.mark.slow, pytest.mark.timeout(6000)]

MPI_SH = Path(__file__).resolve().parents[2] / "cluster" / "mpi.sh"
RANKS = {"scheduler": 0, "client": 1, "nanny": 2}


class Link(NamedTuple):
    """Place of the run (`mpi:N` and `mpi.sh:N` with N ranks); killed process, or signal to the launcher; moment."""

    where: str
    fault: str | signal.Signals
    moment: str


# The first links of each chain occur before there is a checkpoint.
LOCAL = [
    Link("local:2", "client", "start"),
    Link("none", signal.SIGUSR1, "start"),
    Link("local:2", signal.SIGTERM, "start"),
    Link("none", "client", "round"),
    Link("local:3", signal.SIGINT, "round"),
    Link("local:2", "client", "write"),
    Link("none", signal.SIGTERM, "round"),
    Link("local:3", "client", "round"),
    Link("local:2", signal.SIGUSR1, "round"),
    Link("none", "client", "write"),
]
MPI = [
    Link("mpi:4", "client", "start"),
    Link("mpi:3", signal.SIGUSR1, "start"),
    Link("mpi:3", "scheduler", "start"),
    Link("mpi:4", signal.SIGUSR1, "round"),
    Link("mpi:3", "mpirun", "start"),
    Link("mpi:3", "scheduler", "round"),
    Link("mpi.sh:3", signal.SIGINT, "round"),
    Link("mpi:3", "client", "write"),
    Link("mpi:4", "nanny", "round"),
    Link("mpi:3", signal.SIGTERM, "round"),
    Link("mpi:3", "mpirun", "write"),
]


def launch(link, mpi, store, run):
    kind, _, n = link.where.partition(":")
    words = train_words(store, run, "--max-iterations", 100_000, "--resume", cluster=None if mpi else link.where)
    if kind == "mpi":
        return mpi_job(mpi, n, [*words, "--cluster", "mpi"], run.parent)
    if kind == "mpi.sh":
        return script_job(mpi.python, [MPI_SH, n, *words], run.parent)
    return start([sys.executable, "-c", SCRIPT, *words], run.parent)


def newest(run):
    """The newest checkpoint; -1 if there is none."""
    return (iterations(run / "checkpoints") or [-1])[-1]


def listens(process):
    """Whether the process runs hfnumba, which handles signals; earlier, while Python starts, they end it."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    masks = (line.split()[1] for line in lines if line.startswith(("SigBlk:", "SigCgt:", "SigIgn:")))
    return any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for mask in masks)


def processes(job, link):
    """Launcher and ranks by their names, as soon as all exist."""
    kind, _, n = link.where.partition(":")
    launcher = psutil.Process(job.process.pid)
    if not kind.startswith("mpi"):
        job.until(lambda: listens(launcher))
        return {"launcher": launcher, "client": launcher}
    ranks = job.until(lambda: len(found := job.ranks()) == int(n) and all(map(listens, found.values())) and found)
    return {"launcher": launcher, "mpirun": launcher} | {name: ranks[rank] for name, rank in RANKS.items()}


def freeze_while_writing(job, client, run):
    """Stop the client while a file of a checkpoint has its temporary name."""

    def writing():
        return any(entry.name.endswith(TEMPORARY) for entry in os.scandir(run / "checkpoints"))

    def frozen():
        job.until(writing, every_s=0.001)
        client.suspend()
        job.until(lambda: client.status() == psutil.STATUS_STOPPED)
        if writing():
            return True
        client.resume()
        return False

    job.until(frozen)


def strike(job, link, run, rng):
    """Kill or stop a link at a random moment of its kind; return the checkpoint it had saved by then."""
    before = newest(run)
    there = processes(job, link)
    if link.moment != "start":
        job.until(lambda: newest(run) > before)
    if link.moment == "write":
        freeze_while_writing(job, there["client"], run)
    else:
        time.sleep(rng.uniform(0, 3 if link.moment == "start" else 0.2))
    saved = newest(run)
    assert job.process.poll() is None, "it ended before, so nothing was tried"
    if isinstance(link.fault, signal.Signals):
        there["launcher"].send_signal(link.fault)
    else:
        there[link.fault].kill()
    if link.moment == "write" and link.fault != "client":
        there["client"].resume()
    return saved


def check_end(job, link, kills):
    """A run that is killed ends with its job; one that is stopped ends at most one iteration later."""
    status, err = job.finish()
    assert job.left() == [], (link, err)
    if kills:
        assert status not in (0, 75), (link, err)
        return
    assert status == 75, (link, err)
    assert "Traceback" not in err and "distributed." not in err, (link, err)
    _, told, after = err.partition("stopping after this iteration")
    assert told and len(re.findall(r"\niteration \d+,", after)) <= 1, "it stopped at the next safe point"


@pytest.mark.parametrize("launcher", ["local", "mpich", "open_mpi"])
def test_whatever_is_killed_or_stopped_nothing_is_left_and_the_run_goes_on(launcher, request, toy_store, tmp_path):
    mpi = None if launcher == "local" else request.getfixturevalue(launcher)
    run, rng, counted = tmp_path / "r", random.Random(launcher), Counter()
    for link in LOCAL if mpi is None else MPI:
        # Open MPI answers SIGTERM by killing the ranks; therefore mpi.sh sends another signal.
        kills = isinstance(link.fault, str) or (launcher, link.where, link.fault) == ("open_mpi", "mpi:3", 15)
        job = launch(link, mpi, toy_store, run)
        saved = strike(job, link, run, rng)
        check_end(job, link, kills)
        counted["killed" if kills else "stopped"] += 1
        counted["before a checkpoint"] += saved < 0
    assert min(counted.values()) >= 1, counted
    n = newest(run) + 2
    assert resumed(toy_store, run, n) == straight(toy_store, tmp_path / "s", n)
