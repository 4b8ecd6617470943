"""Data without tuning, in IDX form, with the same commands and settings as MNIST."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from hfnumba import ledger
from hfnumba.cli import main
from hfnumba.optim.methods import METHODS
from hfnumba.store import open_store
from tests.digits_idx import N_TEST, build_digits


def hf(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_digits(tmp_path_factory.mktemp("digits"))


def test_the_recipe_of_the_docs_reads_them_as_it_reads_mnist(store):
    splits = open_store(store).splits
    assert {name: split.n_rows for name, split in splits.items()} == {"train": 1797 - N_TEST, "test": N_TEST}
    assert all((split.n_features, split.n_outputs, split.scale) == (64, 10, 1 / 255) for split in splits.values())
    assert splits["train"].load(0)[0].dtype == np.uint8
    hf("data", "verify", store)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_them_with_its_defaults(store, tmp_path, method):
    hf("train", store, "--hidden", "40", "--method", method, "--max-iterations", 10, "--run", tmp_path / "r")
    lines = ledger.read(tmp_path / "r" / "ledger.jsonl")
    numbers = [value for line in lines for value in line.values() if isinstance(value, float)]
    assert np.isfinite(numbers).all()
    assert lines[0]["error"] > 0.8 and lines[-1]["error"] < 0.2
    assert lines[-1]["loss"] < 0.4 * lines[0]["loss"]
    found = json.loads(hf("evaluate", tmp_path / "r", store, "--json"))
    assert (found["loss"], found["error"]) == (lines[-1]["test_loss"], lines[-1]["test_error"])
    assert found["error"] < 0.3
