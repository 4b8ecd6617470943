"""Counts of the page about choosing a method and its settings."""

import re
import subprocess
import sys

import numpy as np
import pytest

from hfnumba.ingest import write_store
from tests.house import ROOT
from tests.limits import LIMIT_S

COMMAND = [sys.executable, ROOT / "benchmarks" / "choosing.py"]


@pytest.mark.slow
def test_tables_of_a_small_problem(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 5)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    store = write_store(tmp_path / "small.zarr", {"train": (X[:500], y[:500]), "test": (X[500:], y[500:])})
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- {name}: begin -->\nold\n<!-- {name}: end -->\n" for name in ("methods", "settings")))
    options = ["--seeds", "1", "--passes", "60", "--write", page]
    subprocess.run([*COMMAND, store.path, *options], check=True, timeout=LIMIT_S)
    text = page.read_text()
    assert "old" not in text
    rows = [line for line in text.splitlines() if line.startswith("| small")]
    settings = [line for line in rows if "`kfac`" in line and "batch-rows" in line]
    # Of the numbers of rows only 256 is below 500.
    assert [re.search(r"--batch-rows (\d+)", line).group(1) for line in settings] == ["256"]
    # A step of kfac is one round.
    (kfac,) = [line for line in rows if line.startswith("| small | `kfac` | ") and "|" not in line[19:20]][:1]
    assert re.search(r"\| [\d,]+ \([\d,]+–[\d,]+\) \|", kfac)
