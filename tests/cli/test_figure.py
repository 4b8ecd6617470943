"""`hfnumba figure`: paths on stdout, messages on stderr, exit statuses."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from hfnumba.cli import figure as command
from hfnumba.cli import main
from hfnumba.errors import StoreError
from hfnumba.figures.options import FigureStopped


def run(monkeypatch, make, *words):
    monkeypatch.setattr(command, "import_module", lambda name: SimpleNamespace(name=name, make=make))
    return CliRunner().invoke(main, ["figure", *words])


def test_flags_reach_the_figure_and_paths_are_printed(monkeypatch, tmp_path):
    seen = []

    def make(options, reporter):
        seen.append(options)
        reporter.note("working")
        return [options.out / "one.png"]

    words = ["1", "--store", "a.zarr", "--quick", "-o", str(tmp_path), "--cluster", "local:2"]
    result = run(monkeypatch, make, *words)
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'one.png'}\n" and result.stderr == "working\n"
    (options,) = seen
    assert (str(options.store), options.out, options.quick, options.cluster) == ("a.zarr", tmp_path, True, "local:2")


def test_files_of_results_are_for_figure_2(monkeypatch):
    seen = []

    def make(options, reporter):
        seen.append([path.name for path in options.results])
        return []

    assert run(monkeypatch, make, "2", "--results", "a.jsonl", "--results", "b.jsonl").exit_code == 0
    assert seen == [["a.jsonl", "b.jsonl"]]
    refused = run(monkeypatch, make, "1", "--results", "a.jsonl")
    assert refused.exit_code == 2 and "--results is for figure 2, got figure 1; leave it out" in refused.stderr


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (FigureStopped("stopped at a checkpoint of r"), 75, "error: stopped at a checkpoint of r; the same command"),
        (KeyboardInterrupt(), 75, "error: interrupted; the same command"),
        (StoreError("there is no store"), 1, "error: there is no store"),
    ],
    ids=["stopped", "interrupted", "failed"],
)
def test_endings(monkeypatch, error, status, text):
    def make(options, reporter):
        raise error

    result = run(monkeypatch, make, "saddle")
    assert result.exit_code == status and result.stderr.startswith(text)


def test_help_lists_each_figure_on_a_line_of_its_own():
    lines = CliRunner().invoke(main, ["figure", "--help"]).stdout.splitlines()
    for name in command.FIGURES:
        assert any(line.startswith(f"  {name:8}") for line in lines)


def test_an_unknown_figure_is_wrong_use():
    assert CliRunner().invoke(main, ["figure", "4"]).exit_code == 2
