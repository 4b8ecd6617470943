"""The examples run as scripts, from any folder, and show what their pages need."""

import os
import re
import subprocess
import sys

import pytest

from tests.docs.page import ROOT
from tests.limits import LIMIT_S

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# A line of the output of each that says that it worked.
SHOWN = {
    "borehole": r"network  R² 0\.99",
    "curvature": r"after 8 iterations: eigenvalues from -0\.\d+ to",
    "dask_client": r"the same bits: True",
    "digits": r"(?m)^ +12 .* 0\.\d+%",
    "onnx_export": r"below 1e-5: True",
    "own_loop": r"the same bits: True",
    "pipeline": r"on the test rows 0\.9",
}


def environment():
    return os.environ | {"MPLBACKEND": "agg", "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_as_a_script(example, tmp_path):
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", str(example)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(SHOWN[example.stem], done.stdout), done.stdout
    assert len(done.stdout.splitlines()) < 40 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_notebook_with_a_title_and_a_row_of_the_table(example):
    text = example.read_text("utf-8")
    assert text.startswith("# %% [markdown]\n# # ") and "\n# %%\n" in text
    assert f"[{example.name}]({example.name})" in (ROOT / "examples" / "README.md").read_text("utf-8")


def test_the_table_has_no_other_rows():
    rows = re.findall(r"\| \[(\S+\.py)\]", (ROOT / "examples" / "README.md").read_text("utf-8"))
    assert sorted(rows) == [path.name for path in EXAMPLES]
