"""`hfnumba bench quality`."""

import json
import re

import pytest
from click.testing import CliRunner

from hfnumba.cli import main
from tests.limits import LIMIT_S


def hf(*arguments):
    return CliRunner().invoke(main, ["bench", "quality", *map(str, arguments)])


def test_a_quick_comparison_prints_tables_and_draws(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    # Both reach their targets, on a busy machine after more than a few seconds.
    monkeypatch.setattr("hfnumba.bench.quality.command._QUICK_MINUTES", LIMIT_S / 60)
    arguments = ["digits", "--quick", "--methods", "kfac,adam", "--store", tmp_path / "digits.zarr"]
    arguments += ["--json", tmp_path / "r.jsonl"]
    result = hf(*arguments, "--picture", tmp_path / "p.png")
    assert result.exit_code == 0, result.output
    assert "1/2 adam, 512 rows, rate 0.001, seed 0: " in result.stderr
    assert "digits: 1,437 training and 360 held-out rows, network 64-100-50-10" in result.stderr
    rows = [re.split(" {2,}", line.strip()) for line in result.stdout.splitlines()]
    table = rows[1:4]
    assert result.stdout.startswith("training error of 1.00 %\n")
    assert table[0] == ["method", "rounds", "passes", "GFLOP", "seconds", "ratios", "lowest"]
    assert [row[0] for row in table] == ["method", "adam", "kfac"]
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    last = json.loads((tmp_path / "r.jsonl").read_text().splitlines()[-1])
    kfac = last["targets"][0]["methods"]["kfac"]
    assert last["kind"] == "summary" and (kfac["reached"], kfac["seeds"]) == (1, 1)
    assert table[2][1] == f"{kfac['rounds']:,.0f}"
    # Nothing is left to do, so the second call prints the same.
    again = hf(*arguments)
    other = hf(*arguments, "--l2", "0.1")
    assert other.exit_code == 1 and "has results of another l2" in other.output
    assert again.stdout == result.stdout.replace(f"{tmp_path / 'p.png'}\n", "") and "/2" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chess"], "unknown problem 'chess'; choose from digits, mnist"),
        (["digits", "--methods", "newton"], "unknown method 'newton'; choose from sgd"),
        (["digits", "--methods", ","], "expected different methods, got none"),
        (["digits", "--picture", "p.txt"], "p.txt"),
        (["digits", "--l2", "-1"], "expected l2 to be a number of at least 0, got -1.0"),
        (["digits", "--l2", "nan"], "expected l2 to be a number of at least 0, got nan"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = hf(*arguments)
    assert result.exit_code == 2 and message in result.output
    assert not list(tmp_path.iterdir())
