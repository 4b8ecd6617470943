"""Every option of `hfnumba train`: how it is given, and that it arrives where it is used, or is refused.

The tests go through the table of settings, so an option without an entry in CASES fails.
"""

import inspect
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import click
import numpy as np
import pytest
from click.testing import CliRunner

from hfnumba import ledger
from hfnumba.cli import main
from hfnumba.cli.settings import NumberOrWord, setting_options
from hfnumba.engine.cluster.engine import FAN_IN, DaskEngine
from hfnumba.engine.host import PartitionHost
from hfnumba.errors import CheckpointError, UsageError
from hfnumba.ingest import write_store
from hfnumba.optim.early_stopping import EarlyStopping
from hfnumba.optim.methods import METHODS, optimizer, settings_of
from hfnumba.optim.second_order import SECOND_ORDER_METHODS
from hfnumba.optim.updates import UPDATE_RULES
from hfnumba.run.config import read_config, settings_from, toml
from hfnumba.run.directory import RunDirectory, resumed_settings
from hfnumba.run.ending import Ending
from hfnumba.run.method_settings import optimizer_settings
from hfnumba.run.options import Callee, Group, flag
from hfnumba.run.settings import CHANGEABLE, OPTIONS, TrainSettings, as_dict, fixed
from hfnumba.run.training import train
from hfnumba.run.validation import HELD_OUT
from tests.cli.test_commands import given_by, hf
from tests.optim.toys import Network
from tests.silent import Silent


class Case(NamedTuple):
    """A value that no method and no run has by itself, as a word of the command line (None for a flag)."""

    word: str | None
    value: Any


CASES = {
    "hidden": Case("7", (7,)),
    "activation": Case("sigmoid", "sigmoid"),
    "init": Case("he", "he"),
    "task": Case("autoencode", "autoencode"),
    "loss": Case("sigmoid_cross_entropy", "sigmoid_cross_entropy"),
    "method": Case("gn-cg", "gn-cg"),
    "curvature_rows": Case("64", 64),
    "damping": Case("1", 1.0),
    "radius": Case("0.5", 0.5),
    "krylov_iterations": Case("3", 3),
    "warm_start": Case("0.5", 0.5),
    "backtracking_ratio": Case("3", 3.0),
    "preconditioner": Case("fisher", "fisher"),
    "candidates": Case("last", "last"),
    "line_search": Case("backtracking", "backtracking"),
    "line_rows": Case("40", 40),
    "paper": Case(None, True),
    "learning_rate": Case("0.02", 0.02),
    "batch_rows": Case("17", 17),
    "momentum": Case("0.5", 0.5),
    "record_every": Case("2", 2),
    "history": Case("2", 2),
    "l2": Case("1e-1", 0.1),
    "class_weights": Case("1,2,3.5", (1.0, 2.0, 3.5)),
    "validation_fraction": Case("0.25", 0.25),
    "seed": Case("1", 1),
    "max_iterations": Case("2", 2),
    "target_error": Case("1", 1.0),
    "early_stopping": Case(None, True),
    "patience": Case("1", 1),
    "min_improvement": Case("1", 1.0),
    "target_rmse": Case("1e9", 1e9),
    "time_limit_s": Case("1e-9", 1e-9),
    "cluster": Case("local:3", "local:3"),
    "threads": Case("3", 3),
    "memory": Case("64MiB", "64MiB"),
    "worker_timeout_s": Case("77", 77.0),
    "fan_in": Case("1", 1),
}


def of(*groups):
    return [name for name, option in OPTIONS.items() if option.group in groups]


OF_OPTIMIZERS = [name for name, option in OPTIONS.items() if option.goes_to(Callee.OPTIMIZER)]
OF_RUNS = [*of(Group.NETWORK, Group.OBJECTIVE), "method", "seed"]
LIMITS, PLACEMENT = of(Group.LIMITS), of(Group.PLACEMENT)
# Documented to mean nothing.
WITHOUT_EFFECT = {("lbfgs", "seed")}


