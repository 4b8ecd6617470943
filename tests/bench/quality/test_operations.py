"""Counted operations: by hand, and as the matrix products that the kernels make."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from hfnumba.bench.quality.meter import CountedObjective, Meter
from hfnumba.bench.quality.operations import gradient_operations, operations_per_row, primal_operations
from hfnumba.engine import evaluations
from hfnumba.engine.protocol import Evaluation
from hfnumba.krylov import lapack
from hfnumba.krylov.kronecker import kfac
from hfnumba.network import Network
from hfnumba.objective import RowSample, Trial
from tests.limits import LIMIT_S

SIZES = (5, 4, 3, 2)
N_ROWS = 7

# Layers have 20, 12 and 6 weights. By hand, a row costs 2 for each multiplication and addition:
FORWARD = 2 * (20 + 12 + 6)
DELTAS = 2 * (12 + 6)
GRADIENT = 2 * (20 + 12 + 6)
FACTORS = (5 * 6 + 4 * 5) + (4 * 5 + 3 * 4) + (3 * 4 + 2 * 3)
TANGENTS = 2 * 20 + 4 * (12 + 6)
BY_HAND = {
    "Loss": FORWARD,
    "Gradient": FORWARD + DELTAS + GRADIENT,
    "exact": TANGENTS + GRADIENT + 3 * DELTAS,
    "gauss_newton": TANGENTS + GRADIENT + DELTAS,
    "FisherDiagonal": GRADIENT,
    # A forward product with v, and the gradient.
    "EmpiricalFisherProduct": FORWARD + GRADIENT,
    "KroneckerFactors": FORWARD + DELTAS + FACTORS,
    # Two directions and three steps along each.
    "LineLosses": 2 * 20 * 3 + 2 * (12 + 6) * 6,
    "WeightTotals": 0,
}


def one_of_each():
    return {
        "Loss": evaluations.Loss("t"),
        "Gradient": evaluations.Gradient("t"),
        "exact": evaluations.Product("t", "v", True),
        "gauss_newton": evaluations.Product("t", "v", False),
        "FisherDiagonal": evaluations.FisherDiagonal("t"),
        "EmpiricalFisherProduct": evaluations.EmpiricalFisherProduct("t", "v"),
        "KroneckerFactors": evaluations.KroneckerFactors("t"),
        "LineLosses": evaluations.LineLosses("t", "lines", (0.0, 0.5, 1.0)),
        "WeightTotals": evaluations.WeightTotals(),
    }


def vectors():
    n = Network(SIZES).n_params
    return {"t": np.zeros(n), "v": np.zeros(n), "lines": np.zeros(2 * n)}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_count_is_that_of_a_hand_count(name):
    assert operations_per_row(one_of_each()[name], SIZES, vectors()) == BY_HAND[name]


def test_the_primal_pass_and_the_gradient_of_peers():
    assert primal_operations(SIZES) == FORWARD + DELTAS
    assert gradient_operations(SIZES) == BY_HAND["Gradient"]


def test_every_evaluation_has_a_count():
    classes = {c for c in vars(evaluations).values() if isinstance(c, type) and Evaluation in c.__bases__}
    # No method asks for the squared deviations of each output.
    assert classes - {evaluations.SquaredDeviations} == {type(one) for one in one_of_each().values()}


def test_an_evaluation_without_a_count_is_refused():
    with pytest.raises(TypeError, match="a count of operations, got int"):
        operations_per_row(3, SIZES, {})


PROGRAM = """
import json, sys
import numpy as np
from hfnumba.kernels import blas, empirical_fisher, fisher_diagonal, kronecker, passes, primal, products
from hfnumba.engine import host
from hfnumba import ArrayObjective, Network
from tests.bench.quality.test_operations import N_ROWS, SIZES, one_of_each, vectors
count = 0
def gemm(transpose_a, transpose_b, a, b, beta, c):
    global count
    count += 2 * c.shape[0] * c.shape[1] * (a.shape[0] if transpose_a else a.shape[1])
    blas_gemm(transpose_a, transpose_b, a, b, beta, c)
def outer(a, beta, c):
    global count
    count += a.shape[0] * a.shape[1] * (a.shape[1] + 1)
    blas_outer(a, beta, c)
blas_gemm, blas_outer = blas.gemm, blas.add_outer_products
for module in (empirical_fisher, fisher_diagonal, kronecker, passes, primal, products):
    for name, function in (("gemm", gemm), ("add_outer_products", outer)):
        if hasattr(module, name):
            setattr(module, name, function)
