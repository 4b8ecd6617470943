"""Scripts of cluster/: they run, return exit statuses, and end at a checkpoint on signals of a batch system."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hfnumba.checkpoint import iterations
from tests.mpi.ranks import BASE, put, script_job, wait_for_iteration
from tests.mpi.test_slurm import SRUN

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
MANY = ("--max-iterations", "100000")


@pytest.fixture
def place(tmp_path):
    """A directory with a copy of cluster/ and one of commands, to be first on the PATH."""
    shutil.copytree(CLUSTER, tmp_path / "cluster")
    (tmp_path / "bin").mkdir()
    return tmp_path


@pytest.mark.parametrize("script", ["local.sh", "mpi.sh", "slurm.sbatch", "pbs.sh", "env.sh", "install-worker.sh"])
def test_the_shell_reads_it(script):
    assert subprocess.run(["bash", "-n", CLUSTER / script], check=False).returncode == 0


@pytest.mark.parametrize("words", [(), ("4",), ("x", "train"), ("2", "train")])
def test_usage_of_mpi_sh(words):
    done = subprocess.run(["bash", CLUSTER / "mpi.sh", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


@pytest.mark.parametrize("words", [(), ("folder",)])
def test_usage_of_install_worker_sh(words):
    script = CLUSTER / "install-worker.sh"
    done = subprocess.run(["bash", script, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")


def test_kubernetes_describes_a_cluster_whose_parts_share_the_store():
    cluster, client, policy = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text("utf-8"))
    assert (cluster["kind"], client["kind"], policy["kind"]) == ("DaskCluster", "Pod", "NetworkPolicy")
    (worker,) = cluster["spec"]["worker"]["spec"]["containers"]
    (scheduler,) = cluster["spec"]["scheduler"]["spec"]["containers"]
    (session,) = client["spec"]["containers"]
    assert worker["volumeMounts"] == session["volumeMounts"]
    assert all(isinstance(word, str) for word in worker["args"] + scheduler["args"])


@pytest.mark.slow
def test_mpi_sh_passes_a_failure_on(mpich, place):
    job = script_job(mpich.python, [place / "cluster/mpi.sh", 3, "train", "none.zarr", "--hidden", "4"], place)
    status, err = job.finish()
    assert status == 1, err
    assert job.left() == []


@pytest.mark.slow
def test_slurm_sbatch_is_requeued(mpich, toy_store, place):
    """An srun that starts three local processes, independent of the requested number of tasks."""
    put(place / "bin" / "scontrol", '#!/bin/sh\necho "$@" >>scontrol.log\n')
    put(place / "player.py", SRUN)
    put(place / "bin" / "srun", f'#!/bin/sh\nshift 2\nexec {sys.executable} player.py 3 bin/hfnumba "$@"\n')
    words = ["cluster/slurm.sbatch", toy_store, *BASE, "--run", place / "r"]
    job = script_job(mpich.python, [*words, *MANY], place, SLURM_JOB_ID="7")
    wait_for_iteration(job, place / "r", 1)
    os.kill(job.process.pid, signal.SIGUSR1)
    status, err = job.finish()
    assert status == 75, err
    assert (place / "scontrol.log").read_text() == "requeue 7\n"
    assert job.left() == []
    done = iterations(place / "r" / "checkpoints")[-1]
    more = ["--max-iterations", done + 1]
    again = script_job(mpich.python, [*words, *more], place, SLURM_JOB_ID="7", SLURM_RESTART_COUNT="1")
    status, err = again.finish()
    assert status == 0, err
    assert f"continuing after iteration {done}\n" in err
    assert (place / "scontrol.log").read_text() == "requeue 7\n"


@pytest.mark.slow
def test_pbs_submits_its_successor(mpich, toy_store, place):
    put(place / "bin" / "qsub", '#!/bin/sh\necho "$@" >>qsub.log\n')
    script = place / "cluster" / "pbs.sh"
    text = script.read_text()
    assert "mpi.sh 34 train" in text
    script.write_text(text.replace("mpi.sh 34 train", "mpi.sh 3 train").replace("--hidden 400,150", "--hidden 30,20"))
    env = {"PBS_O_WORKDIR": str(place), "STORE": str(toy_store), "RUN": "r"}
    job = script_job(mpich.python, [script], place, **env)
    wait_for_iteration(job, place / "r", 0)
    os.kill(job.process.pid, signal.SIGTERM)
    status, err = job.finish()
    assert status == 75, err
    assert (place / "qsub.log").read_text() == f"-v STORE={toy_store},RUN=r cluster/pbs.sh\n"
    assert job.left() == []
