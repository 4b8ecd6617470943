"""The protocol of evaluations, shown by one that is defined here only: names, divisors and memory of its results."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from hfnumba.engine import ArrayObjective, SplitObjective
from hfnumba.engine.memory import reserved_nbytes
from hfnumba.engine.protocol import Evaluation, Result, Totals
from hfnumba.ingest import write_store
from hfnumba.network import Network
from hfnumba.objective import RowSample
from tests.engine.cluster import test_engine

NETWORK = Network([12, 9, 4])
F64 = np.dtype(np.float64)


@dataclass(frozen=True)
class Classes(Evaluation):
    """Shares of the classes, and counts of rows by the position of their class; ``needs`` bytes beside."""

    rows: RowSample | None = None
    needs: int = 0

    def results(self, problem, vectors) -> Mapping[str, Result]:
        n = problem.network.n_outputs
        return {
            "shares": Result((n,), F64, "rows"),
            "n": Result((2,), F64),
            "both": Result((2,), F64, ("weight", "rows")),
        }

    def nbytes(self, problem, vectors):
        return self.needs

    def __call__(self, host, j, shared):
        rows = host.rows(j, self.rows)
        counts = np.bincount(rows.labels, minlength=host.problem.network.n_outputs).astype(float)
        n = len(rows.X)
        return counts, np.array([n, 1.0]), np.array([n, n], float)


def arrays(n=1000):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 12)).astype(np.uint8), rng.integers(0, 4, n)


def test_a_new_evaluation_needs_nothing_but_itself():
    X, y = arrays()
    f = ArrayObjective(NETWORK, X, y, n_partitions=7)
    answer, other = f.evaluate(Classes(), Classes(RowSample(100)))
    np.testing.assert_array_equal(answer["shares"], np.bincount(y) / 1000)
    assert answer["n"].tolist() == [1000, 7]
    assert answer["both"].tolist() == other["both"].tolist() == [1, 1]
    assert other["n"].tolist() == [100, 7]
    assert f.counters.rounds == 1
    assert f.counters.row_reads == 1100
    assert f.counters.nbytes == 2 * 8 * (4 + 2 + 2)


def test_means_over_weighted_rows_have_the_divisor_they_name():
    X, y = arrays()
    weights = np.where(np.arange(1000) % 4, 0.5, 0.0)
    (answer,) = ArrayObjective(NETWORK, X, y, weights=weights).evaluate(Classes())
    np.testing.assert_allclose(answer["shares"], np.bincount(y) / 750, rtol=1e-15)
    np.testing.assert_allclose(answer["both"], [1000 / 375, 1000 / 750], rtol=1e-15)


def test_a_new_evaluation_on_workers(client):
    with test_engine.objective(client) as there, test_engine.objective() as here:
        for a, b in zip(there.evaluate(Classes()), here.evaluate(Classes()), strict=True):
            assert a.keys() == b.keys()
            test_engine.assert_same_bits(a.values(), b.values())


def test_divisors_are_of_the_results_dtype():
    totals = Totals(3, 2)
    assert Result((5,), np.dtype(np.float32), "weight").divisor(totals).dtype == np.float32
    assert Result((), F64).divisor(totals) is None
    assert Result((2,), F64, ("rows", "weight")).divisor(totals).tolist() == [2, 3]
    assert Result((3, 5), np.dtype(np.float32)).nbytes == 60


def test_rows_make_room_for_what_an_evaluation_needs(tmp_path):
    X, y = arrays(4000)
    split = write_store(tmp_path / "s.zarr", {"train": (X, y)}, n_partitions=8)["train"]
    taken = reserved_nbytes(NETWORK, split, np.dtype(np.float32), 1)
    memory = 2 * taken + 16 * (X.nbytes + 4 * len(y))
    with SplitObjective(NETWORK, split, n_threads=1, memory=memory) as f:
        cached = f._engine._host._cache._cached
        (before,) = f.evaluate(Classes())
        assert len(cached) == 8
        (after,) = f.evaluate(Classes(needs=memory - taken - X.nbytes))
        assert 0 < len(cached) < 8
        test_engine.assert_same_bits(before.values(), after.values())
        # What one round has needed stays reserved.
        f.evaluate(Classes())
        assert 0 < len(cached) < 8


@pytest.mark.parametrize("on", ["threads", "workers"])
def test_primal_passes_that_are_computed_again_are_reported_once(on, request, caplog):
    caplog.set_level(logging.WARNING, "hfnumba")
    X, y = arrays(2200)
    theta = NETWORK.initialize(0)
    # Room for the rows, and for a part of what is derived from them.
    split = write_store(request.getfixturevalue("tmp_path") / "s.zarr", {"train": (X, y)}, n_partitions=8)["train"]
    memory = reserved_nbytes(NETWORK, split, np.dtype(np.float32), 2) + 2 * (X.nbytes + 4 * len(y))
    if on == "threads":
        f = SplitObjective(NETWORK, split, n_threads=2, memory=memory)
    else:
        from hfnumba.engine import DaskObjective

        f = DaskObjective(NETWORK, split, request.getfixturevalue("client"), memory=memory)
    with f:
        operator = f.linearize(theta).hessian()
        reports = [[r for r in caplog.records if "for each product" in r.getMessage()]]
        for _ in range(3):
            operator.matvec(theta)
            reports.append([r for r in caplog.records if "for each product" in r.getMessage()])
    assert [len(found) for found in reports] == [0, 1, 1, 1]
    assert "of 8 partitions" in reports[-1][0].getMessage()
