import numpy as np
import pytest
from numba import njit
from threadpoolctl import ThreadpoolController

from hfnumba.kernels.blas import gemm, limit_blas_threads


@njit
def run(ta, tb, a, b, beta, c):
    gemm(ta, tb, a, b, beta, c)


@pytest.mark.bits
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
def test_compiled_gemm_is_numpys(dtype, ta, tb):
    rng = np.random.default_rng(0)
    for m, n, k in ((1, 1, 1), (5, 3, 7), (33, 17, 65)):
        a = rng.standard_normal((k, m) if ta else (m, k)).astype(dtype)
        b = rng.standard_normal((n, k) if tb else (k, n)).astype(dtype)
        c = np.full((m, n), np.nan, dtype)
        expected = c.copy()
        run(ta, tb, a, b, 0.0, c)
        gemm(ta, tb, a, b, 0.0, expected)
        np.testing.assert_allclose(c, expected, rtol=1e-4 if dtype == np.float32 else 1e-12)
        run(ta, tb, a, b, 1.0, c)
        np.testing.assert_allclose(c, 2 * expected, rtol=1e-4 if dtype == np.float32 else 1e-12)


def test_blas_is_limited_to_one_thread():
    limit_blas_threads()
    blas = [lib for lib in ThreadpoolController().info() if lib["user_api"] == "blas"]
    assert blas
    assert all(lib["num_threads"] == 1 for lib in blas)
