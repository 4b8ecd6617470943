import subprocess
import sys

import pytest

from hfnumba import ledger
from tests.limits import LIMIT_S

pytest.importorskip("sklearn", reason="the demo's digits come with scikit-learn, which is not installed")


@pytest.mark.slow
def test_the_demo_reaches_its_goal_and_can_be_repeated(tmp_path):
    command = [sys.executable, "-c", "from hfnumba.cli import main; main(prog_name='hfnumba')", "demo"]
    for n in (1, 2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, done.stderr
        assert "2 workers × 1 thread" in done.stderr
        assert "Traceback" not in done.stderr
        runs = sorted((tmp_path / "runs").glob("demo-*"))
        assert len(runs) == n
    assert all((run / "curves.png").stat().st_size > 10_000 for run in runs)
    lines = [ledger.read(run / "ledger.jsonl") for run in runs]
    assert lines[0][-1]["test_error"] < 0.04
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]
