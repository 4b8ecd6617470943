"""What notebooks show: short texts, and tables and curves that hold what they should and nothing that could run."""

import os
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import hfnumba as hf
from hfnumba.html import curves, grid, table
from hfnumba.run import RunDirectory, train
from tests.silent import Silent
from tests.toy_store import write_toy_store


def parsed(html):
    return ET.fromstring(f"<div>{html}</div>")


def test_text_is_escaped():
    page = parsed(table("<b>", [("a & b", "<script>")]) + grid("&", ["<"], [[">"]]) + curves("<x>", {"<y>": [(0, 1)]}))
    assert [cell.text for cell in page.iter("td")] == ["<script>", ">"]
    assert not list(page.iter("script"))


def test_a_name_that_is_not_utf_8_does_not_make_a_page_that_cannot_be_written():
    name = os.fsdecode(b"caf\xe9")
    page = table(name, [("directory", name)]) + grid("", [name], []) + curves(name, {name: [(0, 1)]})
    assert page.encode().count(b"caf?") == 5


def test_curves_leave_out_what_has_no_logarithm():
    page = parsed(curves("x", {"a": [(0, 1.0), (1, 0.0), (2, float("nan")), (3, 10.0)], "b": [(0, -1.0)]}))
    (line,) = page.iter("{http://www.w3.org/2000/svg}polyline")
    assert len(line.get("points").split()) == 2
    assert curves("x", {"b": [(0, -1.0)]}) == ""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("html")
    store = hf.open_store(write_toy_store(folder / "toy.zarr"))
    train(store.path, RunDirectory(folder / "run"), {"hidden": [4], "max_iterations": 2}, Silent())
    return folder / "run", store


def test_everything_has_a_short_text_and_a_table(toy):
    run, store = toy
    network = hf.Network([8, 4, 3])
    with hf.SplitObjective(network, store["train"]) as objective:
        *_, last = hf.HessianFree(max_iterations=1).iterate(objective, network.initialize(0))
        for shown, expected in (
            (store, "180"),
            (store["train"], "train"),
            (network, "softmax_cross_entropy"),
            (objective, "rounds so far"),
            (last, "grad_norm"),
            (hf.load_model(run), "hf-bicgstab"),
            (RunDirectory(run), "iterations"),
        ):
            assert len(repr(shown)) < 250 and "\n" not in repr(shown)
            assert expected in "".join(parsed(shown._repr_html_()).itertext())
    assert "<svg" in RunDirectory(run)._repr_html_()


def test_progress_changes_nothing_but_stderr(capsys):
    rng = np.random.default_rng(0)
    network, X, y = hf.Network([4, 3]), rng.standard_normal((40, 4)), rng.integers(0, 3, 40)

    def losses(**options):
        iterations = hf.HessianFree(max_iterations=3).iterate(
            hf.ArrayObjective(network, X, y), network.initialize(0), **options
        )
        return [it.loss for it in iterations]

    assert losses() == losses(progress=True)
    captured = capsys.readouterr()
    assert "3/3" in captured.err and "loss" in captured.err and not captured.out


def test_probabilities_are_those_of_predict(toy):
    model = hf.load_model(toy[0])
    X = np.zeros((2, 8))
    np.testing.assert_array_equal(model.predict_proba(X), model.predict(X))
