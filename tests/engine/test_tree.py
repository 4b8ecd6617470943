import itertools
import random
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.engine import tree
from hfnumba.engine.tree import TreeSum


def recursive_sum(values):
    """The tree's definition, written down: split at the largest power of two below n."""
    if len(values) == 1:
        return values[0]
    half = 1 << (len(values) - 1).bit_length() - 1
    return recursive_sum(values[:half]) + recursive_sum(values[half:])


def leaves(n):
    rng = np.random.default_rng(n)
    return [(rng.standard_normal(3) * 10.0 ** rng.integers(-3, 4)).astype(np.float32) for _ in range(n)]


@given(st.integers(1, 40), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_any_order_and_any_split_among_workers_has_the_same_bits(n, rnd):
    values = leaves(n)
    expected = recursive_sum(values)
    workers = [TreeSum(n) for _ in range(rnd.randint(1, 5))]
    order = list(range(n))
    rnd.shuffle(order)
    for j in order:
        rnd.choice(workers).add((0, j), (values[j].copy(),))
    collected = [item for worker in workers for item in worker.nodes().items()]
    rnd.shuffle(collected)
    total = TreeSum(n)
    for node, sums in collected:
        total.add(node, sums)
    np.testing.assert_array_equal(total.total()[0], expected)


def test_contiguous_runs_are_reduced_to_few_nodes():
    tree = TreeSum(16)
    for j in range(5, 11):
        tree.add((0, j), (np.ones(2),))
    assert set(tree.nodes()) == {(0, 5), (1, 3), (1, 4), (0, 10)}


def test_threads_adding_at_once_lose_nothing():
    n = 64
    values, tree = leaves(n), TreeSum(n)
    order = list(range(n))
    random.Random(0).shuffle(order)
    threads = [
        threading.Thread(target=lambda part: [tree.add((0, j), (values[j].copy(),)) for j in part], args=(order[i::8],))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(tree.total()[0], recursive_sum(values))


def test_a_missing_or_repeated_part_is_refused():
    tree = TreeSum(3)
    tree.add((0, 0), (np.ones(1),))
    with pytest.raises(RuntimeError, match="not complete"):
        tree.total()
    with pytest.raises(RuntimeError, match="twice"):
        tree.add((0, 0), (np.ones(1),))


@given(n=st.integers(1, 40), cuts=st.sets(st.integers(1, 39), max_size=8), seed=st.integers(0, 99))
def test_adding_up_nodes_gives_the_bits_of_the_tree(n, cuts, seed):
    """Runs of partitions, each summed by itself; nodes are those foreseen, and pieces make no difference."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "_PIECE", 3)
        parts = [(rng.standard_normal(size).astype(np.float32), rng.standard_normal((2, 2))) for _ in range(n)]
        whole = TreeSum(n)
        for j in range(n):
            whole.add((0, j), tuple(array.copy() for array in parts[j]))
        edges = [0, *sorted(cut for cut in cuts if cut < n), n]
        nodes = {}
        for run in (range(a, b) for a, b in itertools.pairwise(edges)):
            some = TreeSum(n)
            for j in run:
                some.add((0, j), tuple(array.copy() for array in parts[j]))
            assert set(some.nodes()) == tree.covering(run, n)
            assert sorted(j for node in some.nodes() for j in tree.leaves(node, n)) == list(run)
            nodes |= some.nodes()
        for start, stop in itertools.combinations(edges, 2):
            mine = {node: sums for node, sums in nodes.items() if start <= tree.leaves(node, n).start < stop}
            some = TreeSum(n)
            for j in range(start, stop):
                some.add((0, j), tuple(array.copy() for array in parts[j]))
            joined, finite = tree.join(mine, n)
            assert finite
            assert set(joined) == set(some.nodes())
            for node, sums in some.nodes().items():
                for a, b in zip(joined[node], sums, strict=True):
                    np.testing.assert_array_equal(a, b)
        total, finite = tree.add_up(nodes, n)
        assert finite
        for a, b in zip(total, whole.total(), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        node = sorted(nodes)[seed % len(nodes)]
        nodes[node][1][1, 0] = (np.nan, np.inf, -np.inf)[seed % 3]
        assert not tree.add_up(nodes, n)[1]
        assert not tree.join(nodes, n)[1]


@given(n=st.integers(1, 20), n_put=st.integers(0, 20), n_shares=st.integers(1, 4), seed=st.integers(0, 99))
def test_what_is_left_of_a_sum_is_added_and_divided_in_shares_with_the_same_bits(n, n_put, n_shares, seed):
    rng = np.random.default_rng(seed)
    parts = [(rng.standard_normal(2), rng.standard_normal(7).astype(np.float32)) for _ in range(n)]
    divisor = np.float32(rng.integers(1, 1000))
    whole, some = TreeSum(n), TreeSum(n)
    order = rng.permutation(n)
    for k, j in enumerate(order):
        whole.add((0, j), tuple(array.copy() for array in parts[j]))
        (some.put if k >= n - n_put else some.add)((0, j), tuple(array.copy() for array in parts[j]))
    pairs = some.pairs()
    assert len(pairs) == 0 if not n_put else len(pairs) <= n - 1
    for share in rng.permutation(n_shares):
        tree.finish(pairs, some.total(), (None, divisor), int(share), n_shares)
    np.testing.assert_array_equal(some.total()[0], whole.total()[0])
    np.testing.assert_array_equal(some.total()[1], whole.total()[1] / divisor)
    nodes = {(0, j): parts[j] for j in range(n)}
    total, _ = tree.add_up(nodes, n, (None, divisor))
    np.testing.assert_array_equal(total[1], some.total()[1])


def test_a_node_that_comes_twice_before_its_sibling_is_refused():
    some = TreeSum(4)
    some.put((0, 0), (np.ones(1),))
    for take in (some.put, some.add):
        with pytest.raises(RuntimeError, match="twice"):
            take((0, 0), (np.ones(1),))
