"""Figures from a small store: pictures and tables show the ledgers, and are the same when repeated."""

import json
import re

import pytest

from hfnumba import ledger
from hfnumba.errors import CheckpointError, StoreError
from hfnumba.figures import experiment, one, saddle, three
from hfnumba.figures.experiment import Experiment, Laboratory, Schedule
from hfnumba.figures.material import material
from hfnumba.figures.options import FigureOptions, FigureStopped
from hfnumba.figures.plan import planned
from hfnumba.figures.summary import Series, best_of, carry_out, reaches, spread
from hfnumba.progress import SILENT
from hfnumba.run.directory import resumed_settings
from hfnumba.run.setting_types import EARLIER_ALL
from hfnumba.store import open_store
from tests.digits_idx import build_digits
from tests.silent import Silent
from tests.toy_store import write_toy_store

TOY = Experiment.of(hidden=(6,), curvature_rows=60, max_iterations=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return material(
        FigureOptions(write_toy_store(tmp_path_factory.mktemp("s") / "toy.zarr"), tmp_path_factory.mktemp("o")), SILENT
    )


def laboratory(store, runs, reporter=SILENT):
    return Laboratory(store, runs, "none", reporter)


def without_seconds(lines):
    return [{key: value for key, value in line.items() if key != "elapsed_s"} for line in lines]


def test_a_run_that_is_complete_is_not_repeated_and_a_longer_one_goes_on(store, tmp_path):
    reporter = Silent()
    lab = laboratory(store, tmp_path, reporter)
    (first,) = lab.ledgers([TOY])
    before = (tmp_path / TOY.name / "ledger.jsonl").read_bytes()
    reporter.notes.clear()
    assert lab.ledgers([TOY]) == [first]
    assert reporter.notes == [] and (tmp_path / TOY.name / "ledger.jsonl").read_bytes() == before
    (longer,) = lab.ledgers([TOY.but(max_iterations=6)])
    assert [line["iteration"] for line in longer] == list(range(7)) and longer[:5] == first
    assert lab.ledgers([TOY]) == [first], "the shorter figure does not see the lines beyond its limit"


def test_interrupted_and_uninterrupted_runs_are_equal(store, tmp_path, monkeypatch):
    (whole,) = laboratory(store, tmp_path / "a").ledgers([TOY])
    real, count = ledger.append, []

    def stopping(path, line):
        real(path, line)
        count.append(line)
        if len(count) == 3:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ledger, "append", stopping)
    lab = laboratory(store, tmp_path / "b")
    with pytest.raises(FigureStopped, match="checkpoint"):
        lab.ledgers([TOY])
    assert len(ledger.read(tmp_path / "b" / TOY.name / "ledger.jsonl")) == 3
    (resumed,) = lab.ledgers([TOY])
    assert without_seconds(resumed) == without_seconds(whole)


def test_a_run_from_before_the_word_for_all_rows_is_found_and_continued(store, tmp_path):
    lab, earlier = laboratory(store, tmp_path), TOY.but(line_rows=EARLIER_ALL, max_iterations=2)
    assert "line-rows=all" in TOY.name and "line-rows=2147483647" in earlier.name
    lab.ledgers([earlier])
    assert lab.is_done(TOY.but(max_iterations=2)) and not lab.is_done(TOY)
    (found,) = lab.ledgers([TOY])
    assert [path.name for path in tmp_path.iterdir()] == [earlier.name]
    (whole,) = laboratory(store, tmp_path / "new").ledgers([TOY])
    assert without_seconds(found) == without_seconds(whole)
    with pytest.raises(CheckpointError, match="line_rows was 2147483647, not 5"):
        resumed_settings(earlier.settings, {"line_rows": 5})


def test_runs_of_other_settings_or_data_are_refused(store, tmp_path):
    laboratory(store, tmp_path).ledgers([TOY])
    config = tmp_path / TOY.name / "config.toml"
    text = config.read_text()
    config.write_text(text.replace("curvature_rows = 60", "curvature_rows = 61"))
    with pytest.raises(CheckpointError, match="other curvature_rows than the figure needs"):
        laboratory(store, tmp_path).ledgers([TOY])
    config.write_text(text)
    other = material(FigureOptions(write_toy_store(tmp_path / "other.zarr", seed=1), tmp_path), SILENT)
    with pytest.raises(CheckpointError, match="other data"):
        laboratory(other, tmp_path).ledgers([TOY])
    (tmp_path / TOY.name / "ledger.jsonl").write_text("nonsense\n")
    with pytest.raises(CheckpointError, match="not a line of a ledger"):
        laboratory(store, tmp_path).ledgers([TOY])


def test_the_first_rows_of_a_store_are_taken_once(store, tmp_path):
    options = FigureOptions(store.path, tmp_path)
    part = material(options, SILENT, rows=100)
    assert part["train"].n_rows == 100 and part["test"].n_rows == store["test"].n_rows
    assert part["train"].n_outputs == store["train"].n_outputs
    reporter = Silent()
    assert material(options, reporter, rows=100).digest == part.digest and reporter.notes == []
    rows = {tuple(row) for j in range(store["train"].n_partitions) for row in store["train"].load(j)[0].tolist()}
    taken = [tuple(row) for j in range(part["train"].n_partitions) for row in part["train"].load(j)[0].tolist()]
    assert len(set(taken)) == 100 and set(taken) <= rows


