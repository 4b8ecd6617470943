import os
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.errors import UsageError
from hfnumba.optim.methods import optimizer
from hfnumba.optim.paper import paper
from hfnumba.run.config import memory_bytes, read_config, settings_from, toml
from hfnumba.run.method_settings import optimizer_settings
from hfnumba.run.settings import as_dict


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hidden": (0,)}, r"hidden\[0\]: expected a whole number of at least 1, got 0"),
        ({"hidden": [3, 2.5]}, r"hidden\[1\]: expected a whole number, got 2.5"),
        ({"hidden": 4}, "hidden: expected a list, got 4; correct --hidden, or hidden in the settings file"),
        ({"hidden": (3,), "l2": -1.0}, "l2: expected a number of at least 0, got -1.0"),
        ({"hidden": (3,), "l2": float("nan")}, "l2: expected .*got nan"),
        ({"hidden": (3,), "max_iterations": "9"}, "max_iterations: expected a whole number, got '9'"),
        ({"hidden": (3,), "target_error": 1.5}, "target_error: expected a number of at most 1, got 1.5"),
        ({"hidden": (3,), "time_limit_s": 0}, "time_limit_s: expected .*, got 0"),
        ({"hidden": (3,), "worker_timeout_s": 1}, "worker_timeout_s: expected a number of at least 2, got 1"),
        ({"hidden": (3,), "history": "x"}, "history: expected a whole number, got 'x'"),
        ({"hidden": (3,), "paper": 1}, "paper: expected true or false, got 1"),
        ({"hidden": (3,), "class_weights": "x"}, "class_weights: expected balanced or a list, got 'x'"),
        ({"hidden": (3,), "class_weights": 1}, "class_weights: expected text or a list, got 1"),
        (
            {"hidden": (3,), "line_rows": "every"},
            "line_rows: expected all or a whole number, got 'every'; .*--line-rows",
        ),
        ({"hidden": (3,), "line_rows": 0}, "line_rows: expected a whole number of at least 1, got 0"),
        ({"hidden": (3,), "curvature_rows": 2.5}, "curvature_rows: expected a whole number or text, got 2.5"),
        ({"hidden": (3,), "loss": "hinge"}, "loss: expected softmax_cross_entropy, .* or squared_error, got 'hinge'"),
        ({"hidden": (3,), "candidates": "all"}, "candidates: expected kept or last, got 'all'"),
        ({"hidden": (3,), "backtracking_ratio": 1}, "backtracking_ratio: expected a number above 1, got 1"),
        ({"hidden": (3,), "keep": 2.0}, "setting keep is called backtracking_ratio now"),
        ({"hidden": (3,), "methd": "sgd"}, "unknown setting 'methd'; did you mean method?"),
        ({"hidden": (3,), "method": "hf-cgg"}, "got 'hf-cgg'; .*; did you mean hf-cg?"),
        ({"hidden": (3,), "zzz": 1}, "unknown setting 'zzz'; the settings are hidden, activation"),
        ({}, "give --hidden"),
    ],
)
def test_mistakes_are_named_with_what_came(given, message):
    with pytest.raises(UsageError, match=message):
        settings_from(given)


@pytest.mark.parametrize(("memory", "nbytes"), [(None, None), ("2GiB", 2 * 2**30), ("500 MB", 500_000_000)])
def test_memory_is_a_size(memory, nbytes):
    assert memory_bytes(settings_from({"hidden": (3,), "memory": memory})) == nbytes


@pytest.mark.parametrize("memory", ["0", "-1GiB", "much", "1e400GiB", "nan", "", "GiB"])
def test_what_is_no_size_is_refused(memory):
    with pytest.raises(UsageError, match="setting memory: expected a size such as 2GiB or 500MB, got"):
        memory_bytes(settings_from({"hidden": (3,), "memory": memory}))


def test_a_file_of_settings_may_be_a_pipe_but_not_endless(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        pool.submit((tmp_path / "pipe").write_text, "seed = 3\n")
        assert read_config(tmp_path / "pipe") == {"seed": 3}
    with pytest.raises(UsageError, match="it has more than 64 MiB"):
        read_config(Path("/dev/zero"))


def test_toml_is_read_back(tmp_path):
    given = {"hidden": [400, 150], "l2": 1e-5, "method": "gn-cg", "target_error": 0.01, "time_limit_s": float("inf")}
    wanted = settings_from(given)
    path = tmp_path / "config.toml"
    path.write_text(toml(as_dict(wanted) | {"store": {"path": "a"}, "versions": {"numpy": "2"}}))
    assert settings_from(read_config(path)) == wanted


@given(
    st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(st.characters(exclude_categories=["Cs"])))
)
@settings(max_examples=50)
def test_any_text_survives_toml(table):
    assert tomllib.loads(toml({"l2": 1e-07, "n": [1, 2], "table": table})) == {"l2": 1e-07, "n": [1, 2], "table": table}


@pytest.mark.parametrize(
    ("text", "message"),
    [("hidden = [3", "is not TOML"), ("hiden = [3]", "unknown setting 'hiden'; did you mean hidden?")],
)
def test_config_mistakes_name_the_file(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"mine\.toml.*{message}"):
        read_config(path)


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.toml cannot be read"):
        read_config(tmp_path / "none.toml")


@pytest.mark.parametrize("method", ["sgd", "adam", "lbfgs"])
def test_curvature_rows_do_not_hinder_methods_without_curvature(method):
    given = settings_from({"hidden": (3,), "method": method, "curvature_rows": 600})
    assert "curvature_rows" not in optimizer_settings(given)


def test_the_paper_has_its_own_defaults():
    given = settings_from({"hidden": (3,), "paper": True, "curvature_rows": 600})
    assert optimizer("hf-bicgstab", **optimizer_settings(given)) == paper(curvature_rows=600, max_iterations=30)
