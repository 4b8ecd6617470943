"""Jobs of several ranks as real processes, with time limits and checks for leftover processes."""

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from hfnumba.checkpoint import newest_checkpoint
from hfnumba.cli import main
from tests.limits import LIMIT_S, until

MARKER = "HFNUMBA_TEST_JOB"
# Between looks at all processes of the machine, which would slow down those that are waited for.
LOOK_S = 0.2
RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
BASE = ["--hidden", "30,20", "--method", "hf-cg", "--curvature-rows", "100", "--l2", "1e-3", "--seed", "2"]
KFAC = ["--method", "kfac", "--batch-rows", "16"]
"""After BASE: eleven steps in an epoch."""
NOISE = ("Traceback", "Warning", "WARNING", "ERROR", "CommClosed", "distributed.", "asyncio")
# By default Open MPI refuses root, and more ranks than processors; MPICH ignores these variables.
ENV = {
    **os.environ,
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":OVERSUBSCRIBE",
    "PRTE_MCA_rmaps_default_binding_policy": "none",
}
# The guard matters: the processes of the workers import the main module.
SCRIPT = """\
import sys
from hfnumba.cli import main

if __name__ == "__main__":
    sys.exit(main(prog_name="hfnumba"))
"""
FAILING_SCRIPT = """\
import sys
from hfnumba import ledger
from hfnumba.cli import main

def fail(path, line):
    raise RuntimeError("injected")

if __name__ == "__main__":
    ledger.append = fail
    sys.exit(main(prog_name="hfnumba"))
"""


@dataclass(frozen=True)
class Mpi:
    """An MPI, with an interpreter that has hfnumba and loads the library of this MPI."""

    name: str
    python: Path

    @property
    def mpirun(self):
        return str(self.python.parent / "mpirun")


@dataclass
class Started:
    """A running job; the marker is in the environment of all its processes."""

    process: subprocess.Popen
    marker: str

    def alive(self):
        """Processes of the job, including the launcher, without zombies."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARKER) == self.marker and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                pass
        return found

    def workers(self):
        """Processes that compute, which the nannies have spawned."""
        return [process for process in self.alive() if "spawn_main" in " ".join(command(process))]

    def ranks(self):
        """The process of each rank, without its child processes."""
        found = {}
        for process in self.alive():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                env = process.environ()
                name = next((name for name in RANK_VARIABLES if name in env), None)
                if name is not None:
                    found[process.pid] = int(env[name]), process.ppid(), process
        return {rank: process for rank, parent, process in found.values() if parent not in found}

    def finish(self):
        """Return exit status and stderr; a job that hangs is killed and fails the test."""
        try:
            _, err = self.process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the job hangs; it printed: {self.process.communicate()[1]}")
        return self.process.returncode, err

    def until(self, holds, every_s=0.02):
        """Return what ``holds()`` returns once that is true; the test fails if the job ends before, or hangs."""
        try:
            return until(holds, lambda: self.process.poll() is None, every_s)
        except AssertionError:
            self.kill()
            pytest.fail(f"it did not come to that: {self.process.communicate()[1]}")

    def kill(self):
        for process in self.alive():
            process.kill()

    def left(self):
        """Command lines of processes that do not end."""
        with suppress(AssertionError):
            until(lambda: not self.alive(), every_s=LOOK_S)
        found = [command(process) for process in self.alive()]
        self.kill()
        return found


def command(process):
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def start(words, cwd, **env):
    marker = uuid.uuid4().hex
    # Background jobs of a shell ignore SIGINT, and a script that inherits this cannot trap it.
    process = subprocess.Popen(
        ["env", "--default-signal=INT", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**ENV, MARKER: marker, **env},
        start_new_session=True,
    )
    return Started(process, marker)


def mpi_job(mpi, n, words, cwd, script=SCRIPT, **env):
    """Start `mpirun -n N hfnumba …`."""
    path = Path(cwd) / "hfnumba-script"
    path.write_text(script)
    return start([mpi.mpirun, "-n", n, mpi.python, path, *words], cwd, **env)


def script_job(python, words, cwd, **env):
    """Start a shell script with `hfnumba`, and the `mpirun` of an interpreter, on its PATH."""
    folder = Path(cwd) / "bin"
    folder.mkdir(exist_ok=True)
    put(folder / "hfnumba", f"#!{python}\n{SCRIPT}")
    return start(
        ["bash", *words], cwd, PATH=os.pathsep.join([str(folder), str(python.parent), os.environ["PATH"]]), **env
    )


def put(path, text):
    """Write a command."""
    path.write_text(text)
    path.chmod(0o755)


def train_words(store, run, *more, cluster="mpi"):
    words = ["train", store, *BASE, "--run", run, *more]
    return words if cluster is None else [*words, "--cluster", cluster]


def alone(words, cwd):
    """Run the command in one process, without any launcher."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=cwd,
        check=False,
    )
    return done.returncode, done.stderr


def in_this_process(words):
    """Run the command in this process; as the oracle of bits it needs no process of its own."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stderr


@cache
def straight(store, n, *more):
    """The parameters after n iterations of a run that is never interrupted, on two threads."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "r"
        in_this_process(train_words(store, run, "--max-iterations", n, "--threads", 2, *more, cluster="none"))
        return theta(run)


def resumed(store, run, n):
    """The parameters after n iterations of a run that was interrupted, continued on one thread."""
    more = ("--max-iterations", n, "--resume", "--threads", 1)
    assert "continuing after iteration" in in_this_process(train_words(store, run, *more, cluster="none"))
    return theta(run)


def wait_for_iteration(job, run, n):
    path = run / "ledger.jsonl"
    job.until(lambda: path.exists() and path.read_bytes().count(b"\n") > n)


def theta(run):
    return newest_checkpoint(run / "checkpoints").tensors["theta"].tobytes()


def sigkill(process):
    os.kill(process.pid, signal.SIGKILL)
