import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import njit
from scipy.special import ndtr

from hfnumba import activations
from hfnumba.kernels import elementary
from hfnumba.kernels.losses import row_maximum

ORACLES = {
    "exp": np.exp,
    "expm1_nonpositive": np.expm1,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
}
# Functions of two results.
PAIRS = {
    "sigmoids": (ORACLES["sigmoid"], lambda x: ORACLES["sigmoid"](-x)),
    "normal": (ndtr, lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi)),
}
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 88.72, 88.73, -87.4, -103.9, -104.1], np.float32)


def compiled(name):
    function = getattr(elementary, name)

    @njit(error_model="numpy")
    def over(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    return over


def check(name, run, x):
    """The stated bound where the result is a normal number; exact classes (0, inf, NaN, tiny) elsewhere."""
    if name == "expm1_nonpositive":
        x = -np.abs(x)
    out = np.empty_like(x)
    run(x, out)
    with np.errstate(all="ignore"):
        exact = ORACLES[name](x.astype(np.float64))
        rounded = exact.astype(np.float32)
    normal = np.isfinite(rounded) & (np.abs(exact) >= 2.0**-126)
    error = np.abs(out[normal] - exact[normal]) / np.abs(exact[normal]) * 2.0**24
    assert error.max(initial=0) <= elementary.ERROR_BOUNDS[name]
    nan = np.isnan(x)
    np.testing.assert_array_equal(np.isnan(out), nan)
    np.testing.assert_array_equal(np.isinf(out), np.isinf(rounded))
    tiny = ~normal & np.isfinite(rounded)
    assert np.abs(out[tiny] - exact[tiny]).max(initial=0) < 2.0**-126
    return error.max(initial=0)


@pytest.mark.parametrize("name", ORACLES)
def test_float32_within_bound_on_a_sample_of_all_bit_patterns(name):
    run = compiled(name)
    bits = np.random.default_rng(0).integers(0, 2**32, 2**18, dtype=np.uint32).view(np.float32)
    near = np.linspace(-110, 110, 2**17, dtype=np.float32)
    small = np.geomspace(1e-38, 1, 2**16, dtype=np.float32)
    check(name, run, np.concatenate([bits, near, small, -small, SPECIAL]))


LIBM = {
    "exp": math.exp,
    "expm1_nonpositive": math.expm1,
    "tanh": math.tanh,
    "sigmoid": njit(lambda x: 1 / (1 + math.exp(-x))),
    "softplus": njit(lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x)))),
}


BLOCK = 2**16
# From here on a number rounds to float32's infinity.
OVERFLOW = 2.0**128 - 2.0**103


def scanner(name):
    """Compiled: how many results of a range of bit patterns, in whole blocks, are not as :func:`check` wants them.

    libm takes most of the time, and most patterns are too small or too large to need it. On each side of zero these
    functions are monotone, and so are they less their argument. So in a block at whose both ends libm returns the same
    number, or its argument, it would do so within.
    """
    function, libm, bound = getattr(elementary, name), LIBM[name], elementary.ERROR_BOUNDS[name] * 2.0**-24
    only_nonpositive = name == "expm1_nonpositive"

    # One thing at a time, without branches, so that all but libm runs in vector lanes.
    @njit(nogil=True, error_model="numpy")
    def scan(first, last):
        wrong, x, out, exact = 0, np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK)
        for start in range(first, last, BLOCK):
            for i in range(BLOCK):
                x[i] = elementary.bits_float(np.int32(start + i))
            if only_nonpositive and x[0] > 0 and x[-1] > 0:
                continue
            for i in range(BLOCK):
                out[i] = function(x[i])
            at_low, at_high = libm(np.float64(x[0])), libm(np.float64(x[-1]))
            if at_low == at_high:
                exact[:] = at_low
            elif at_low == x[0] and at_high == x[-1]:
                exact[:] = x
            else:
                for i in range(BLOCK):
                    exact[i] = libm(np.float64(x[i]))
            for i in range(BLOCK):
                size, error = abs(exact[i]), abs(out[i] - exact[i])
                near = (error <= bound * size) & (size >= 2.0**-126) & (size < OVERFLOW)
                tiny = (error < 2.0**-126) & (size < 2.0**-126)
                infinite = (out[i] == math.copysign(np.inf, exact[i])) & (size >= OVERFLOW)
                nan = (x[i] != x[i]) & (out[i] != out[i])
                wrong += not (near | tiny | infinite | nan | (only_nonpositive & (x[i] > 0)))
        return wrong

    return scan


@pytest.mark.slow
@pytest.mark.parametrize("name", ORACLES)
def test_float32_within_bound_on_every_bit_pattern(name):
    scan = scanner(name)
    scan(0, BLOCK)
    edges = np.linspace(-(2**31), 2**31, 65, dtype=np.int64).tolist()
    with ThreadPoolExecutor() as pool:
        assert sum(pool.map(scan, edges[:-1], edges[1:])) == 0


@pytest.mark.parametrize("name", ORACLES)
def test_float64_is_libm(name):
    x = -np.abs(np.linspace(-30, 30, 1001))
    out = np.empty_like(x)
    compiled(name)(x, out)
    np.testing.assert_allclose(out, ORACLES[name](x), rtol=1e-14)


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_results(name):
    function = getattr(activations, name)

    @njit(error_model="numpy")
    def over(x, first, second):
        for i in range(x.size):
            first[i], second[i] = function(x[i])

    bits = np.random.default_rng(0).integers(0, 2**32, 2**18, dtype=np.uint32).view(np.float32)
    x = np.concatenate([bits, np.linspace(-110, 110, 2**18, dtype=np.float32), SPECIAL])
    for kind in (np.float32, np.float64):
        z = (x if kind == np.float32 else np.linspace(-30, 30, 1001)).astype(kind)
        found = np.empty_like(z), np.empty_like(z)
        over(z, *found)
        for oracle, out in zip(PAIRS[name], found, strict=True):
            with np.errstate(all="ignore"):
                exact = oracle(z.astype(np.float64))
                normal = exact >= 2.0**-126
                relative = np.abs(out[normal] - exact[normal]) / exact[normal]
            bound = elementary.ERROR_BOUNDS[name] * 2.0**-24 if kind == np.float32 else 1e-13
            assert relative.max() <= bound
            np.testing.assert_array_equal(np.isnan(out), np.isnan(z))
            assert (out[~normal & ~np.isnan(z)] <= 2.0**-126).all()


def test_row_maximum_is_numpys_also_with_negative_numbers_and_infinities():
    @njit
    def run(x):
        return row_maximum(x)

    rng = np.random.default_rng(1)
    for n in (1, 2, 15, 16, 17, 1973):
        for x in (rng.standard_normal(n), -np.abs(rng.standard_normal(n)), np.zeros(n), np.full(n, -np.inf)):
            assert run(x.astype(np.float32)) == x.astype(np.float32).max()
            assert run(x) == x.max()
    assert np.isnan(run(np.array([1, np.nan, 2], np.float32)))
