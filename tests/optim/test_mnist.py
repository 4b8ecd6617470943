"""Iterations and rounds on rows of MNIST: bounds that leave room for another machine's rounding."""

from __future__ import annotations

import gzip
from itertools import pairwise

import numpy as np
import pytest

from hfnumba.engine import ArrayObjective
from hfnumba.network import Network
from hfnumba.optim.methods import optimizer

pytestmark = pytest.mark.slow
NETWORK = Network([784, 400, 150, 10])
# The rows of the tables in docs/reproduction.md, and a third of them for what needs no more.
MANY, FEW = 15_000, 5_000


@pytest.fixture(scope="module")
def objectives(real_data):
    """F on the first rows, by their number."""

    def read(name, offset):
        return np.frombuffer(gzip.decompress((real_data / "mnist" / name).read_bytes()), np.uint8, offset=offset)

    X = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 784)
    y = read("train-labels-idx1-ubyte.gz", 8).astype(np.int32)
    with (
        ArrayObjective(NETWORK, X[:MANY], y[:MANY], scale=1 / 255) as many,
        ArrayObjective(NETWORK, X[:FEW], y[:FEW], scale=1 / 255) as few,
    ):
        yield {MANY: many, FEW: few}


@pytest.mark.parametrize(
    ("n_rows", "method", "settings", "iterations", "rounds"),
    [
        (MANY, "hf-bicgstab", {}, 18, 300),
        (MANY, "hf-bicgstab", {"paper": True}, 25, 580),
        (MANY, "hf-lanczos", {}, 15, 270),
        (FEW, "hf-lanczos", {"krylov_iterations": 5}, 13, 117),
        (FEW, "hf-minres", {}, 15, 150),
        (FEW, "hf-steihaug", {}, 16, 150),
        (FEW, "lbfgs", {}, 36, 73),
    ],
    ids=str,
)
def test_one_per_cent_of_training_error(objectives, n_rows, method, settings, iterations, rounds):
    if method != "lbfgs":
        settings = settings | {"curvature_rows": 2048}
    optimiser = optimizer(method, target_error=0.01, max_iterations=iterations, **settings)
    its = list(optimiser.iterate(objectives[n_rows], NETWORK.initialize(0)))
    assert its[-1].error <= 0.01
    assert its[-1].rounds <= rounds
    for before, it in pairwise(its):
        # Search and new point; of a Hessian-free method also products and ranking, and the ways out of trouble.
        extra = it.rounds - before.rounds - it.n_matvec
        assert extra in ((1, 2) if method == "lbfgs" else (3, 4, 5))


@pytest.mark.parametrize(("method", "iterations"), [("hf-bicgstab", 8), ("hf-steihaug", 4)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_negative_curvature_leads_off_the_plateau_around_zero(objectives, method, iterations, seed):
    start = NETWORK.weights_only(np.random.default_rng(seed).normal(0, 1e-3, NETWORK.n_params).astype(np.float32))
    optimiser = optimizer(method, curvature_rows=2048, seed=seed, max_iterations=iterations)
    losses = [it.loss for it in optimiser.iterate(objectives[FEW], start)]
    assert losses[0] > 2.29
    assert losses[-1] < 2.2
