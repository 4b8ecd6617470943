"""Times to targets from files of results, with numbers made up."""

import json
from dataclasses import asdict

import pytest

pytest.importorskip("matplotlib")

from hfnumba.bench.quality.records import Point, Record, Run
from hfnumba.bench.round_costs import RoundCost
from hfnumba.bench.targets import on_network, training_s
from hfnumba.errors import CheckpointError, UsageError
from hfnumba.figures.two_table import WORKERS
from hfnumba.figures.two_targets import LINKS, ways_of, write_targets
from tests.bench.test_model import CONSTANTS

COSTS = {
    "kfac": RoundCost(4e6, 3e6, 0.02),
    "hf-bicgstab": RoundCost(2e6, 2e6, 0.01),
    "adam": RoundCost(1e6, 1e6, 0.005),
    "lbfgs": RoundCost(1e6, 1e6, 0.005),
}
SETTING = {"problem": "digits", "sizes": [64, 5, 10], "activation": "tanh", "objective": "softmax_cross_entropy"}
ERRORS = [{"quantity": "error", "value": 0.01}, {"quantity": "test_error", "value": 0.05}]
RUNS = {
    "torch-adam": (600, 900.0, 8.0, 0.04),
    "kfac": (30, 350.0, 2.5, 0.04),
    "hf-bicgstab": (150, 2000.0, 14.0, 0.04),
    "lbfgs": (100, 2000.0, 9.0, 0.2),
    "sklearn": (900, 900.0, 30.0, 0.04),
}


def file_of_results(folder, targets=ERRORS, **setting):
    record = Record(folder / "quality-digits.jsonl", {**SETTING, "targets": targets, **setting})
    for seed in range(2):
        for method, (rounds, gflop, seconds, test_error) in RUNS.items():
            run = Run(method, 256 if method == "torch-adam" else None, seed=seed)
            record.begin(run)
            record.add(Point(seconds + seed, rounds + 2 * seed, 5.0, gflop, 0.05, 0.01, 0.1, test_error))
            record.end(run, "all targets are reached", 0.0)
    return record.path


def measured(method, network):
    assert network.sizes == (64, 5, 10)
    return COSTS[method]


def test_medians_over_the_seeds_are_modelled_for_each_network(tmp_path):
    png, svg, text, numbers = write_targets(tmp_path, CONSTANTS, [file_of_results(tmp_path)], measured)
    assert (png.name, svg.name) == ("two-targets.png", "two-targets.svg")
    assert min(path.stat().st_size for path in (png, svg)) > 500
    error, held_out = json.loads(numbers.read_text())
    assert [one["setting"] for one in error["methods"]] == ["torch-adam, 256 rows", "kfac", "hf-bicgstab", "lbfgs"]
    assert error["methods"][1] == {
        "setting": "kfac",
        "rounds": 31,
        "gflop": 350.0,
        "seconds": 3.0,
        "round_cost": asdict(COSTS["kfac"]),
    }
    # The update of a first-order method is shared by its workers.
    assert error["methods"][0]["round_cost"] == asdict(COSTS["adam"]) | {"client_s": 0.0}
    (way, _) = ways_of(tmp_path / "quality-digits.jsonl", measured)
    for link, found in zip(LINKS, error["seconds"], strict=True):
        assert found["gbit_s"] == link and found["workers"] == list(WORKERS)
        expected = [training_s(on_network(CONSTANTS, link), way.trainings[1], p) for p in WORKERS]
        assert found["kfac"] == pytest.approx(expected)
    assert (error["title"], held_out["title"]) == (
        "digits: training error of 1.00 %",
        "digits: held-out error of 5.00 %",
    )
    assert held_out["missing"] == ["lbfgs"]
    assert "Not with every seed: lbfgs." in text.read_text()


def test_the_table_names_the_faster_method_and_where_another_one_is(tmp_path):
    *_, text, _ = write_targets(tmp_path, CONSTANTS, [file_of_results(tmp_path)], measured)
    error, held_out = text.read_text().split("**digits: held-out error of")
    assert "The fastest: 1 Gbit/s: kfac, lbfgs from 16 workers on; 10 Gbit/s: kfac; 100 Gbit/s: kfac." in error
    assert "The fastest: 1 Gbit/s: kfac; 10 Gbit/s: kfac; 100 Gbit/s: kfac." in held_out
    rows = [line for line in error.splitlines() if " : " in line]
    assert "| kfac : lbfgs | kfac; lbfgs from 16 workers | kfac | kfac |" in rows
    assert not [line for line in rows if "kfac : hf-bicgstab" in line], "it is slower with any number of workers"
    pair = next(line for line in rows if line.startswith("| torch-adam : hf-bicgstab |"))
    assert "torch-adam; hf-bicgstab from" in pair


def test_a_target_that_adam_sets_comes_once(tmp_path):
    path = file_of_results(tmp_path, [{"quantity": "test_error", "value": None}, {"quantity": "loss", "value": None}])
    (way,) = ways_of(path, measured)
    assert way.label == "Adam's lowest held-out error"
    assert way.title.startswith("digits: held-out error of 4.00 %, 4.00 % (the lowest of Adam")


def test_activations_for_each_layer(tmp_path):
    path = file_of_results(tmp_path, sizes=[64, 5, 3, 10], activation=["tanh", "relu"])

    def here(method, network):
        assert network.activations == ("tanh", "relu")
        return COSTS[method]

    assert len(ways_of(path, here)) == 2


def test_files_without_what_is_needed_are_refused(tmp_path):
    path = file_of_results(tmp_path, [{"quantity": "error", "value": 0.001}])
    with pytest.raises(UsageError, match=r"expected a method that reaches the training error of 0\.10 %"):
        ways_of(path, measured)
    (tmp_path / "other.jsonl").write_text('{"kind": "point"}\n')
    with pytest.raises(CheckpointError, match="no file of results"):
        ways_of(tmp_path / "other.jsonl", measured)
