"""Tables of the pages: each says what made it, and is listed as older once its code has changed."""

import importlib
import os
import re
import sys

import pytest

import hfnumba
from tests.house import ROOT

PEERS = ("torch",)
"""Packages that scripts compare with and no extra of this project installs."""


@pytest.fixture
def modules(monkeypatch):
    """The modules as the scripts of the benchmarks import them."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("pages"), importlib.import_module("tables")


@pytest.fixture
def checkout(modules, monkeypatch, tmp_path):
    """A small checkout: one page with a table, and the code that it measures."""
    (tmp_path / "hfnumba" / "engine").mkdir(parents=True)
    (tmp_path / "hfnumba" / "engine" / "rounds.py").write_text('"""A module."""\n\nX = 1  # one\n')
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("No table.\n")
    page = tmp_path / "docs" / "scaling.md"
    page.write_text("before\n<!-- rounds: begin -->\n<!-- rounds: end -->\nafter\n")
    monkeypatch.setattr(modules[0], "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / "rounds.py"), "--docs", str(tmp_path / "docs"), "a b"])
    return page


def state(modules, page):
    (found,) = modules[1].tables(page.parents[1])
    return modules[1].state(*found)


def test_a_table_has_a_record_under_it(modules, checkout):
    pages, _ = modules
    assert state(modules, checkout) == "empty"
    for table in ("| first |", "| second |"):
        pages.insert(checkout, "rounds", table)
        assert pages.marked(checkout, "rounds") == table
    text = checkout.read_text()
    assert text.count("Made by") == 1 and text.startswith("before\n") and text.endswith("\nafter\n")
    record = pages.Record.find(text)
    assert record.command == "python benchmarks/rounds.py --docs docs 'a b'"
    assert record.version == hfnumba.__version__ and str(record) in text
    assert list(record.code) == ["hfnumba/engine"] and state(modules, checkout) == "current"


def test_a_table_is_older_than_changed_code_but_not_than_changed_remarks(modules, checkout):
    modules[0].insert(checkout, "rounds", "| a |")
    code = checkout.parents[1] / "hfnumba" / "engine" / "rounds.py"
    code.write_text('"""Another text."""\n\n# A remark.\nX = 1\n')
    assert state(modules, checkout) == "current"
    code.write_text("X = 2\n")
    assert state(modules, checkout) == "older than hfnumba/engine"


def test_results_from_before_a_change_are_not_taken_for_new_ones(modules, checkout, tmp_path):
    code, old, new = tmp_path / "hfnumba" / "engine" / "rounds.py", tmp_path / "old.json", tmp_path / "new.json"
    for path, seconds in ((old, 86_400 * 365), (code, 86_400 * 366), (new, 86_400 * 367)):
        path.touch()
        os.utime(path, (seconds, seconds))
    modules[0].insert(checkout, "rounds", "| a |", [new])
    assert state(modules, checkout) == "current"
    modules[0].insert(checkout, "rounds", "| a |", [old, new])
    assert "on 1971-01-01." in checkout.read_text()
    assert state(modules, checkout) == "results older than hfnumba/engine"


def test_a_table_without_a_record_is_listed_as_such(modules, checkout):
    checkout.write_text("<!-- rounds: begin -->\n| a |\n<!-- rounds: end -->\n")
    assert state(modules, checkout) == "not recorded"


def test_each_table_of_the_pages_has_a_command_and_code_that_exist(modules):
    found = list(modules[1].tables())
    assert len(found) > 20
    for page, name, record in found:
        scripts = re.findall(r"benchmarks/\w+\.py", page.read_text("utf-8") if record is None else record.command)
        assert scripts and all((ROOT / script).exists() for script in scripts), (page.name, name)
        assert all((ROOT / path).exists() for path in record.code) if record else True, (page.name, name)


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
def test_every_script_can_be_imported(script, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    try:
        importlib.import_module(script)
    except ModuleNotFoundError as error:
        if error.name not in PEERS:
            raise
        pytest.skip(f"{script}.py compares with {error.name}, which is not installed")
