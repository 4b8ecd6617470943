"""Tables and sentences of a comparison of methods."""

from dataclasses import replace

import pytest

from hfnumba.bench.quality.problems import PROBLEMS, Target
from hfnumba.bench.quality.records import Point, Result, Run
from hfnumba.bench.quality.summary import methods_of, summarise
from hfnumba.figures.quality import draw, header, peers_text, short_table, table, title

DIGITS = replace(PROBLEMS["digits"], targets=(Target("error", 0.01),))


def result(method, seconds, rounds, seed=0, error=0.01, rows=None):
    point = Point(seconds, rounds, 1.5, 1000.0 * seconds, 0.1, error, 0.2, 0.02)
    return Result(Run(method, rows, seed=seed), (point,), "the end", 0.0)


RESULTS = [
    *(result("adam", 8 + seed, 100, seed, rows=64) for seed in range(3)),
    *(result("momentum", 20, 50 + seed, seed) for seed in range(3)),
    *(result("kfac", 2, 10 + seed, seed) for seed in range(3)),
    *(result("gn-cg", 2, 200, seed, error=0.005 if seed else 0.03) for seed in range(3)),
]


def summary(problem=DIGITS):
    return summarise(problem, methods_of(RESULTS), RESULTS)[0]


def test_a_short_table_has_medians_and_ratios():
    assert short_table(DIGITS, summary()) == [
        ["adam", "100", "1.5", "9,000", "9.0", "–", "1.00 %"],
        ["momentum", "51", "1.5", "20,000", "20.0", "–", "1.00 %"],
        ["kfac", "11", "1.5", "2,000", "2.0", "4.6/4.5/4.5", "1.00 %"],
        ["gn-cg", "200 (2/3)", "1.5 (2/3)", "2,000 (2/3)", "2.0 (2/3)", "–", "0.50 %"],
    ]
    assert title(DIGITS, summary()) == "training error of 1.00 %"
    expected = "Ratios (rounds, GFLOP, clock) are to momentum (rounds); adam, 64 rows (GFLOP, clock)."
    assert peers_text(summary()) == expected


def test_a_whole_table_has_ranges_too():
    rows = table(DIGITS, summary())
    assert len(header("error")) == len(rows[0])
    assert rows[0][:5] == ["adam, 64 rows", "100", "1.5", "9,000 (8,000–10,000)", "9.0 (8.0–10.0)"]
    assert rows[2][5:8] == ["4.6", "4.5", "4.5"]
    assert rows[3][1] == "200 (2 of 3 seeds)"


def test_targets_of_adam_are_named_for_each_seed():
    relative = replace(DIGITS, loss="squared_error", targets=(Target("test_error", None),))
    found = summary(relative)
    assert title(relative, found) == "held-out error of 0.02, 0.02, 0.02 (the lowest of Adam, by seed)"


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "p.svg"
    draw(DIGITS, RESULTS, [summary()], out)
    text = out.read_text()
    assert text.startswith("<?xml") and text.count("<path") > 20
