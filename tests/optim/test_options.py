"""Every option of `hfnumba train` changes what a run does, or is refused; none is silently ignored."""

from functools import cache

import numpy as np
import pytest

from hfnumba.errors import UsageError
from hfnumba.ingest import write_store
from hfnumba.optim.methods import METHODS, optimizer, settings_of
from hfnumba.optim.second_order import SECOND_ORDER_METHODS
from hfnumba.optim.updates import UPDATE_RULES
from hfnumba.run.directory import RunDirectory
from hfnumba.run.settings import CHANGEABLE, TrainSettings, optimizer_settings, settings_from
from hfnumba.run.training import train
from tests.optim.toys import Network
from tests.silent import Silent

# An option of the methods, and a value that no method has by itself.
OF_METHODS = {
    "curvature_rows": 64,
    "damping": 1.0,
    "radius": 0.5,
    "krylov_iterations": 3,
    "warm_start": 0.5,
    "backtracking_ratio": 3.0,
    "preconditioner": "fisher",
    "candidates": "last",
    "line_search": "backtracking",
    "line_rows": 40,
    "paper": True,
    "learning_rate": 0.02,
    "batch_rows": 17,
    "momentum": 0.5,
    "history": 2,
    "seed": 1,
    "max_iterations": 5,
    "target_error": 0.9,
}
OF_NETWORKS = {
    "hidden": (7,),
    "activation": "sigmoid",
    "init": "he",
    "loss": "sigmoid_cross_entropy",
    "l2": 0.1,
    "class_weights": (1.0, 2.0, 3.0),
    "time_limit_s": 1e-9,
}
# What may change when a run is resumed, and is no limit, changes no bit: that is for tests/engine and tests/run.
PLACEMENT = set(CHANGEABLE) - OF_METHODS.keys() - OF_NETWORKS.keys()
# Documented to mean nothing.
WITHOUT_EFFECT = {("lbfgs", "seed")}


def test_every_option_is_here():
    assert {"method"} | OF_METHODS.keys() | OF_NETWORKS.keys() | PLACEMENT == set(TrainSettings.__struct_fields__)


def trace_of(method, **given):
    usual = {"max_iterations": 15}
    if method in SECOND_ORDER_METHODS:
        usual |= {"curvature_rows": 48, "krylov_iterations": 7}
    elif method in UPDATE_RULES:
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


@pytest.mark.parametrize("option", OF_METHODS)
@pytest.mark.parametrize("method", METHODS)
def test_an_option_changes_the_trace_or_is_refused(method, option):
    given = {option: OF_METHODS[option]}
    if option in settings_of(method):
        assert (trace_of(method, **given) == usual_trace(method)) == ((method, option) in WITHOUT_EFFECT)
    elif option == "curvature_rows":
        # One command line compares all methods; the run says that it has no effect.
        assert trace_of(method, **given) == usual_trace(method)
    else:
        with pytest.raises(UsageError, match=option):
            trace_of(method, **given)


def test_the_paper_has_choices_that_are_not_those_of_the_defaults():
    for method in ("hf-cg", "gn-cg", "hybrid-cg", "hf-bicgstab"):
        literal, usual = optimizer(method, paper=True), optimizer(method)
        names = set(settings_of(method)) - {"paper"}
        differ = {name for name in names if getattr(literal, name) != getattr(usual, name)}
        assert differ == {"krylov_iterations", "warm_start", "line_search"}


@pytest.fixture(scope="module")
def losses_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 4)).astype(np.float32), rng.uniform(size=(90, 2)).astype(np.float32)
    write_store(folder / "targets.zarr", {"train": (X, y)}, n_partitions=2, task="regression")
    write_store(folder / "labels.zarr", {"train": (X, np.arange(90) % 3)}, n_partitions=2)

    @cache
    def losses(store, **given):
        usual = {"hidden": (6,), "max_iterations": 3}
        directory = RunDirectory(folder / "-".join([store, *map(str, given.values())]))
        return [line["loss"] for line in train(folder / f"{store}.zarr", directory, usual | given, Silent()).lines]

    return losses


@pytest.mark.parametrize("option", OF_NETWORKS)
def test_an_option_of_the_network_or_the_run_changes_a_run(losses_of, option):
    store = "labels" if option == "class_weights" else "targets"
    usual, other = losses_of(store), losses_of(store, **{option: OF_NETWORKS[option]})
    assert len(usual) == 4
    assert usual != other
    if option == "time_limit_s":
        assert other == usual[:1]
