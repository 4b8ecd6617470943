"""Real processes whose streams are closed, or whose reader goes away."""

import json
import subprocess
import sys

import pytest

from hfnumba import ledger
from hfnumba.checkpoint import newest_checkpoint
from tests.limits import LIMIT_S

HF = [sys.executable, "-m", "hfnumba"]
TRAIN = ["--hidden", "6", "--max-iterations", "3", "--threads", "1"]


def hf(*arguments, shell='"$@"'):
    """Run a command as the shell redirects it."""
    words = ["sh", "-c", shell, "sh", *HF, *map(str, arguments)]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=LIMIT_S)


@pytest.fixture(scope="module")
def run(toy_store, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "r"
    done = hf("train", toy_store, *TRAIN, "--run", path)
    assert done.returncode == 0, done.stderr
    return path


OTHERS = (pytest.param(redirection, marks=pytest.mark.slow) for redirection in ("2>&-", ">&- 2>&-", "2>/dev/full"))


@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", *OTHERS])
def test_a_run_without_streams_is_the_same_run(toy_store, tmp_path, run, redirection):
    done = hf("train", toy_store, *TRAIN, "--run", tmp_path / "r", shell=f'exec "$@" {redirection}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    losses, thetas = [], []
    for path in (tmp_path / "r", run):
        losses.append([line["loss"] for line in ledger.read(path / "ledger.jsonl")])
        thetas.append(newest_checkpoint(path / "checkpoints").tensors["theta"].tobytes())
    assert losses[0] == losses[1] and thetas[0] == thetas[1]


def test_a_run_goes_on_when_its_reader_has_read_enough(toy_store, tmp_path):
    words = [*HF, "train", str(toy_store), *TRAIN, "--max-iterations", "9", "--run", str(tmp_path / "r")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout.readline().startswith("running on this process")
    process.stdout.close()
    assert process.wait(LIMIT_S) == 0
    assert len(ledger.read(tmp_path / "r" / "ledger.jsonl")) == 10


def test_results_on_stdout_need_no_stderr(toy_store, run):
    done = hf("evaluate", run, toy_store, "--json", shell='exec "$@" <&- 2>&-')
    assert done.returncode == 0
    assert json.loads(done.stdout)["iteration"] == 3


@pytest.mark.parametrize(("arguments", "status"), [(["runs", "/nowhere"], 1), (["runs", "--nothing"], 2)])
def test_the_status_says_what_a_closed_stderr_cannot(arguments, status):
    assert hf(*arguments, shell='exec "$@" 2>&-').returncode == status


def test_a_result_that_cannot_be_written_is_said(run):
    done = hf("runs", run.parent, shell='exec "$@" >/dev/full')
    assert done.returncode == 1
    assert done.stderr.startswith("error: the disk is full")