def words(name):
    word = CASES[name].word
    return [flag(name), *([] if word is None else [word])]


def test_every_option_is_tested():
    assert CASES.keys() == OPTIONS.keys() == set(TrainSettings.__struct_fields__)
    assert {*OF_OPTIMIZERS, *OF_RUNS, *LIMITS, *PLACEMENT} == OPTIONS.keys()
    assert all(getattr(settings_from({"hidden": (3,)}), name) != case.value for name, case in CASES.items())


# How options are given.


@pytest.mark.parametrize("name", OPTIONS)
def test_a_flag_reaches_its_setting(name):
    assert given_by("s.zarr", *words(name))[1] == {name: CASES[name].value}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_settings_file_gives_what_the_flag_gives(name, tmp_path):
    given = {"hidden": (3,), name: CASES[name].value}
    (tmp_path / "a.toml").write_text(toml(as_dict(settings_from(given))))
    assert getattr(settings_from(read_config(tmp_path / "a.toml")), name) == CASES[name].value


@pytest.mark.parametrize("name", OPTIONS)
def test_on_resuming_only_limits_and_placement_change(name):
    recorded = settings_from({"hidden": (3,), "loss": "softmax_cross_entropy"})
    assert resumed_settings(recorded, {}) == resumed_settings(recorded, as_dict(recorded)) == recorded
    given = {name: CASES[name].value}
    assert (name in CHANGEABLE) == (name in {*LIMITS, *PLACEMENT})
    if name in CHANGEABLE:
        assert getattr(resumed_settings(recorded, given), name) == CASES[name].value
        assert fixed(recorded) == fixed(resumed_settings(recorded, given))
    else:
        with pytest.raises(CheckpointError, match=f"but {name} was .*, not .*leave these out"):
            resumed_settings(recorded, given)