def test_without_a_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="hfnumba data build mnist"):
        material(FigureOptions(None, tmp_path), SILENT)


def test_the_best_of_a_grid_has_the_fewest_rounds(store, tmp_path):
    lab = laboratory(store, tmp_path)
    grid = [TOY.but(method="sgd", batch_rows=30, learning_rate=rate) for rate in (0.001, 0.3)]
    best = best_of(lab, grid, 0.3)
    found = [reaches(lines, 0.3) for lines in lab.ledgers(grid)]
    assert found[0] is None and found[1] is not None and best is grid[1]


def test_spread():
    assert spread([3, 1, 2]) == "2 (1–3)"
    assert spread([2, 2]) == "2"
    assert spread([None, None]) == "–"
    assert spread([1000, None, 3000]) == "2,000 (2 of 3 seeds)"


def test_series_reads_costs_where_the_error_is_first_reached():
    lines = tuple({"iteration": i, "error": e, "rounds": 7 * i} for i, e in enumerate((0.9, 0.03, 0.05, 0.01)))
    series = Series("s", (TOY,), (lines,))
    assert series.to_error(0.04, "rounds") == [7] and series.to_error(0.005, "rounds") == [None]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Data without tuned settings."""
    return open_store(build_digits(tmp_path_factory.mktemp("d")))


@pytest.mark.parametrize(
    ("module", "name", "data", "n_series"),
    [
        pytest.param(one, "one", "digits", 10, marks=pytest.mark.slow),
        pytest.param(three, "three", "digits", 4, marks=pytest.mark.slow),
        pytest.param(saddle, "saddle", "digits", 4, marks=pytest.mark.slow),
        (saddle, "saddle", "store", 4),
    ],
)
def test_every_figure_is_drawn_and_says_what_the_ledgers_say(request, tmp_path, module, name, data, n_series):
    options = FigureOptions(request.getfixturevalue(data).path, tmp_path, quick=True)
    paths = module.make(options, SILENT)
    assert [path.name for path in paths] == [f"{name}.{suffix}" for suffix in ("png", "svg", "md", "json")]
    png, svg, table, numbers = (path.read_bytes() for path in paths)
    assert png.startswith(b"\x89PNG") and len(png) > 10_000 and b"</svg>" in svg
    kept = json.loads(numbers)
    assert len(kept) == n_series
    recorded = [ledger.read(path) for path in (tmp_path / "runs").glob("*/ledger.jsonl")]
    losses = [[line["loss"] for line in lines] for lines in recorded]
    for label, (run,) in kept.items():
        assert run["loss"] in losses
        ending = f"{run['loss'][-1]:.3f}" if name == "saddle" else f"{run['loss'][-1]:.4f}"
        assert any(label in row and ending in row for row in table.decode().splitlines())
    assert [path.read_bytes() for path in module.make(options, SILENT)[2:]] == [table, numbers]


def test_runs_are_counted_before_the_first_one_and_the_time_left_is_told(store, tmp_path):
    def work(lab):
        best = best_of(lab, [TOY.but(method="sgd", batch_rows=30, learning_rate=rate) for rate in (0.001, 0.3)], 0.3)
        return carry_out(lab, "best", best, (0, 1))

    reporter = Silent()
    lab = laboratory(store, tmp_path, reporter)
    series = planned(lab, work)
    runs = [note.partition(":")[0] for note in reporter.notes if note.startswith("run ")]
    assert [run.partition(",")[0] for run in runs] == ["run 1 of 3", "run 2 of 3", "run 3 of 3"]
    assert "left" not in runs[0] and all(re.fullmatch(r".*, about \d+ (s|min) left", run) for run in runs[1:])
    reporter.notes.clear()
    assert planned(lab, work).ledgers == series.ledgers and reporter.notes == []


def test_the_time_left_is_by_the_mean_of_the_runs_before(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(experiment.time, "monotonic", lambda: now[0])
    schedule, said = Schedule(3, 0.0), []
    for at in (0.0, 50.0, 160.0, 300.0):
        now[0] = at
        said.append(schedule.next())
    assert said[:3] == ["run 1 of 3", "run 2 of 3, about 2 min left", "run 3 of 3, about 80 s left"]
    assert said[3] == "run 4 of 4, about 2 min left", "a run that nobody counted"


def test_stochastic_methods_stay_until_they_leave_the_plateau_but_not_longer(store, tmp_path):
    lab, slow = laboratory(store, tmp_path), Experiment.of(hidden=(6,), method="sgd", init="tiny", learning_rate=1e-6)
    stayed = saddle.until_left(lab, "slow", slow, (0, 1), limits=(2, 4))
    assert [len(lines) for lines in stayed.ledgers] == [5, 5]
    assert [saddle.leaves(lines, "iteration") for lines in stayed.ledgers] == [None, None]
    quick = saddle.until_left(lab, "quick", slow.but(learning_rate=0.5, batch_rows=10), (0,), limits=(8, 16))
    assert len(quick.ledgers[0]) == 9
    assert saddle.leaves(quick.ledgers[0], "iteration") <= 8
