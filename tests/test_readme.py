"""The programs of the README, as a reader would copy them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hfnumba.ingest import write_store
from tests.limits import LIMIT_S

pytestmark = pytest.mark.slow
BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).resolve().parents[1] / "README.md").read_text(), re.DOTALL)


def printed(folder, block):
    """What a program prints, line by line."""
    (folder / "program.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_estimator_learns_the_digits(tmp_path):
    (block,) = [block for block in BLOCKS if "HessianFreeClassifier" in block]
    assert float(printed(tmp_path, block)[-1]) > 0.9


def test_a_client_of_dask_trains_on_the_store(tmp_path):
    """On few rows of noise in the place of MNIST, with classes that a network can tell apart."""
    (block,) = [block for block in BLOCKS if "LocalCluster" in block]
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (600, 784), dtype=np.uint8)
    y = (X.astype(np.float64) @ rng.standard_normal((784, 10))).argmax(axis=1)
    write_store(tmp_path / "mnist.zarr", {"train": (X, y)}, scale=1 / 255, n_partitions=4)
    lines = [line.split() for line in printed(tmp_path, block)]
    assert [int(line[0]) for line in lines] == list(range(11))
    losses = [float(line[1]) for line in lines]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.5 * losses[0]
