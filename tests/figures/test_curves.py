import builtins
import json
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from hfnumba.errors import CheckpointError, UsageError
from hfnumba.figures import style
from hfnumba.figures.curves import draw, read_curves
from hfnumba.ingest import write_store
from hfnumba.run import RunDirectory, train
from tests.lines import line
from tests.silent import Silent


def make(path, lines):
    path.mkdir()
    (path / "ledger.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    return path


def test_points_are_those_of_the_ledger(tmp_path):
    curves = read_curves(make(tmp_path / "r", [line(0, method="gn-cg"), line(1), line(2, loss=None)]))
    assert curves.name == "r (gn-cg)"
    assert curves.points("rounds", "loss", 1.0) == ([0, 14], [2.0, 1.0])
    assert curves.points("epoch", "error", 100.0) == ([0.0, 7.0, 14.0], [90.0, 45.0, 30.0])
    assert curves.points("epoch", "test_error", 100.0) == ([], [])


def test_every_run_and_axis_is_named(tmp_path):
    runs = [read_curves(make(tmp_path / f"run-{k}", [line(i) for i in range(4)])) for k in range(9)]
    draw(runs, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    with mpl.rc_context({"svg.fonttype": "none"}):
        draw(runs, tmp_path / "c.svg")
    root = ET.parse(tmp_path / "c.svg").getroot()
    texts = {"".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("}text")}
    assert {f"run-{k} ()" for k in range(9)} <= texts or {f"run-{k}" for k in range(9)} <= texts
    assert {"loss", "error in %", "training", "test", "outer iterations", "rounds of communication"} <= texts
    assert {"effective passes over the data", "seconds"} <= texts


@pytest.mark.parametrize("validated", [False, True])
def test_validation_curves_are_named_where_there_are_any(tmp_path, validated):
    import matplotlib as mpl

    rows = {"validation_loss": 0.7, "validation_error": 0.2} if validated else {}
    runs = [read_curves(make(tmp_path / "a", [line(i) for i in range(3)]))]
    runs.append(read_curves(make(tmp_path / "b", [line(i, **rows) for i in range(3)])))
    with mpl.rc_context({"svg.fonttype": "none"}):
        draw(runs, tmp_path / "c.svg")
    assert (">validation</text>" in (tmp_path / "c.svg").read_text()) == validated


@pytest.mark.parametrize("error", [0.0, 3.7])
def test_errors_that_are_no_shares_and_losses_of_zero(tmp_path, error):
    run = make(tmp_path / "r", [line(i, error=error, loss=0.0) for i in range(2)])
    draw([read_curves(run)], tmp_path / "c.pdf")
    assert (tmp_path / "c.pdf").stat().st_size > 1000


def test_a_run_of_one_line(tmp_path):
    draw([read_curves(make(tmp_path / "r", [line(0)]))], tmp_path / "c.png")
    assert (tmp_path / "c.png").exists()


def test_without_a_ledger(tmp_path):
    with pytest.raises(CheckpointError, match="has no ledger"):
        read_curves(tmp_path)


def test_without_matplotlib(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **keywords):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"pip install 'hfnumba\[plot\]'"):
        draw([], tmp_path / "c.png")


def test_a_run_whose_losses_are_all_unknown_is_drawn(tmp_path):
    run = make(tmp_path / "r", [line(i, loss=None) for i in range(2)])
    draw([read_curves(run)], tmp_path / "c.svg")
    assert (tmp_path / "c.svg").stat().st_size > 1000


def test_a_name_with_dollar_signs_is_no_formula(tmp_path):
    draw([read_curves(make(tmp_path / r"a$\nothing$", [line(0)]))], tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").stat().st_size > 0


def test_all_of_a_longer_run_of_another_quantity_is_shown(tmp_path, monkeypatch):
    short = read_curves(make(tmp_path / "a", [line(i) for i in range(3)]))
    longer = read_curves(make(tmp_path / "b", [line(i, rmse=2.0, r2=0.5) for i in range(9)]))
    figures = []
    monkeypatch.setattr(style, "save", lambda figure, out: figures.append(figure))
    draw([short, longer], tmp_path / "c.png")
    rows = {axes.get_ylabel(): axes for axes in figures[0].axes if axes.get_ylabel()}
    assert list(rows) == ["loss", "error in %", "RMSE", "R²"]
    assert all(axes.get_xlim()[0] <= 0 and axes.get_xlim()[1] >= 8 for axes in rows.values())


def labels(path):
    """Labels of the y axes of a picture, in which a line break is one text more."""
    root = ET.parse(path).getroot()
    return {"".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("}text")}


def test_different_quantities_have_axes_of_their_own(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3)).astype(np.float32)
    targets = {"classes": np.arange(80) % 2, "prices": X[:, 0] * 100, "ages": X[:, 1]}
    runs = []
    for name, y in targets.items():
        store = write_store(tmp_path / f"{name}.zarr", {"train": (X, y)}, standardise=name == "prices", n_partitions=2)
        train(store.path, RunDirectory(tmp_path / name), {"hidden": [3], "max_iterations": 2}, Silent())
        runs.append(read_curves(tmp_path / name))
    classes, prices, ages = (run.quantities for run in runs)
    assert [quantity.key for quantity in classes] == ["loss", "error"]
    assert [quantity.key for quantity in prices] == ["loss", "rmse", "r2"]
    # Only R² is the same quantity for both targets.
    assert len({*classes, *prices, *ages}) == 8 - 1
    assert prices[2] == ages[2]
    with mpl.rc_context({"svg.fonttype": "none"}):
        draw(runs, tmp_path / "c.svg")
        draw(runs[1:2], tmp_path / "one.svg")
    shown = " ".join(labels(tmp_path / "c.svg"))
    assert all(
        word in shown for word in ("softmax cross entropy", "targets of prices", "targets of ages", "error in %")
    )
    assert {"loss", "RMSE", "R²"} <= labels(tmp_path / "one.svg")
    assert "error" not in " ".join(labels(tmp_path / "one.svg"))
