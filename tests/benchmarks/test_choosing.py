"""Tables of the page about choosing a method and its settings."""

import subprocess
import sys

import numpy as np
import pytest

from hfnumba.ingest import write_store
from hfnumba.optim.methods import METHODS
from tests.house import ROOT
from tests.limits import LIMIT_S

SCRIPT = ROOT / "benchmarks" / "choosing.py"


@pytest.mark.slow
def test_costs_of_all_methods_and_settings_on_a_small_problem(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 5)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    store = write_store(tmp_path / "small.zarr", {"train": (X[:530], y[:530]), "test": (X[530:], y[530:])})
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- {name}: begin -->\nold\n<!-- {name}: end -->\n" for name in ("methods", "settings")))
    command = [sys.executable, SCRIPT, store.path, "--seeds", "1", "--passes", "100", "--write", page]
    subprocess.run(command, check=True, timeout=LIMIT_S)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text().splitlines()]
    methods = {cells[1]: cells for cells in rows if cells[:1] == ["small"] and len(cells) == 6}
    assert list(methods) == [f"`{method}`" for method in METHODS]
    settings = [cells for cells in rows if cells[:1] == ["small"] and len(cells) == 7]
    # The same run stands in both tables, and samples that would be all rows in none.
    assert [methods["`kfac`"][2:]] == [cells[3:] for cells in settings if cells[1:3] == ["`kfac`", "defaults"]]
    sizes = [cells[2] for cells in settings if "-rows" in cells[2]]
    assert sizes == ["`--curvature-rows 128`", "`--curvature-rows 512`"] * 2 + ["`--batch-rows 256`"]
