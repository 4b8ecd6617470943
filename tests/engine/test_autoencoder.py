"""Autoencoders: the targets are the features, with the bits of explicit targets and without memory for them."""

import numpy as np
import pytest
from distributed import Client, LocalCluster

from hfnumba.engine import ArrayObjective, DaskObjective, SplitObjective
from hfnumba.engine.memory import expanded_nbytes
from hfnumba.errors import DataError, UsageError
from hfnumba.ingest import write_frames, write_store
from hfnumba.network import Network
from hfnumba.objective import RowSample
from tests.oracles.jax_network import Oracle

SAMPLE = RowSample(150, seed=1)
SCALE = 1 / 255


def pixels(n_rows=600):
    return np.random.default_rng(0).integers(0, 256, (n_rows, 20)).astype(np.uint8)


def network_of(loss="squared_error", n=20):
    return Network([n, 9, 4, 9, n], ["tanh", "linear", "gelu", "silu"][:3], loss)


def everything(f, network):
    theta = network.initialize(0, dtype=f.dtype)
    v, found = np.arange(network.n_params, dtype=f.dtype) / network.n_params, []
    for preconditioner, rows in (("kfac", SAMPLE), ("fisher", None)):
        point = f.linearize(theta, rows, preconditioner=preconditioner)
        found += [point.value, point.error, point.gradient, *point.point.sums.values()]
        found += [point.hessian().matvec(v), point.gauss_newton().matvec(v), f.values_along(theta, [v, -v], [1.0, 0.5])]
    return found


def assert_same_bits(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("loss", ["squared_error", "sigmoid_cross_entropy"])
def test_the_bits_are_those_of_explicit_targets(loss, kind, weighted):
    network, X = network_of(loss), pixels().astype(kind)
    targets = X.astype(np.float32) * np.float32(SCALE)
    weights = np.random.default_rng(1).integers(0, 3, len(X)) * 0.7 if weighted else None
    with (
        ArrayObjective(network, X, None, scale=SCALE, weights=weights) as f,
        ArrayObjective(network, X, targets, scale=SCALE, weights=weights) as g,
    ):
        assert_same_bits(everything(f, network), everything(g, network))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["squared_error", "sigmoid_cross_entropy"])
def test_against_jax(loss):
    network, X = network_of(loss, 6), np.random.default_rng(0).uniform(0, 1, (13, 6))
    theta = network.initialize(0, dtype=np.float64)
    oracle = Oracle(network, theta, X, X)
    point = ArrayObjective(network, X, None, dtype=np.float64).linearize(theta)
    np.testing.assert_allclose(point.value, oracle.value, rtol=1e-12)
    np.testing.assert_allclose(point.gradient, oracle.gradient, atol=1e-12)
    np.testing.assert_allclose(point.hessian() @ np.eye(network.n_params), oracle.hessian, atol=1e-12)
    np.testing.assert_allclose(point.gauss_newton() @ np.eye(network.n_params), oracle.gauss_newton, atol=1e-12)


@pytest.fixture(params=["classification", "regression", "frames"])
def split(request, tmp_path):
    rng = np.random.default_rng(0)
    if request.param == "frames":
        utterances = [(rng.standard_normal((n, 4), dtype=np.float32), rng.integers(0, 4, n)) for n in (90, 200, 310)]
        store = write_frames(tmp_path / "s.zarr", {"train": utterances}, context=2, n_partitions=4)
    else:
        y = rng.integers(0, 4, 600) if request.param == "classification" else rng.standard_normal((600, 2))
        store = write_store(tmp_path / "s.zarr", {"train": (pixels(), y)}, n_partitions=4)
    return store["train"].autoencoder()


def test_a_split_reads_no_labels_stores_no_targets_and_has_the_same_bits_in_any_memory(split, monkeypatch):
    network = network_of(n=split.n_outputs)
    read = []
    decoded = type(split)._decoded
    monkeypatch.setattr(
        type(split), "_decoded", lambda self, *given, **named: read.append(decoded(self, *given, **named)) or read[-1]
    )
    with SplitObjective(network, split, n_threads=2) as f:
        expected = everything(f, network)
    assert read
    assert all("y" not in arrays for arrays in read)
    for j in range(split.n_partitions):
        X, targets = split.load(j)
        assert targets is X
        assert expanded_nbytes(network, split, np.dtype(np.float32), j) == X.nbytes
        assert split.compact_nbytes(j) == sum(array.nbytes for array in split.load_compact(j).values())
    with SplitObjective(network, split, n_threads=1, cache_rows=False) as f:
        assert_same_bits(everything(f, network), expected)


@pytest.mark.slow
def test_the_same_bits_on_worker_processes(tmp_path):
    store = write_store(tmp_path / "s.zarr", {"train": (pixels(), np.arange(600) % 4)}, n_partitions=4)
    network, split = network_of(), store["train"].autoencoder()
    with SplitObjective(network, split) as f:
        expected = everything(f, network)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        DaskObjective(network, split, client) as f,
    ):
        assert_same_bits(everything(f, network), expected)


@pytest.mark.parametrize(
    ("n_outputs", "loss", "scale", "error", "message"),
    [
        (
            20,
            "softmax_cross_entropy",
            SCALE,
            UsageError,
            "an output for each of its features, and the loss squared_error",
        ),
        (19, "squared_error", SCALE, UsageError, "got 20 features, 19 outputs and squared_error"),
        (20, "sigmoid_cross_entropy", 1.0, DataError, "lie in 0 … 255; scale them, or use squared_error"),
    ],
)
def test_what_is_no_autoencoder_is_refused(n_outputs, loss, scale, error, message):
    X = pixels()
    X[0, :2] = 0, 255
    with pytest.raises(error, match=message):
        ArrayObjective(Network([20, 3, n_outputs], loss=loss), X, None, scale=scale)


def test_primal_passes_with_four_numbers_a_unit_are_counted_and_have_the_bits_of_computing_them_again(monkeypatch):
    from hfnumba.engine.host import PartitionHost

    network = network_of()
    with ArrayObjective(network, pixels(), None, scale=SCALE) as f:
        expected = everything(f, network)
    assert network.primal_width == 2 * (9 + 4 + 20) + 4 * 9
    monkeypatch.setattr(PartitionHost, "new_primal", lambda self, j, sample: np.empty(0, self.dtype))
    with ArrayObjective(network, pixels(), None, scale=SCALE) as f:
        assert_same_bits(everything(f, network), expected)