def test_choices_are_completed_and_numbers_have_their_bounds():
    types = {option.name: option.type for option in setting_options()}
    for name, option in OPTIONS.items():
        if isinstance(types[name], NumberOrWord):
            assert types[name].words == tuple(option.choices)
        elif option.choices and name != "class_weights":
            assert isinstance(types[name], click.Choice)
            assert types[name].choices == tuple(option.choices)
    assert types["method"].choices == tuple(METHODS)
    context = click.Context(click.Command("train"))
    found = types["method"].shell_complete(context, None, "hf-l")
    assert [item.value for item in found] == ["hf-lanczos"]
    assert (types["worker_timeout_s"].min, types["worker_timeout_s"].min_open) == (2, False)
    assert (types["time_limit_s"].min, types["time_limit_s"].min_open) == (0, True)
    assert (types["target_error"].min, types["target_error"].max) == (0, 1)
    assert types["fan_in"].min == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "hf"], "'hf' is not one of 'sgd'"),
        (["--activation", "swish"], "'swish' is not one of 'tanh'"),
        (["--activation", "tanh,swish"], "'swish' is not one of 'tanh'"),
        (
            ["--activation", "tanh,relu"],
            "expected one activation, or one for each of the 1 hidden layers, got 2: tanh, relu",
        ),
        (["--task", "autoencode", "--loss", "softmax_cross_entropy"], "an autoencoder has an output for each of its"),
        (
            ["--task", "autoencode", "--class-weights", "balanced"],
            "but the run is for autoencode; leave out --class-weights",
        ),
        (["--history", "0"], "0 is not in the range x>=1"),
        (["--target-error", "1.5"], "1.5 is not in the range 0<=x<=1"),
        (["--l2", "nan"], "setting l2: expected a number of at least 0, got nan; correct --l2, or l2 in the settings"),
        (["--keep", "2"], "option --keep is called --backtracking-ratio now"),
        (["--damping", "1e-9"], "expected damping to be a number from 1e-06 to 10000, got 1e-09"),
        (["--memory", "much"], "setting memory: expected a size such as 2GiB or 500MB, got 'much'"),
        (["--cluster", "some"], "expected --cluster to be none, local"),
    ],
)
def test_a_wrong_value_is_one_sentence_and_status_2(toy_store, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = hf("train", toy_store, "--hidden", 3, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", [80, 120])
def test_the_help_is_grouped_and_fits(width):
    shown = CliRunner().invoke(main, ["train", "--help"], terminal_width=width, max_content_width=width)
    lines = shown.stdout.splitlines()
    assert max(map(len, lines)) <= width
    headings = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == [*dict.fromkeys(option.group.value for option in OPTIONS.values()), "Run"]
    for name in OPTIONS:
        assert any(line.startswith(f"  {flag(name)}") for line in lines)


@pytest.mark.parametrize("method", METHODS)
def test_the_help_names_the_defaults_of_the_methods(method):
    made = optimizer(method)
    for name in settings_of(method):
        if name in CHANGEABLE or name == "paper":
            continue
        default = getattr(made, name)
        text = OPTIONS[name].default_text(getattr(TrainSettings(hidden=()), name))
        if default is None:
            assert text is not None
        else:
            value = default if isinstance(default, str) else f"{default:g}"
            assert text.split(";")[0] == value or f"{value} for {method}" in text


def test_the_help_names_the_default_fan_in():
    assert OPTIONS["fan_in"].default == str(FAN_IN)


def test_names_of_activations_are_separated_by_commas():
    given = given_by("s.zarr", "--hidden", "4,3", "--activation", "tanh, linear")[1]
    assert given == {"hidden": (4, 3), "activation": ("tanh", "linear")}
    assert settings_from(given).activation == ("tanh", "identity")
    assert settings_from({"hidden": (4, 3), "activation": ["gelu", "gelu"]}).activation == "gelu"


# Options of the optimisers.


def trace_of(method, **given):
    usual = {"max_iterations": 15}
    if method in SECOND_ORDER_METHODS:
        usual |= {"curvature_rows": 48, "krylov_iterations": 7, "preconditioner": "none"}
    elif method in UPDATE_RULES or method == "kfac":
        usual |= {"batch_rows": 16}
    settings = settings_from({"hidden": (5,), "method": method} | usual | given)
    toy = Network(seed=4)
    made = optimizer(settings.method, **optimizer_settings(settings))
    return [(it.loss, it.n_matvec, it.rounds) for it in made.iterate(toy, toy.start())]


usual_trace = cache(trace_of)


def test_every_method_has_a_trace_of_its_own():
    traces = {method: tuple(usual_trace(method)) for method in METHODS}
    assert len(set(traces.values())) == len(METHODS)
    assert len({trace[0][0] for trace in traces.values()}) == 1


@pytest.mark.parametrize("name", OF_OPTIMIZERS)
@pytest.mark.parametrize("method", METHODS)
def test_an_option_of_optimisers_changes_the_trace_or_is_refused(method, name):
    given = {name: CASES[name].value}
    if name in settings_of(method):
        assert (trace_of(method, **given) == usual_trace(method)) == ((method, name) in WITHOUT_EFFECT)
        if name != "paper":
            made = optimizer(method, **optimizer_settings(settings_from({"hidden": (3,), "method": method} | given)))
            assert getattr(made, name) == CASES[name].value
    elif name == "curvature_rows":
        # One command line compares all methods; the run says that it has no effect.
        assert trace_of(method, **given) == usual_trace(method)
    else:
        with pytest.raises(UsageError, match=name):
            trace_of(method, **given)


@pytest.mark.parametrize("name", ["line_rows", "curvature_rows"])
def test_numbers_of_rows_may_be_all(name):
    option = next(option for option in setting_options() if option.name == name)
    assert [option.type.convert(word, option, None) for word in ("all", "40")] == ["all", 40]
    assert [item.value for item in option.type.shell_complete(None, option, "a")] == ["all"]
    for wrong in ("every", "0"):
        with pytest.raises(click.BadParameter, match=f"expected a whole number of at least 1 or all, got '{wrong}'"):
            option.type.convert(wrong, option, None)
    assert getattr(optimizer("gn-cg", **optimizer_settings(settings_from({"hidden": (3,), name: "all"}))), name) is None


def test_the_paper_has_choices_that_are_not_those_of_the_defaults():
    for method in ("hf-cg", "gn-cg", "hybrid-cg", "hf-bicgstab"):
        literal, usual = optimizer(method, paper=True), optimizer(method)
        names = set(settings_of(method)) - {"paper"}
        differ = {name for name in names if getattr(literal, name) != getattr(usual, name)}
        assert differ == {"krylov_iterations", "warm_start", "line_search", "preconditioner", "line_rows"}


# Options of the network, of the objective, and limits.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 4)).astype(np.float32), rng.uniform(size=(90, 2)).astype(np.float32)
    write_store(folder / "targets.zarr", {"train": (X, y)}, n_partitions=2, task="regression")
    write_store(folder / "labels.zarr", {"train": (X, np.arange(90) % 3)}, n_partitions=2)
    return folder


@pytest.fixture(scope="module")
def outcome_of(folder):
    @cache
    def outcome(store, **given):
        usual = {"hidden": (6,), "max_iterations": 3}
        directory = RunDirectory(folder / "-".join([store, *map(str, given.values())]))
        return train(folder / f"{store}.zarr", directory, usual | given, Silent())

    return outcome


def losses(outcome):
    return [line["loss"] for line in outcome.lines]


@pytest.mark.parametrize("name", OF_RUNS)
def test_an_option_of_the_network_or_the_objective_changes_a_run(outcome_of, name):
    store = "labels" if name == "class_weights" else "targets"
    usual, other = (losses(outcome_of(store, **given)) for given in ({}, {name: CASES[name].value}))
    assert len(usual) == len(other) == 4
    # The method changes the steps, everything else f or the point where they start.
    assert (usual[0] != other[0]) == (name != "method")
    assert usual[1] != other[1]


OF_EARLY_STOPPING = ["early_stopping", "patience", "min_improvement"]


@pytest.mark.parametrize("name", [name for name in LIMITS if name not in OF_EARLY_STOPPING])
def test_a_limit_ends_a_run(outcome_of, name):
    endings = {
        "max_iterations": (Ending.ITERATIONS, 3),
        "target_error": (Ending.TARGET, 1),
        "target_rmse": (Ending.TARGET_RMSE, 1),
        "time_limit_s": (Ending.TIME, 1),
    }
    store = "targets" if name == "target_rmse" else "labels"
    usual, other = (outcome_of(store, **given) for given in ({}, {name: CASES[name].value}))
    assert (usual.ending, len(usual.lines)) == (Ending.ITERATIONS, 4)
    assert (other.ending, len(other.lines)) == endings[name]
    assert losses(other) == losses(usual)[: len(other.lines)]


def test_options_of_early_stopping_end_a_run(outcome_of):
    """Labels at random: the loss over rows that are not trained on rises."""
    usual = {"validation_fraction": 0.25, "max_iterations": 14}
    whole = outcome_of("labels", **usual)
    assert (whole.ending, len(whole.lines)) == (Ending.ITERATIONS, 15)
    ends = {}
    for names in (OF_EARLY_STOPPING[:1], OF_EARLY_STOPPING[:2], [*OF_EARLY_STOPPING[:1], "min_improvement"]):
        other = outcome_of("labels", **usual, **{name: CASES[name].value for name in names})
        assert other.ending is Ending.VALIDATION
        assert losses(other) == losses(whole)[: len(other.lines)]
        ends[names[-1]] = len(other.lines) - 1
    rows = [line["validation_loss"] for line in whole.lines]
    assert ends == {
        "early_stopping": rows.index(min(rows)) + 10,
        "patience": next(i for i in range(1, 15) if rows[i] > min(rows[:i])),
        # No loss is lower by more than all of it.
        "min_improvement": 10,
    }


def test_what_early_stopping_has_by_itself():
    rule = EarlyStopping()
    assert OPTIONS["patience"].default == str(rule.patience)
    assert float(OPTIONS["min_improvement"].default) == rule.min_improvement
    assert OPTIONS["validation_fraction"].default.startswith(f"{HELD_OUT} with --early-stopping")


def test_early_stopping_can_be_switched_off_again():
    assert given_by("s.zarr", "--no-early-stopping")[1] == {"early_stopping": False}


# Placement.


def recorded(monkeypatch, kind):
    """The arguments of every object of a class that is made from now on."""
    made, init = [], kind.__init__

    def record(*arguments, **keywords):
        made.append(inspect.signature(init).bind(*arguments, **keywords).arguments)
        init(*arguments, **keywords)

    monkeypatch.setattr(kind, "__init__", record)
    return made


@pytest.fixture
def placed(folder, tmp_path, monkeypatch):
    """Train by the command line; return what hosts in this process were made with, and the losses."""

    def run(*arguments):
        hosts = recorded(monkeypatch, PartitionHost)
        path = tmp_path / "-".join(map(str, arguments))
        result = hf("train", folder / "labels.zarr", "--hidden", 6, "--max-iterations", 3, "--run", path, *arguments)
        assert result.exit_code == 0, result.output
        return hosts, [line["loss"] for line in ledger.read(path / "ledger.jsonl")]

    return run


@pytest.fixture
def cluster(monkeypatch, client):
    """Two real workers in place of those that `--cluster local` would start; what was asked of them and engines."""
    asked = []

    @contextmanager
    def local(n_workers, **given):
        asked.append({"n_workers": n_workers} | given)
        yield client

    monkeypatch.setattr("hfnumba.launch.spec.local", local)
    return asked, recorded(monkeypatch, DaskEngine)


HERE = {"threads": lambda host: host["n_threads"], "memory": lambda host: host["problem"].memory}
THERE = {
    "cluster": lambda asked, engine: f"local:{asked['n_workers']}",
    "threads": lambda asked, engine: asked["n_threads"],
    "memory": lambda asked, engine: engine["problem"].memory,
    "worker_timeout_s": lambda asked, engine: min(asked["timeout_s"], engine["timeout_s"]),
    "fan_in": lambda asked, engine: engine["fan_in"],
}
ARRIVES_AS = {"memory": 64 * 2**20}


@pytest.mark.parametrize("name", HERE)
def test_placement_reaches_the_engine_of_this_process(outcome_of, placed, name):
    hosts, found = placed(*words(name))
    assert [HERE[name](host) for host in hosts] == [ARRIVES_AS.get(name, CASES[name].value)]
    assert found == losses(outcome_of("labels"))


@pytest.mark.parametrize("name", PLACEMENT)
def test_placement_reaches_the_cluster(outcome_of, placed, cluster, name):
    hosts, found = placed(*([] if name == "cluster" else ["--cluster", "local"]), *words(name))
    (asked,), (engine,) = cluster
    assert THERE[name](asked, engine) == ARRIVES_AS.get(name, CASES[name].value)
    assert hosts == []
    assert found == losses(outcome_of("labels"))


def test_placement_that_is_not_given_is_as_the_table_says(placed, cluster):
    placed("--cluster", "local")
    (asked,), (engine,) = cluster
    assert asked == {"n_workers": None, "n_threads": 1, "timeout_s": 60.0}
    assert (engine["timeout_s"], engine["fan_in"], engine["problem"].memory) == (60.0, FAN_IN, None)
