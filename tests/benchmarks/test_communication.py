"""Rounds and bytes of real runs agree with the closed form, and that of model parallelism with a count by hand."""

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.communication import (
    Counts,
    RowCounts,
    break_even,
    counts_of,
    disagreements,
    model_parallel,
    planned,
    rows_of,
)
from hfnumba import ledger
from hfnumba.engine import ArrayObjective
from hfnumba.errors import UsageError
from hfnumba.network import Network
from hfnumba.optim.methods import METHODS, optimizer
from hfnumba.optim.second_order import SECOND_ORDER_METHODS
from hfnumba.optim.updates import UPDATE_RULES
from hfnumba.run.directory import RunDirectory
from hfnumba.run.training import train
from tests.silent import Silent
from tests.toy_store import write_toy_store

N_ROWS, NETWORK = 180, Network([8, 6, 3])
N = NETWORK.n_params


def lines_of(made, theta=None, scale=1.0):
    rng = np.random.default_rng(0)
    y = np.arange(N_ROWS) % 3
    X = (rng.normal(size=(3, 8))[y] + rng.normal(size=(N_ROWS, 8))).astype(np.float32)
    with ArrayObjective(NETWORK, X, y.astype(np.int32), n_partitions=4) as objective:
        its = made.iterate(objective, NETWORK.initialize(0) * np.float32(scale) if theta is None else theta)
        return [it.as_ledger_line() for it in its]


PLAIN = {"preconditioner": "none", "line_rows": None}
"""Settings of second-order methods whose bytes have a closed form."""
VARIANTS = [(method, {}) for method in METHODS if method != "kfac"]
VARIANTS += [(method, {"paper": True}) for method in ("hf-bicgstab", "hf-cg", "gn-cg", "hybrid-cg")]
VARIANTS += [
    ("hf-cg", {"preconditioner": "fisher"}),
    ("hf-bicgstab", {"candidates": "last"}),
    ("hf-bicgstab", {"line_rows": 30}),
    ("hf-bicgstab", {"line_rows": N_ROWS}),
    ("sgd", {"momentum": 0.5}),
]


@pytest.mark.parametrize(("method", "settings"), VARIANTS, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-3], ids=["usual", "tiny"])
def test_rounds_and_bytes_are_those_of_the_closed_form(method, settings, scale):
    if method in SECOND_ORDER_METHODS:
        settings = PLAIN | {"curvature_rows": 60} | settings
    made = optimizer(method, max_iterations=12, **settings)
    lines = lines_of(made, scale=scale)
    counts = counts_of(made, lines, N_ROWS, N)
    assert len(counts) == len(lines) > 3
    assert disagreements(lines, counts, N) == []
    if method in SECOND_ORDER_METHODS:
        assert {one.candidates for one in counts[1:]} <= set(range(8))
        for (before, line), one in zip(pairwise(lines), counts[1:], strict=True):
            # 1 + products + candidate evaluation + line search, and the fallbacks.
            trouble = "steepest descent" in line["note"] or line["alpha"] == 0
            assert trouble or line["rounds"] - before["rounds"] == 1 + line["n_matvec"] + 1 + 1
            assert one.rounds == line["rounds"] - before["rounds"]


@pytest.mark.parametrize("field", ["rounds", "nbytes"])
def test_a_count_that_is_off_by_one_is_found(field):
    made = optimizer("hf-bicgstab", curvature_rows=60, max_iterations=4, **PLAIN)
    lines = lines_of(made)
    lines[2][field] += 1
    wrong = disagreements(lines, counts_of(made, lines, N_ROWS, N), N)
    # What follows is counted from the wrong number.
    assert wrong == [2, 3]


