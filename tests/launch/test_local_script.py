"""cluster/local.sh: a scheduler and workers started as separate commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hfnumba import ledger
from tests.limits import LIMIT_S
from tests.mpi.ranks import script_job
from tests.toy_store import write_toy_store

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "local.sh"


def run(place, *words):
    """Exit status and stderr; nothing is left running."""
    job = script_job(Path(sys.executable), [SCRIPT, *words], place)
    status, err = job.finish()
    assert job.left() == []
    return status, err


@pytest.mark.parametrize("words", [(), ("2",), ("x", "train"), ("0", "train")])
def test_usage(words):
    done = subprocess.run(["bash", SCRIPT, *words], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


@pytest.mark.slow
def test_it_trains_passes_the_status_on_and_leaves_nothing_running(tmp_path):
    store = write_toy_store(tmp_path / "toy.zarr")
    words = ["train", store, "--hidden", "4", "--max-iterations", "1", "--run", tmp_path / "r"]
    status, err = run(tmp_path, 2, *words)
    assert status == 0, err
    # Training begins with the first worker; on a busy machine the second joins later.
    assert re.search(r" at tls://127\.0\.0\.1:\d+, (1 worker|2 workers) × 1 thread\n", err)
    assert len(ledger.read(tmp_path / "r" / "ledger.jsonl")) == 2
    status, err = run(tmp_path, 1, "train", tmp_path / "none", "--hidden", "4")
    assert status == 1, err
