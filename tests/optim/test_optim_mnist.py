"""Iterations and rounds on 15,000 rows of MNIST: bounds that leave room for another machine's rounding."""

from __future__ import annotations

import gzip
from itertools import pairwise

import numpy as np
import pytest

from hfnumba.engine import ArrayObjective
from hfnumba.network import Network
from hfnumba.optim.methods import optimizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
NETWORK = Network([784, 400, 150, 10])


@pytest.fixture(scope="module")
def objective(real_data):
    def read(name, offset):
        return np.frombuffer(gzip.decompress((real_data / "mnist" / name).read_bytes()), np.uint8, offset=offset)

    X = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 784)[:15_000]
    y = read("train-labels-idx1-ubyte.gz", 8)[:15_000].astype(np.int32)
    with ArrayObjective(NETWORK, X, y, scale=1 / 255) as objective:
        yield objective


@pytest.mark.parametrize(
    ("method", "settings", "iterations", "rounds"),
    [
        ("hf-bicgstab", {}, 18, 300),
        ("hf-bicgstab", {"paper": True}, 25, 580),
        ("hf-minres", {}, 30, 300),
        ("hf-steihaug", {}, 23, 220),
        ("hf-lanczos", {}, 17, 270),
        ("hf-lanczos", {"krylov_iterations": 5}, 22, 200),
        ("lbfgs", {}, 60, 121),
    ],
    ids=str,
)
def test_one_per_cent_of_training_error(objective, method, settings, iterations, rounds):
    if method != "lbfgs":
        settings = settings | {"curvature_rows": 2048}
    optimiser = optimizer(method, target_error=0.01, max_iterations=iterations, **settings)
    its = list(optimiser.iterate(objective, NETWORK.initialize(0)))
    assert its[-1].error <= 0.01
    assert its[-1].rounds <= rounds
    for before, it in pairwise(its):
        # Search and new point; of a Hessian-free method also products and ranking, and the ways out of trouble.
        extra = it.rounds - before.rounds - it.n_matvec
        assert extra in ((1, 2) if method == "lbfgs" else (3, 4, 5))


@pytest.mark.parametrize(("method", "iterations"), [("hf-bicgstab", 12), ("hf-steihaug", 6)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_negative_curvature_leads_off_the_plateau_around_zero(objective, method, iterations, seed):
    start = NETWORK.weights_only(np.random.default_rng(seed).normal(0, 1e-3, NETWORK.n_params).astype(np.float32))
    optimiser = optimizer(method, curvature_rows=2048, seed=seed, max_iterations=iterations)
    losses = [it.loss for it in optimiser.iterate(objective, start)]
    assert losses[0] > 2.29
    assert losses[-1] < 2.2
