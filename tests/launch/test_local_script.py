"""cluster/local.sh: a scheduler and workers that are commands of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hfnumba import ledger
from tests.toy_store import write_toy_store

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "local.sh"
ENV = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(*words):
    command = ["bash", str(SCRIPT), *map(str, words)]
    return subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("words", [(), ("2",), ("x", "train"), ("0", "train")])
def test_usage(words):
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


@pytest.mark.slow
def test_it_trains_passes_the_status_on_and_leaves_nothing_running(tmp_path):
    store = write_toy_store(tmp_path / "toy.zarr")
    done = run(2, "train", store, "--hidden", "4", "--max-iterations", "1", "--run", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    # Training begins with the first worker; on a busy machine the second joins later.
    assert re.search(", (1 worker|2 workers) × 1 thread\n", done.stderr)
    assert len(ledger.read(tmp_path / "r" / "ledger.jsonl")) == 2
    assert run(1, "train", tmp_path / "none", "--hidden", "4").returncode == 1
    table = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert not [line for line in table.splitlines() if "dask worker" in line and "--scheduler-file" in line]