rng = np.random.default_rng(0)
X, y = rng.standard_normal((N_ROWS, SIZES[0])).astype(np.float32), rng.integers(0, SIZES[-1], N_ROWS)
objective = ArrayObjective(Network(SIZES), X, y, n_threads=1)
live = {name: objective.vectors.acquire(rng.standard_normal(v.size).astype(np.float32))
        for name, v in vectors().items()}
found = {}
for name, evaluation in one_of_each().items():
    fields = {k: live.get(v, v) if isinstance(v, str) else v for k, v in vars(evaluation).items()}
    # The primal pass that products and the diagonal use is stored by now.
    if name == "exact":
        objective.evaluate(type(evaluation)(**fields))
    count = 0
    objective.evaluate(type(evaluation)(**fields))
    found[name] = count
print(json.dumps(found))
"""


def test_counts_are_those_of_the_matrix_products_that_kernels_make():
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: N_ROWS * count for name, count in BY_HAND.items()}


def objective_and_meter():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((N_ROWS, SIZES[0])), rng.integers(0, SIZES[-1], N_ROWS)
    meter = Meter()
    return CountedObjective(Network(SIZES), X, y, meter), meter


def test_rounds_rows_and_operations_are_counted_and_evaluations_for_the_record_are_not():
    objective, meter = objective_and_meter()
    theta = objective.network.initialize(0)
    objective.value_and_gradient(theta)
    assert meter.cost() == (0, 0, 0, 0)  # the clock stands
    meter.start()
    objective.value_and_error(theta)
    assert meter.cost()[1:] == (0, 0, 0)
    objective.value_and_gradient(theta, RowSample(3))
    assert meter.cost()[1:] == (1, 3, 3 * BY_HAND["Gradient"])
    with meter.paused():
        objective.value_and_gradient(theta)
        seconds = meter.cost().seconds
        assert meter.cost().seconds == seconds
    assert meter.cost()[1:] == (1, 3, 3 * BY_HAND["Gradient"])
    assert meter.cost().seconds > seconds


def test_a_primal_pass_counts_once_for_each_theta_and_sample():
    objective, meter = objective_and_meter()
    theta, v = objective.network.initialize(0), np.ones(objective.n_params, np.float32)
    meter.start()
    lin = objective.linearize(theta, 4)
    before = meter.cost().operations
    lin.gauss_newton().matvec(v)
    assert meter.cost().operations - before == 4 * (BY_HAND["gauss_newton"] + primal_operations(SIZES))
    lin.gauss_newton().matvec(2 * v)
    assert meter.cost().operations - before == 4 * (2 * BY_HAND["gauss_newton"] + primal_operations(SIZES))
    whole = objective.linearize(2 * theta)
    before = meter.cost().operations
    whole.hessian().matvec(v)
    assert meter.cost().operations - before == N_ROWS * BY_HAND["exact"]


def test_a_step_with_kronecker_factors_counts_all_that_its_round_evaluates():
    objective, meter = objective_and_meter()
    theta = objective.network.initialize(0)
    meter.start()
    objective.minibatch(theta, RowSample(5, part=3), factor_seed=(1,), trial=Trial(2 * theta, np.ones_like(theta)))
    # The first part goes forward at the start of the trial too, and backward once more.
    operations = 5 * BY_HAND["Gradient"] + 3 * (FORWARD + TANGENTS + DELTAS + FACTORS)
    assert meter.cost()[1:] == (1, 5, operations)
    objective.minibatch(theta, None)
    assert meter.cost()[1:] == (2, 5 + N_ROWS, operations + N_ROWS * BY_HAND["Gradient"])


def test_factorisations_and_triangular_solves_of_the_client_are_counted():
    objective, meter = objective_and_meter()
    theta = objective.network.initialize(0)
    factors = objective.minibatch(theta, None, factor_seed=(1,)).factors
    meter.start()
    inverse = kfac(0.1, **factors)
    orders = [(6, 4), (5, 3), (4, 2)]
    assert meter.cost().operations == sum(m**3 // 3 + k**3 // 3 for m, k in orders)
    # The first product inverts the factors of an order of at most 1.5 times that of the other one of their layer.
    for inverted in ((6, 4, 3, 2), ()):
        before = lapack.OPERATIONS.total
        inverse.matvec(theta)
        products = sum(2 * m * k * (m + k) for m, k in orders)
        assert lapack.OPERATIONS.total - before == products + sum(2 * n**3 // 3 for n in inverted)
    assert meter.cost().rounds == 0
