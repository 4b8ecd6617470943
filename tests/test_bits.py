"""What the promises about bits rest on; run under each of OpenBLAS' kernels by ``make test`` and ``make test-bits``."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from hfnumba.engine import ArrayObjective, buffers
from hfnumba.kernels.blas import gemm, limit_blas_threads, uniform_rows
from hfnumba.krylov.kronecker import kfac
from hfnumba.krylov.vectors import dot
from hfnumba.network import Network
from hfnumba.objective import RowSample, Trial
from tests.limits import LIMIT_S

pytestmark = pytest.mark.bits
DTYPES = [np.float32, np.float64]


@njit
def product(transpose_a, transpose_b, a, b, beta, c):
    gemm(transpose_a, transpose_b, a, b, beta, c)


def placed(array, shift):
    """A copy that begins ``shift`` elements behind a cache line."""
    memory = np.empty(array.nbytes + 256, np.uint8)
    start = -memory.ctypes.data % 64 + shift * array.itemsize
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("shape", [(256, 100, 400), (112, 33, 17), (16, 784, 10), (250, 20, 1), (37, 1, 3)])
def test_a_product_does_not_depend_on_the_addresses_of_its_matrices(shape, transposed, dtype):
    """Workers have the same rows and vectors at other addresses."""
    limit_blas_threads()
    rng, (m, k, n) = np.random.default_rng(0), shape
    a = rng.standard_normal((k, m) if transposed[0] else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if transposed[1] else (k, n)).astype(dtype)
    start = rng.standard_normal((m, n)).astype(dtype)
    for beta in (0.0, 1.0):
        found = set()
        for shifts in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (4, 2, 1), (3, 8, 5), (15, 7, 9)]:
            c = placed(start, shifts[2])
            product(*transposed, placed(a, shifts[0]), placed(b, shifts[1]), beta, c)
            found.add(c.tobytes())
        assert len(found) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_rows_of_a_block_of_predict_have_equal_products(dtype):
    limit_blas_threads()
    rng, n_rows = np.random.default_rng(0), uniform_rows()
    for k, n in itertools.product((1, 3, 20, 33, 100, 385, 784), (1, 2, 7, 8, 10, 16, 17, 31, 100, 401, 640)):
        a = np.repeat(rng.standard_normal((1, k)).astype(dtype), n_rows, axis=0)
        c = np.empty((n_rows, n), dtype)
        product(False, False, a, rng.standard_normal((k, n)).astype(dtype), 0.0, c)
        assert (c == c[0]).all(), (k, n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_inner_product_does_not_depend_on_addresses(dtype):
    rng = np.random.default_rng(0)
    for n in (1, 7, 33, 1000, 20_001):
        u, v = rng.standard_normal((2, n)).astype(dtype)
        assert len({dot(placed(u, i), placed(v, j)) for i, j in [(0, 0), (1, 0), (0, 1), (1, 1), (3, 2), (8, 5)]}) == 1


SIZES = [100, 64, 33, 10]
RNG = np.random.default_rng(1)
X, Y = RNG.standard_normal((3001, 100)).astype(np.float32), RNG.integers(0, 10, 3001)


@pytest.fixture(autouse=True)
def _all_arrays_are_used_again(monkeypatch):
    """Also those of small networks."""
    monkeypatch.setattr(buffers, "_FEWEST", 1)


def everything(n_threads, shift, dtype):
    """Each evaluation, of layers as wide as the tiles of BLAS."""
    network = Network(SIZES)
    theta = placed(network.initialize(0).astype(dtype), shift)
    with ArrayObjective(network, placed(X, shift), Y, l2=1e-3, n_threads=n_threads, dtype=dtype) as f:
        point = f.linearize(theta, RowSample(1111, seed=1, draw=2), preconditioner="fisher")
        v = placed(point.gradient, shift)
        products = point.hessian().matvec(v), point.gauss_newton().matvec(v)
        along = f.values_along(theta, [-v, products[0]], [1.0, 0.25])
        preconditioned = point.preconditioner("fisher", 0.1).matvec(v)
        sample = RowSample(300, seed=1, draw=3, part=200)
        step = f.minibatch(theta, sample, factor_seed=(1,), trial=Trial(-theta, v))
        judged = [step.before, step.after, step.curvature]
        factored = kfac(0.1, **step.factors).matvec(v)
        found = [point.gradient, preconditioned, *products, along.ravel(), step.gradient, *step.factors.values()]
        return np.concatenate([[point.value, point.error], *found, judged, factored])


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_evaluation_depends_on_threads_or_addresses(dtype):
    reference = everything(1, 0, dtype)
    for n_threads, shift in ((1, 1), (2, 0), (3, 5)):
        np.testing.assert_array_equal(everything(n_threads, shift, dtype), reference)


MAKE = """
import numpy as np
from threadpoolctl import threadpool_info
from hfnumba.engine.objective import RoundObjective
from hfnumba.engine.protocol import Problem
from hfnumba.engine.rows import ArraySource
from hfnumba.network import Network
source = ArraySource.of(np.zeros((2, 2)), np.zeros(2, int), None, 1.0, 0.0)
RoundObjective(Problem("p", Network([2, 2]), source, np.dtype(np.float32)), None, 0.0)
print({library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})
"""


def test_blas_has_one_thread_where_the_optimiser_runs():
    """The penalty of many weights, and the decomposition of Lanczos' matrix, depend on the number of threads."""
    env = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    words = [sys.executable, "-c", MAKE]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert done.stdout == "{1}\n"
