"""Objectives in a process that was forked: its threads start again; one without connections says so."""

import os
import traceback

import numpy as np
import pytest

from hfnumba.engine import ArrayObjective, DaskObjective, SplitObjective
from hfnumba.errors import ClusterError
from hfnumba.krylov.kronecker import kfac
from hfnumba.network import Network
from hfnumba.store import open_store

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def in_fork(check):
    """Call a function in a forked process, and fail as it does."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            check()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def objective(kind, toy_store, n_threads=3):
    if kind == "arrays":
        rng = np.random.default_rng(0)
        X, y = rng.standard_normal((600, 8), dtype=np.float32), rng.integers(0, 3, 600)
        return ArrayObjective(Network([8, 6, 3]), X, y, n_threads=n_threads, n_partitions=8)
    # Without a cache the rows are read ahead by other threads.
    split = open_store(toy_store)["train"]
    return SplitObjective(Network([8, 6, 3]), split, n_threads=n_threads, cache_rows=kind == "cached")


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("kind", ["arrays", "cached", "read again"])
def test_a_forked_process_computes_the_same_bits(kind, used, toy_store):
    theta = Network([8, 6, 3]).initialize(0)
    with objective(kind, toy_store) as f, objective(kind, toy_store) as fresh:
        value, gradient = f.value_and_gradient(theta)

        def same(g):
            for _ in range(3):
                found = g.value_and_gradient(theta)
                assert found[0] == value and np.array_equal(found[1], gradient)

        def check():
            same(f if used else fresh)
            # A process that was forked from this one has its own threads too.
            in_fork(lambda: same(f))
            same(f)
            f.close()

        in_fork(check)
        # The threads of this process are as they were.
        same(f)


def test_products_with_kronecker_factors_in_a_forked_process(toy_store):
    with objective("arrays", toy_store) as f:
        theta = Network([8, 6, 3]).initialize(0)
        operator = kfac(0.1, **f.minibatch(theta, None, factor_seed=(1,)).factors)
        expected = operator.matvec(theta)

        def check():
            np.testing.assert_array_equal(operator.matvec(theta), expected)

        in_fork(check)
        check()


def test_a_cluster_belongs_to_the_process_of_its_client(toy_store, client):
    theta = Network([8, 6, 3]).initialize(0)
    with DaskObjective(Network([8, 6, 3]), open_store(toy_store)["train"], client) as f:
        f.value(theta)

        def check():
            for call in (lambda: f.value(theta), f.sharing):
                with pytest.raises(ClusterError, match=r"was forked without its connections; make a client"):
                    call()
            f.close()

        in_fork(check)
        f.value(theta)