def test_a_run_on_dask_workers_is_counted_alike(client, tmp_path):
    store = write_toy_store(tmp_path / "toy.zarr")
    given = {"hidden": (6,), "curvature_rows": 60, "max_iterations": 5, "cluster": client.scheduler.address}
    given |= {"preconditioner": "none", "line_rows": N_ROWS}
    train(store, RunDirectory(tmp_path / "run"), given, Silent())
    made = optimizer("hf-bicgstab", curvature_rows=60, max_iterations=5, **PLAIN)
    lines = ledger.read(tmp_path / "run" / "ledger.jsonl")
    assert disagreements(lines, counts_of(made, lines, N_ROWS, N), N) == []


@pytest.mark.parametrize("method", [*UPDATE_RULES, "lbfgs", "hf-cg", "gn-cg", "hybrid-cg", "hf-bicgstab"])
def test_a_plan_is_what_happens_if_nothing_ends_early(method):
    made = optimizer(
        method, max_iterations=6, **(PLAIN | {"curvature_rows": 60} if method in SECOND_ORDER_METHODS else {})
    )
    lines = lines_of(made)
    plan, done = planned(made, 6, N_ROWS), sum(counts_of(made, lines, N_ROWS, N), Counts())
    assert plan.rounds >= done.rounds
    if method in UPDATE_RULES or method == "gn-cg":
        assert plan.rounds == done.rounds
    assert (plan.gradients, plan.losses, plan.minibatches) == (done.gradients, done.losses, done.minibatches)


def exchanged(sizes, way):
    """Count by hand, layer by layer, the values of one pass over one row, and the synchronisations."""
    forward = [("gather", width) for width in sizes[1:]]
    back = [("add", width) for width in reversed(sizes[1:-1])]
    steps = forward + (back if way == "both" else [])
    return len(steps), sum(width for _, width in steps)


@pytest.mark.parametrize("sizes", [(784, 10), (784, 400, 10), (784, 400, 150, 10)])
def test_model_parallelism_by_hand(sizes):
    rows = RowCounts(1000, 100, 7, 300)
    for name, n_rows in [("gradients", 1000), ("products", 100), ("minibatches", 7)]:
        waits, values = exchanged(sizes, "both")
        assert model_parallel(Counts(**{name: 3}), sizes, rows) == (3 * waits, 4 * 3 * n_rows * values)
    waits, values = exchanged(sizes, "forward")
    assert model_parallel(Counts(losses=2), sizes, rows) == (2 * waits, 4 * 2 * 1000 * values)
    assert model_parallel(Counts(rankings=1, candidates=5), sizes, rows) == (waits, 4 * 5 * 100 * values)
    # All step lengths: theta and the direction through the first layer, then each separately.
    later = values - sizes[1]
    assert model_parallel(Counts(searches=1, lengths=9), sizes, rows) == (waits, 4 * 300 * (2 * sizes[1] + 9 * later))


def test_the_break_even_is_where_the_bytes_are_equal():
    sizes, n = (784, 400, 150, 10), 375_660
    for factor, fewer in ((0.99, True), (1.01, False)):
        rows = RowCounts(1, 1, int(factor * break_even(sizes, n)), 1)
        assert (model_parallel(Counts(minibatches=1), sizes, rows)[1] < Counts(minibatches=1).vectors * 4 * n) == fewer


def test_rows_of_a_method():
    assert rows_of(optimizer("hf-cg", curvature_rows=60), 180) == RowCounts(180, 60, 180, 180)
    assert rows_of(optimizer("hf-cg", line_rows=50), 180) == RowCounts(180, 180, 180, 50)
    assert rows_of(optimizer("hf-cg"), 180) == RowCounts(180, 180, 180, 180)
    assert rows_of(optimizer("adam", batch_rows=64), 180) == RowCounts(180, 180, 64, 180)


def test_methods_without_a_closed_form_are_refused():
    for made in (optimizer("kfac"), optimizer("hf-cg", preconditioner="kfac")):
        with pytest.raises(UsageError, match="without Kronecker factors"):
            planned(made, 3, 100)
