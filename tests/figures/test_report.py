"""The report of a run: one valid page that holds everything and asks for nothing else."""

import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner

from hfnumba import ledger
from hfnumba.cli import main
from hfnumba.figures.report import _recorded
from hfnumba.ingest import write_store
from hfnumba.run.directory import RunDirectory
from tests.toy_store import write_toy_store

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Texts of a page, what it refers to, and whether its elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.sources, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a <b> & c")
    write_toy_store(folder / "toy.zarr")
    words = [str(folder / "toy.zarr"), "--hidden", "4", "--max-iterations", "3", "--threads", "1"]
    assert CliRunner().invoke(main, ["train", *words, "--run", str(folder / "<run>")]).exit_code == 0
    return folder / "<run>"


def report(run, *words):
    done = CliRunner().invoke(main, ["report", str(run), *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def test_the_page_has_everything_and_needs_nothing(run, tmp_path):
    assert report(run, "-o", tmp_path / "r.html") == str(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text("utf-8")
    page = Page(text)
    assert page.open == [] and len(page.sources) == 2
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert "url(" not in text and "<script" not in text
    cells = "\n".join(page.texts)
    record = RunDirectory(run).record()
    for part in (record.store.digest, record.store.path, "hf-bicgstab", "rows of test", "processor and BLAS", "numba"):
        assert part in cells
    for line in ledger.read(run / "ledger.jsonl"):
        assert f"{line['loss']:.6g}" in page.texts
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert {"Findings", "Settings", "Data", "Machine", "Versions", "Command line", "Iterations"} <= set(headings)
    assert "<run>" in page.texts and "<h1><run>" not in text


def test_a_regression_has_its_measures_in_the_unit_of_the_target(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)).astype(np.float32)
    write_store(
        tmp_path / "s.zarr", {"train": (X, 1000 * X[:, :1]), "test": (X[:9], 1000 * X[:9, :1])}, standardise=True
    )
    words = [str(tmp_path / "s.zarr"), "--hidden", "4", "--max-iterations", "2", "--threads", "1"]
    assert CliRunner().invoke(main, ["train", *words, "--run", str(tmp_path / "r")]).exit_code == 0
    report(tmp_path / "r", "-o", tmp_path / "r.html")
    texts = Page((tmp_path / "r.html").read_text("utf-8")).texts
    last = ledger.read(tmp_path / "r" / "ledger.jsonl")[-1]
    assert {"RMSE", "test RMSE", "R²", "test loss"} <= set(texts) and "test error" not in texts
    assert f"{last['test_rmse']:.6g}" in texts


def test_columns_classes_and_targets_have_their_names(tmp_path):
    rows = "".join(f"{i * 3 % 50},{'north' if i % 2 else 'south'},{'<b>' if i % 3 else 'a b'}\n" for i in range(60))
    (tmp_path / "t.csv").write_text("area,town,kind\n" + rows)
    store = tmp_path / "t.zarr"
    done = CliRunner().invoke(main, ["data", "build", str(tmp_path / "t.csv"), "--label", "kind", "--out", str(store)])
    assert done.exit_code == 0, done.output
    words = [str(store), "--hidden", "4", "--max-iterations", "1", "--threads", "1"]
    assert CliRunner().invoke(main, ["train", *words, "--run", str(tmp_path / "r")]).exit_code == 0
    report(tmp_path / "r", "-o", tmp_path / "r.html")
    texts = Page((tmp_path / "r.html").read_text("utf-8")).texts
    for key, value in {"columns": "area, town (2 categories)", "classes": "<b>, a b", "mean": "3 recorded"}.items():
        assert texts[texts.index(key) + 1] == value
    assert "targets" not in texts


def test_many_names_are_counted():
    assert _recorded([f"x{i}" for i in range(102)]).endswith(", x99, and 2 more")
    assert _recorded([1.5, 2.5]) == "2 recorded" and _recorded("regression") == "regression"


def test_the_default_place_is_the_run_itself(run):
    assert report(run) == str(run / "report.html")


def test_a_run_of_an_earlier_version_without_its_store(run, tmp_path):
    shutil.copytree(run, tmp_path / "r")
    config = tmp_path / "r" / "config.toml"
    text = re.sub(r"\[machine\]\n(?:.+\n)*\n", "", config.read_text("utf-8"))
    config.write_text(text.replace("toy.zarr", "gone.zarr"), "utf-8")
    assert "[machine]" not in text
    page = Page((tmp_path / "r" / "report.html").read_text("utf-8") if report(tmp_path / "r") else "")
    assert "rows of test" not in page.texts and "Command line" not in page.texts


def test_what_cannot_be_reported_is_one_sentence(tmp_path):
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert done.exit_code == 1 and "is not the directory of a run" in done.stderr
