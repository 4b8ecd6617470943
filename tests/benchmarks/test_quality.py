"""Tables and pictures of a page, from a file of results."""

import json
import subprocess
import sys

import pytest

from hfnumba.bench.quality.command import read_results
from hfnumba.errors import CheckpointError
from tests.house import ROOT
from tests.limits import LIMIT_S

SCRIPT = ROOT / "benchmarks" / "quality.py"


def results(path, **more):
    point = {"seconds": 2.0, "rounds": 10, "passes": 3.0, "gflop": 4.0, "loss": 0.1, "error": 0.01}
    point |= {"test_loss": 0.2, "test_error": 0.02}
    setting = {"kind": "setting", "problem": "digits", "sizes": [64, 9, 10], "activation": "tanh", "minutes": 1.0}
    setting |= {"objective": "softmax_cross_entropy", "rows": 1437, "test_rows": 360, "processors": 2}
    setting |= {"machine": "a processor", "versions": {"numpy": "2"}, **more}
    setting |= {"targets": [{"quantity": "error", "value": 0.01}]}
    lines = [setting]
    for method, seconds in (("torch-adam", 8.0), ("kfac", 2.0)):
        settings = {"batch_rows": None, "learning_rate": None, "is_trial": False}
        lines += [{"kind": "start", "method": method, "seed": 0, **settings}]
        lines += [{"kind": "point", **point, "seconds": seconds}]
        lines += [{"kind": "end", "ending": "all targets are reached", "others": 0.25}]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_a_page_gets_tables_and_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- quality-digits: begin -->\nold\n<!-- quality-digits: end -->\nafter\n")
    (tmp_path / "figures").mkdir()
    command = [sys.executable, SCRIPT, results(tmp_path / "r.jsonl"), "--write", page]
    subprocess.run(command, check=True, timeout=LIMIT_S)
    text = page.read_text()
    assert "| kfac | 10 | 3.0 | 4.00 | 2.0 | 1.0 | 1.0 | 4.0 | 1.00 % |" in text
    assert "| torch-adam | 10 | 3.0 | 4.00 | 8.0 | – | – | – | 1.00 % |" in text
    assert "Ratios (rounds, GFLOP, clock) are to torch-adam." in text and "at most 25% of the processors" in text
    assert "old" not in text and text.startswith("before") and text.endswith("after\n")
    assert (tmp_path / "figures" / "quality-digits.png").stat().st_size > 1000


def test_results_with_a_penalty_have_a_place_of_their_own(tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.md"
    page.write_text("<!-- quality-digits-l2: begin -->\n<!-- quality-digits-l2: end -->\n")
    (tmp_path / "figures").mkdir()
    command = [sys.executable, SCRIPT, results(tmp_path / "r.jsonl", l2=0.01), "--write", page]
    subprocess.run(command, check=True, timeout=LIMIT_S)
    assert "### digits, l2 = 0.01\n" in page.read_text()
    assert (tmp_path / "figures" / "quality-digits-l2.png").exists()


def test_the_overview_has_the_fastest_method_of_each_kind(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- quality: begin -->\n<!-- quality: end -->\n")
    command = [sys.executable, SCRIPT, results(tmp_path / "r.jsonl"), "--overview", page]
    subprocess.run(command, check=True, timeout=LIMIT_S)
    row = "| digits, 64-9-10 | training error of 1.00 % | torch-adam | 10 | 8.0 | kfac | 10 | 2.0 |"
    assert row in page.read_text()


def test_other_files_are_refused(tmp_path):
    (tmp_path / "other").write_text('{"kind": "setting", "problem": "chess"}\n')
    for name in ("other", "missing"):
        with pytest.raises(CheckpointError, match="no results of a known problem"):
            read_results(tmp_path / name)
