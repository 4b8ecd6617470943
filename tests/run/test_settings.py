import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.errors import CheckpointError, UsageError
from hfnumba.optim.methods import METHODS, optimizer, settings_of
from hfnumba.optim.paper import paper
from hfnumba.run.directory import resumed_settings
from hfnumba.run.settings import (
    CHANGEABLE,
    TrainSettings,
    as_dict,
    fixed,
    memory_bytes,
    optimizer_settings,
    read_config,
    settings_from,
    toml,
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hidden": (0,)}, r"hidden\[0\]: expected a whole number of at least 1, got 0"),
        ({"hidden": [3, 2.5]}, r"hidden\[1\]: expected a whole number, got 2.5"),
        ({"hidden": 4}, "hidden: expected `array`, got 4"),
        ({"hidden": (3,), "l2": -1.0}, "l2: expected a number of at least 0, got -1.0"),
        ({"hidden": (3,), "l2": float("nan")}, "l2: expected .*got nan"),
        ({"hidden": (3,), "max_iterations": "9"}, "max_iterations: expected a whole number, got '9'"),
        ({"hidden": (3,), "target_error": 1.5}, "target_error: expected a number of at most 1, got 1.5"),
        ({"hidden": (3,), "time_limit_s": 0}, "time_limit_s: expected .*, got 0"),
        ({"hidden": (3,), "worker_timeout_s": 1}, "worker_timeout_s: expected a number of at least 2, got 1"),
        ({"hidden": (3,), "methd": "sgd"}, "unknown setting 'methd'; did you mean method?"),
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


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_reaches_its_optimizer(method):
    values = {"damping": 0.7, "krylov_iterations": 3, "warm_start": 0.5, "curvature_rows": 600, "radius": 2.0}
    values |= {"candidates": "last", "line_search": "backtracking", "line_rows": 700}
    values |= {"keep": 2.0, "preconditioner": "fisher", "history": 3}
    values |= {"learning_rate": 0.3, "batch_rows": 17, "momentum": 0.4}
    of_method = {name: value for name, value in values.items() if name in settings_of(method)}
    common = {"seed": 5, "max_iterations": 9, "target_error": 0.25}
    made = optimizer(
        method, **optimizer_settings(settings_from({"hidden": (3,), "method": method} | of_method | common))
    )
    for name, value in (of_method | common).items():
        assert getattr(made, name) == value


@pytest.mark.parametrize("method", ["sgd", "adam", "lbfgs"])
def test_curvature_rows_do_not_hinder_methods_without_curvature(method):
    given = settings_from({"hidden": (3,), "method": method, "curvature_rows": 600})
    assert "curvature_rows" not in optimizer_settings(given)


def test_the_paper_has_its_own_defaults():
    given = settings_from({"hidden": (3,), "paper": True, "curvature_rows": 600})
    assert optimizer("hf-bicgstab", **optimizer_settings(given)) == paper(curvature_rows=600, max_iterations=30)


OTHER = {
    "hidden": (3, 4),
    "activation": "relu",
    "init": "he",
    "loss": "squared_error",
    "method": "sgd",
    "curvature_rows": 9,
    "damping": 0.3,
    "radius": 0.3,
    "keep": 2.0,
    "preconditioner": "fisher",
    "history": 3,
    "candidates": "last",
    "line_search": "backtracking",
    "line_rows": 8,
    "paper": True,
    "momentum": 0.5,
    "krylov_iterations": 2,
    "warm_start": 0.1,
    "learning_rate": 0.2,
    "batch_rows": 3,
    "l2": 0.5,
    "class_weights": "balanced",
    "seed": 2,
    "max_iterations": 99,
    "target_error": 0.5,
    "time_limit_s": 8.0,
    "cluster": "local:2",
    "threads": 2,
    "memory": "2GiB",
    "worker_timeout_s": 5.0,
    "fan_in": 8,
}


@pytest.mark.parametrize("name", TrainSettings.__struct_fields__)
def test_on_resuming_only_limits_and_placement_change(name):
    recorded = settings_from({"hidden": (3,), "loss": "softmax_cross_entropy"})
    assert resumed_settings(recorded, {}) == recorded
    assert resumed_settings(recorded, as_dict(recorded)) == recorded
    given = {name: OTHER[name]}
    if name in CHANGEABLE:
        assert getattr(resumed_settings(recorded, given), name) == OTHER[name]
        assert fixed(recorded) == fixed(resumed_settings(recorded, given))
    else:
        with pytest.raises(CheckpointError, match=f"but {name} was .*, not .*leave these out"):
            resumed_settings(recorded, given)
