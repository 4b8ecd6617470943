"""The objectives the other tests stand on, against central differences."""

from __future__ import annotations

import numpy as np
import pytest

from tests.optim.toys import Network, Quadratic, Rosenbrock, Saddle

CASES = [
    (Quadratic([[2, 1], [1, -3]], [1, 2], 5.0), [0.3, -0.7]),
    (Saddle(), [0.3, -0.7]),
    (Rosenbrock(), [0.3, -0.7]),
    (Network(), Network().start()),
]


@pytest.mark.parametrize(("toy", "theta"), CASES, ids=lambda value: type(value).__name__)
def test_gradient_and_product_agree_with_central_differences(toy, theta):
    theta, rows = np.asarray(theta, float), np.arange(toy.n_rows)
    v = np.random.default_rng(0).standard_normal(toy.n_params)
    h = 1e-5
    slope = (toy.f(theta + h * v, rows) - toy.f(theta - h * v, rows)) / (2 * h)
    assert slope == pytest.approx(toy.g(theta, rows) @ v, rel=1e-6)
    product = (toy.g(theta + h * v, rows) - toy.g(theta - h * v, rows)) / (2 * h)
    np.testing.assert_allclose(toy.hvp(theta, v, rows), product, rtol=1e-5, atol=1e-8)
    if not isinstance(toy, Quadratic):
        assert v @ toy.gnvp(theta, v, rows) >= 0
