"""Figure 2 with toy sizes: rounds in this process, because figures only show measurements."""

import json
import re
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from hfnumba.bench import emulation, remote, scaling
from hfnumba.engine.local import LocalEngine
from hfnumba.errors import CheckpointError
from hfnumba.figures import two
from hfnumba.figures.options import FigureOptions, FigureStopped
from hfnumba.ingest import write_store
from hfnumba.progress import SILENT
from tests.figures.test_two_targets import file_of_results
from tests.silent import Silent

TOY = two.Measurements(300, (64, 128), (1, 2), (4,), (8,), (1, 2), 1)


class HereClient:
    def run_on_scheduler(self, function):
        return function()


@pytest.fixture
def options(tmp_path, monkeypatch):
    @contextmanager
    def here(n_workers, n_processes):
        yield HereClient()

    for module in (scaling, emulation):
        monkeypatch.setattr(module, "remote_engine", lambda problem, client, fan_in: LocalEngine(problem, 1))
    monkeypatch.setattr(remote, "remote_workers", here)
    monkeypatch.setattr(two, "QUICK", TOY)
    monkeypatch.setattr(two, "HIDDEN", (5,))
    monkeypatch.setattr(two, "TIMIT_ROWS", 2000)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 6)).astype(np.float32), rng.integers(0, 3, 300)
    write_store(tmp_path / "toy.zarr", {"train": (X, y)}, n_partitions=4)
    return FigureOptions(store=tmp_path / "toy.zarr", out=tmp_path / "out", quick=True)


def test_pictures_and_tables_are_written_and_nothing_is_measured_twice(options):
    reporter = Silent()
    paths = two.make(options, reporter)
    assert [path.name for path in paths] == ["two.png", "two.svg", "two.md", "two.json"]
    assert all(path.stat().st_size > 500 for path in paths)
    assert [text.partition(":")[0].partition(",")[0] for text in reporter.notes] == [
        f"measurement {k} of 11" for k in range(1, 12)
    ]
    assert all(re.fullmatch(r".*, about \d+ (s|min) left: [a-z]+\S*", text) for text in reporter.notes[1:])
    # Each has a bar while it is made.
    assert reporter.steps == [("measuring", [(1, 1, "measurements")])] * 11
    again = Silent()
    two.make(options, again)
    assert again.notes == [] and again.steps == []


def test_stored_measurements_are_not_counted(options):
    two.make(options, SILENT)
    for name in ("kernels", "adding"):
        (options.out / "runs" / "two" / f"{name}.json").unlink()
    reporter = Silent()
    two.make(options, reporter)
    # Those that follow have other constants now, if the clock has.
    assert reporter.notes[0] == "measurement 1 of 7: kernels" and "measurement 2 of 4" in reporter.notes[1]


def test_files_of_results_add_a_picture_of_the_time_to_targets(options):
    path = file_of_results(options.out.parent)
    reporter = Silent()
    paths = two.make(replace(options, results=(path,)), reporter)
    assert [found.name for found in paths[4:]] == [f"two-targets.{kind}" for kind in ("png", "svg", "md", "json")]
    rounds = [note for note in reporter.notes if "round-of" in note]
    assert [note.split()[-1] for note in rounds] == [
        f"round-of-{method}-64-5-10" for method in ("adam", "kfac", "hf-bicgstab", "lbfgs")
    ]
    again = Silent()
    two.make(replace(options, results=(path,)), again)
    assert again.notes == []


def test_the_table_says_what_was_found(options):
    *_, text, numbers = two.make(options, SILENT)
    found = json.loads(numbers.read_text())
    checks = {(row["kernel"], row["workers"], row["rows"], row["curvature_rows"]): row for row in found["checks"]}
    assert len(checks) == 2 * 2 + 2
    stored = json.loads((options.out / "runs" / "two" / "iteration-2-workers-64-rows.json").read_text())["found"]
    row = checks["computing", 2, 300, 64]
    assert row["iteration"]["run_s"] == stored["seconds"]["iteration"]
    assert row["iteration"]["error"] == pytest.approx(row["iteration"]["model_s"] / row["iteration"]["run_s"] - 1)
    assert f"{row['krylov']['run_s']:.2f} ({row['krylov']['model_s']:.2f})" in text.read_text()
    assert found["constants"]["client_s"] > 0


def test_a_figure_that_was_stopped_goes_on(options):
    with pytest.raises(FigureStopped, match="iteration-1-workers-64-rows"):
        two.make(options, SILENT, limit_s=0)
    reporter = Silent()
    two.make(options, reporter)
    assert len(reporter.notes) == 11


def test_other_settings_are_measured_anew_and_damage_is_named(options, monkeypatch):
    two.make(options, SILENT)
    reporter = Silent()
    monkeypatch.setattr(two, "_machine", lambda: "another")
    two.make(options, reporter)
    assert len(reporter.notes) == 11
    (options.out / "runs" / "two" / "kernels.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not a measurement"):
        two.make(options, SILENT)
