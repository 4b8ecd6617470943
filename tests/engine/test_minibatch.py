"""The round of a stochastic second-order step: each of its results against the evaluation of that alone."""

import itertools

import numpy as np
import pytest

from hfnumba.engine import ArrayObjective, buffers
from hfnumba.engine.evaluations import KroneckerFactors
from hfnumba.engine.rows import sample_indices
from hfnumba.errors import DataError
from hfnumba.network import LOSSES, Network
from hfnumba.objective import RowSample, Trial

N_ROWS, PARTITIONS = 403, 4


@pytest.fixture(autouse=True)
def _all_arrays_are_used_again(monkeypatch):
    """Also those of small networks."""
    monkeypatch.setattr(buffers, "_FEWEST", 1)


SAMPLES = {
    "all": (None, N_ROWS),
    "all, with a part": (RowSample(N_ROWS, seed=3, draw=2, part=150), 150),
    "more than all": (RowSample(9999, seed=3, draw=2, part=150), 150),
    "a minibatch": (RowSample(200, seed=3, draw=2, index=1, part=70), 70),
    "no part": (RowSample(200, seed=3, draw=2, index=1), 200),
    "a part of two rows": (RowSample(200, seed=3, draw=2, index=1, part=2), 2),
}


def indices_of(sample, n_rows):
    """The rows of a sample by partitions, counted in all rows."""
    cuts = [j * n_rows // PARTITIONS for j in range(PARTITIONS + 1)]
    if sample is None:
        return [np.arange(a, b) for a, b in itertools.pairwise(cuts)]
    clipped = RowSample(min(sample.n_rows, n_rows), sample.seed, sample.draw, sample.index, sample.part)
    return [a + sample_indices(clipped, a, b, n_rows) for a, b in itertools.pairwise(cuts)]


def first_rows(sample, n_rows):
    """The rows of the first part, by the documented share of each partition."""
    if sample is None or not sample.part:
        return np.concatenate(indices_of(sample, n_rows))
    cuts = [j * n_rows // PARTITIONS for j in range(PARTITIONS + 1)]
    shares = [b * sample.part // n_rows - a * sample.part // n_rows for a, b in itertools.pairwise(cuts)]
    each = zip(indices_of(sample, n_rows), shares, strict=True)
    return np.concatenate([rows[:share] for rows, share in each])


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["tanh", ("gelu", "relu")])
def test_results_are_those_of_the_rows_alone(activation, loss, weighted, name):
    rng = np.random.default_rng(0)
    network = Network((6, 5, 4, 3), activation, loss)
    X = rng.standard_normal((N_ROWS, 6))
    y = rng.integers(0, 3, N_ROWS) if network.takes_labels else rng.uniform(0, 1, (N_ROWS, 3))
    weights = rng.integers(1, 4, N_ROWS) * 0.7 if weighted else None
    theta, start, d = rng.standard_normal((3, network.n_params))
    sample, n_part = SAMPLES[name]

    def alone(rows):
        w = None if weights is None else weights[rows]
        return ArrayObjective(network, X[rows], y[rows], dtype=np.float64, weights=w, l2=1e-2)

    f = ArrayObjective(network, X, y, dtype=np.float64, n_partitions=PARTITIONS, weights=weights, l2=1e-2)
    found = f.minibatch(theta, sample, factor_seed=(1,), trial=Trial(start, d))
    batch, part = alone(np.concatenate(indices_of(sample, N_ROWS))), alone(rows := first_rows(sample, N_ROWS))
    assert len(rows) == n_part
    value, gradient = batch.value_and_gradient(theta)
    np.testing.assert_allclose(found.value, value, rtol=1e-12)
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.before, part.value(start), rtol=1e-12)
    np.testing.assert_allclose(found.after, part.value(theta), rtol=1e-12)
    np.testing.assert_allclose(found.curvature, d @ (part.linearize(theta).gauss_newton() @ d), rtol=1e-10)
    with part.vectors.using(theta) as at:
        (factors,) = part.evaluate(KroneckerFactors(at))
    assert found.factors.keys() == factors.keys()
    for key in factors:
        # The signs of random deltas depend on the partition.
        if key[0] in "Aa":
            np.testing.assert_allclose(found.factors[key], factors[key], rtol=1e-10, atol=1e-14)
    assert f.counters.rounds == 1


@pytest.mark.bits
@pytest.mark.parametrize("kind", ["float32", "weights", "gelu", "bytes", "autoencoder"])
def test_factors_have_the_bits_of_the_evaluation_of_factors_alone(kind):
    """Over several blocks of rows, with a trial; the rows are all of a partition, so the deltas are the same too."""
    rng = np.random.default_rng(0)
    is_autoencoder = kind == "autoencoder"
    network = Network((6, 5, 6), "tanh", "squared_error") if is_autoencoder else Network((6, 5, 4, 3), "tanh")
    network = Network((6, 5, 4, 3), ("gelu", "relu")) if kind == "gelu" else network
    X = rng.integers(0, 256, (1501, 6), dtype=np.uint8) if kind == "bytes" else rng.standard_normal((1501, 6))
    weights = rng.integers(0, 4, 1501) * 0.7 if kind == "weights" else None
    y = None if is_autoencoder else rng.integers(0, 3, 1501)
    f = ArrayObjective(network, X, y, n_partitions=2, weights=weights, scale=1 / 255 if kind == "bytes" else 1.0)
    theta = network.initialize(0)
    found = f.minibatch(theta, None, factor_seed=(1, 2), trial=Trial(2 * theta, -theta)).factors
    with f.vectors.using(theta) as at:
        (factors,) = f.evaluate(KroneckerFactors(at, None, (1, 2)))
    for name, values in factors.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_part_of_several_blocks(weighted):
    rng = np.random.default_rng(0)
    network, sample = Network((6, 5, 4, 3)), RowSample(1400, seed=1, draw=2, part=900)
    X, y = rng.standard_normal((1501, 6)), rng.integers(0, 3, 1501)
    weights = rng.integers(0, 4, 1501) * 0.7 if weighted else None
    theta, start, d = rng.standard_normal((3, network.n_params))
    f = ArrayObjective(network, X, y, dtype=np.float64, n_partitions=2, weights=weights)
    found = f.minibatch(theta, sample, factor_seed=(1,), trial=Trial(start, d))
    cuts = (0, 750, 1501)
    drawn = [a + sample_indices(sample, a, b, 1501) for a, b in itertools.pairwise(cuts)]
    firsts = [b * 900 // 1501 - a * 900 // 1501 for a, b in itertools.pairwise(cuts)]

    def alone(rows):
        return ArrayObjective(
            network, X[rows], y[rows], dtype=np.float64, weights=None if weights is None else weights[rows]
        )

    batch = alone(np.concatenate(drawn))
    part = alone(np.concatenate([rows[:n] for rows, n in zip(drawn, firsts, strict=True)]))
    np.testing.assert_allclose(found.gradient, batch.value_and_gradient(theta)[1], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.before, part.value(start), rtol=1e-12)
    np.testing.assert_allclose(found.curvature, d @ (part.linearize(theta).gauss_newton() @ d), rtol=1e-10)
    with part.vectors.using(theta) as at:
        (factors,) = part.evaluate(KroneckerFactors(at))
    for name in ("A1", "a1", "A2", "a2", "A3", "a3"):
        np.testing.assert_allclose(found.factors[name], factors[name], rtol=1e-10, atol=1e-14)


def test_results_stay_when_arrays_are_used_again():
    """Also over samples of fewer rows than partitions, after results that are not finite."""
    rng = np.random.default_rng(0)
    network = Network((6, 5, 4, 3))
    f = ArrayObjective(network, rng.standard_normal((N_ROWS, 6)), rng.integers(0, 3, N_ROWS), n_partitions=16)
    theta, few = network.initialize(0), RowSample(3, part=1)

    def results(at, sample):
        step = f.minibatch(at, sample, factor_seed=(1,))
        return [step.gradient, *step.factors.values()]

    fresh = [results(theta, sample) for sample in (None, few)]
    copies = [[array.copy() for array in arrays] for arrays in fresh]
    for _ in range(5):
        results(np.full_like(theta, np.nan), None)
        results(-theta, few)
    again = [results(theta, sample) for sample in (None, few)]
    for kept, copied, repeated in zip(fresh, copies, again, strict=True):
        for a, b, c in zip(kept, copied, repeated, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(c, b)


def test_the_rows_of_a_first_part_are_a_sample_and_stay_the_sample():
    for part in (1, 5, 40):
        whole, parted = RowSample(40, seed=1, draw=3, index=2), RowSample(40, seed=1, draw=3, index=2, part=part)
        expected, found = indices_of(whole, N_ROWS), indices_of(parted, N_ROWS)
        assert len(first_rows(parted, N_ROWS)) == part
        for some, others in zip(expected, found, strict=True):
            np.testing.assert_array_equal(np.sort(others), some)


def test_a_first_part_without_any_weight_is_refused():
    rng, weights = np.random.default_rng(0), np.zeros(N_ROWS)
    sample = RowSample(200, part=2)
    weights[np.setdiff1d(np.arange(N_ROWS), first_rows(sample, N_ROWS))] = 1
    network = Network((6, 5, 3))
    X, y = rng.standard_normal((N_ROWS, 6)), rng.integers(0, 3, N_ROWS)
    f = ArrayObjective(network, X, y, n_partitions=PARTITIONS, weights=weights)
    with pytest.raises(DataError, match="first part of a minibatch have weight 0"):
        f.minibatch(network.initialize(0), sample, factor_seed=(1,))
