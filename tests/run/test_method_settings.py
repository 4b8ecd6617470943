"""A run continues with the settings that it began with, whatever the defaults are later."""

import re
import tomllib

import pytest

from hfnumba import ledger
from hfnumba.optim.hessian_free import HessianFree
from hfnumba.run import RunDirectory, train
from hfnumba.run.method_settings import method_settings, optimizer_of
from hfnumba.run.settings import TrainSettings
from tests.run.test_training import comparable
from tests.silent import Silent

GIVEN = {"hidden": [5], "seed": 3, "curvature_rows": 60}


def trained(store, path, n, *, resume=False, **given):
    train(store, RunDirectory(path), GIVEN | given | {"max_iterations": n}, Silent(), resume=resume)
    return ledger.read(path / "ledger.jsonl")


def recorded(path):
    return tomllib.loads((path / "config.toml").read_text())["optimizer"]


def test_all_settings_are_recorded_with_their_values(toy_store, tmp_path):
    trained(toy_store, tmp_path / "r", 1)
    found = recorded(tmp_path / "r")
    assert (found["preconditioner"], found["line_rows"], found["curvature_rows"]) == ("kfac", 4096, 60)
    # Defaults that depend on others have their numbers too.
    assert (found["krylov_iterations"], found["damping"]) == (2, 0.01)
    assert "max_iterations" not in found and "paper" not in found


def test_all_rows_are_a_setting_that_is_recorded_and_resumed(toy_store, tmp_path):
    all_rows = {"line_rows": "all", "curvature_rows": "all"}
    more_than_there_are = {"line_rows": 2**31 - 1, "curvature_rows": 2**31 - 1}
    whole = trained(toy_store, tmp_path / "numbers", 3, **more_than_there_are)
    trained(toy_store, tmp_path / "r", 2, **all_rows)
    document = tomllib.loads((tmp_path / "r" / "config.toml").read_text())
    for name in all_rows:
        assert (document[name], document["optimizer"][name]) == ("all", "unset")
    assert comparable(trained(toy_store, tmp_path / "r", 3, resume=True, **all_rows)) == comparable(whole)


@pytest.mark.parametrize("method", ["hf-bicgstab", "hf-steihaug", "kfac", "adam", "lbfgs"])
def test_a_record_makes_the_same_optimiser_again(method):
    settings = TrainSettings(hidden=(5,), method=method)
    made = optimizer_of(settings, None)
    kept = method_settings(method, made)
    again = optimizer_of(settings, type("Record", (), {"optimizer": kept})())
    assert method_settings(method, again) == kept
    if isinstance(made, HessianFree):
        assert again.solver_iterations == made.solver_iterations


def with_defaults(monkeypatch, **others):
    make = HessianFree.__init__
    monkeypatch.setattr(HessianFree, "__init__", lambda self, *args, **given: make(self, *args, **(others | given)))


def test_a_run_goes_on_as_it_began_when_defaults_change(toy_store, tmp_path, monkeypatch):
    whole = trained(toy_store, tmp_path / "whole", 4)
    trained(toy_store, tmp_path / "r", 2)
    with_defaults(monkeypatch, preconditioner="fisher", krylov_iterations=7, warm_start=0.5, damping=3.0)
    assert comparable(trained(toy_store, tmp_path / "r", 4, resume=True)) == comparable(whole)


def test_a_run_of_an_earlier_version_goes_on_with_the_defaults_of_then(toy_store, tmp_path, monkeypatch):
    with monkeypatch.context() as then:
        with_defaults(then, preconditioner="none", line_rows=None)
        whole = trained(toy_store, tmp_path / "whole", 4)
        trained(toy_store, tmp_path / "r", 2)
    config = tmp_path / "r" / "config.toml"
    # It recorded only what the user had set.
    config.write_text(re.sub(r"\[optimizer\]\n.*?\n\n", "", config.read_text(), flags=re.DOTALL))
    assert RunDirectory(tmp_path / "r").record().optimizer == {}
    assert comparable(trained(toy_store, tmp_path / "r", 4, resume=True)) == comparable(whole)
    assert recorded(tmp_path / "r")["preconditioner"] == "none"
