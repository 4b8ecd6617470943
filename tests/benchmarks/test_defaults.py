"""The table of the estimators' defaults: which of scikit-learn's solvers ours is compared with."""

import importlib

import pytest

from tests.house import ROOT


@pytest.fixture
def defaults(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("defaults")


@pytest.mark.parametrize(
    ("adam", "lbfgs", "ratio"),
    [
        (([0.9, 0.8], 0.08), ([0.7, 0.8], 0.01), 0.5),  # the higher score
        (([0.7, 0.8], 0.08), ([0.9, 0.8], 0.01), 4.0),
        # Equal scores, whose sums round differently: less time.
        (([0.1, 0.2, 0.3], 0.08), ([0.3, 0.2, 0.1], 0.01), 4.0),
        (([0.3, 0.2, 0.1], 0.01), ([0.1, 0.2, 0.3], 0.08), 4.0),
    ],
)
def test_the_better_solver_is_the_faster_one_of_equal_ones(defaults, adam, lbfgs, ratio):
    def results(scores, seconds):
        return defaults.Results(list(scores), [seconds] * len(scores), [1] * len(scores))

    ours = results([0.8] * len(adam[0]), 0.04)
    cell = defaults.Cell({"ours": ours, "adam": results(*adam), "lbfgs": results(*lbfgs)})
    assert cell.ratio == pytest.approx(ratio)
