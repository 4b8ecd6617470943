"""An interrupted run that goes on is the same run, to the bit."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest

from hfnumba.errors import CheckpointError, UsageError
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.limits import StopReason
from hfnumba.optim.methods import optimizer
from hfnumba.optim.second_order import SECOND_ORDER_METHODS
from hfnumba.optim.updates import UPDATE_RULES
from tests.optim.toys import Network, Saddle

FIELDS = (
    "iteration",
    "epoch",
    "loss",
    "error",
    "test_loss",
    "test_error",
    "validation_loss",
    "validation_error",
    "grad_norm",
    "damping",
    "radius",
    "rho",
    "alpha",
    "direction",
    "krylov_status",
    "n_matvec",
    "rounds",
    "nbytes",
    "elapsed_s",
    "n_negative_curvature",
    "lowest_rayleigh",
    "curvature",
    "note",
)


def through_a_file(state):
    """What a checkpoint does to a state: tensors as bytes, scalars as JSON."""
    tensors = {name: np.frombuffer(v.tobytes(), v.dtype).reshape(v.shape) for name, v in state.tensors().items()}
    return OptimizerState.restore(tensors, json.loads(json.dumps(state.scalars(), allow_nan=False)))


def same(line, other):
    return {k: v for k, v in line.items() if k != "elapsed_s"} == {k: v for k, v in other.items() if k != "elapsed_s"}


CASES = [(method, {"curvature_rows": 48, "seed": 2}) for method in SECOND_ORDER_METHODS]
CASES += [(method, {"batch_rows": 16}) for method in UPDATE_RULES] + [("sgd", {"batch_rows": 16, "momentum": 0.9})]
CASES += [(m, {"curvature_rows": 48, "preconditioner": "fisher"}) for m in ("hf-cg", "hf-bicgstab", "hf-minres")]
CASES += [("kfac", {"batch_rows": 16}), ("kfac", {"batch_rows": 16, "record_every": 4})]
CASES += [("lbfgs", {"history": 3}), ("hf-bicgstab", {"paper": True, "seed": 2})]


@pytest.mark.bits
@pytest.mark.parametrize(("method", "settings"), CASES, ids=str)
def test_from_every_iteration_the_same_bits_and_lines(method, settings):
    n = 8
    optimiser = optimizer(method, max_iterations=n, **settings)
    test = Network(n_rows=30)
    whole = list(optimiser.iterate(Network(), Network().start(), test=test))
    for stop in range(n + 1):
        state = through_a_file(whole[stop].state)
        resumed = list(optimiser.iterate(Network(), state=state, test=test))
        assert [it.iteration for it in resumed] == list(range(stop + 1, n + 1))
        for it, expected in zip(resumed, whole[stop + 1 :], strict=True):
            np.testing.assert_array_equal(it.state.theta, expected.state.theta)
            assert same(it.as_ledger_line(), expected.as_ledger_line())
            assert it.elapsed_s >= whole[stop].elapsed_s
            assert it.state.tensors().keys() == expected.state.tensors().keys()


@pytest.mark.parametrize("method", SECOND_ORDER_METHODS)
def test_through_probes_rejections_and_the_end(method):
    optimiser = optimizer(method)
    whole = list(islice(optimiser.iterate(Saddle(), [1.0, 0.0]), 40))
    assert len(whole) < 40
    assert any(it.alpha == 0 for it in whole)
    for stop in range(len(whole)):
        resumed = list(islice(optimiser.iterate(Saddle(), state=through_a_file(whole[stop].state)), 40))
        assert len(resumed) == len(whole) - stop - 1
        for it, expected in zip(resumed, whole[stop + 1 :], strict=True):
            np.testing.assert_array_equal(it.state.theta, expected.state.theta)
            assert same(it.as_ledger_line(), expected.as_ledger_line())


def test_closing_the_generator_keeps_the_last_state_usable():
    toy = Network()
    iterations = optimizer("hf-bicgstab").iterate(toy, toy.start())
    next(iterations)
    it = next(iterations)
    iterations.close()
    after = next(optimizer("hf-bicgstab").iterate(Network(), state=it.state))
    assert after.iteration == 2


def test_a_higher_limit_goes_on_from_the_end():
    toy = Network()
    *_, last = optimizer("hf-cg", max_iterations=2).iterate(toy, toy.start())
    more = list(optimizer("hf-cg", max_iterations=4).iterate(toy, state=last.state))
    assert [it.iteration for it in more] == [3, 4]


def test_ledger_lines_are_json_and_complete():
    toy = Saddle()
    for it in optimizer("hf-bicgstab", max_iterations=3).iterate(toy, [0.9, 0.1]):
        line = it.as_ledger_line()
        assert json.loads(json.dumps(line, allow_nan=False)) == line
        assert line["error"] is None  # this objective has none: NaN
        assert np.isnan(it.error)
    assert tuple(line) == FIELDS


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda t, s: t.pop("theta"), "theta"),
        (lambda t, s: s.pop("damping"), "damping"),
        (lambda t, s: s.update(colour=1), "colour"),
    ],
)
def test_states_with_missing_or_unknown_parts_are_refused_by_name(spoil, named):
    toy = Network()
    state = next(optimizer("hf-cg").iterate(toy, toy.start())).state
    tensors, scalars = state.tensors(), state.scalars()
    spoil(tensors, scalars)
    with pytest.raises(CheckpointError, match=rf"\['{named}'\].*resume with the version"):
        OptimizerState.restore(tensors, scalars)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("damping", (float("nan"), float("inf"), -1.0, "0.1", True)),
        ("radius", (float("nan"), -1)),
        ("error", (float("nan"), -0.5)),
        ("iteration", (-1, 1.0, None, False)),
        ("rounds", (-1, 0.5, None)),
        ("n_rejected", (-1, True)),
        ("elapsed_s", (float("inf"), -1.0, None)),
        ("probe_next", (0, None, "")),
        ("stopped", (None, 0)),
    ],
)
def test_values_that_no_method_writes_are_refused_by_name(name, values):
    state = OptimizerState(np.zeros(2, np.float32))
    for value in values:
        with pytest.raises(CheckpointError, match=rf"the checkpoint has {name} = .*which no method writes"):
            OptimizerState.restore(state.tensors(), state.scalars() | {name: value})


def test_vectors_of_another_method_are_refused_by_name():
    toy = Network()
    state = next(optimizer("hf-cg").iterate(toy, toy.start())).state
    state = OptimizerState.restore(state.tensors() | {"bias": np.zeros(2)}, state.scalars())
    with pytest.raises(UsageError, match=r"got one with bias; resume with its own method"):
        optimizer("hf-cg").iterate(toy, state=state)


@pytest.mark.parametrize("reason", StopReason)
def test_a_reason_to_stop_is_its_sentence_in_a_checkpoint(reason):
    state = OptimizerState(np.zeros(2, np.float32), stopped=reason)
    assert state.scalars()["stopped"] == reason.value
    assert through_a_file(state).stopped is reason


def test_no_reason_to_stop_is_an_empty_sentence_and_an_unknown_one_is_refused():
    state = OptimizerState(np.zeros(2, np.float32))
    assert state.scalars()["stopped"] == ""
    assert through_a_file(state).stopped is None
    with pytest.raises(CheckpointError, match=r"reason to stop, 'stopped: .*resume with the version"):
        OptimizerState.restore(state.tensors(), state.scalars() | {"stopped": "stopped: it was enough"})


def test_restored_vectors_are_writable_copies():
    toy = Network()
    *_, it = optimizer("hf-cg", max_iterations=1).iterate(toy, toy.start())
    restored = through_a_file(it.state)
    for name, vector in restored.tensors().items():
        assert vector.flags.writeable
        assert vector.dtype == np.float32
        np.testing.assert_array_equal(vector, it.state.tensors()[name])
    assert restored.scalars() == it.state.scalars()
