"""What every objective must satisfy, in this process and on a cluster."""

import numpy as np

from hfnumba.objective import RowSample


def relative(a, b):
    scale = np.linalg.norm(b)
    return np.linalg.norm(np.asarray(a) - np.asarray(b)) / (scale if scale else 1.0)


def check_objective(objective, theta, tolerance, curvature_rows=None):
    """Hessian symmetric, Gauss–Newton positive, both linear; one value from every door; counters as documented."""
    rng = np.random.default_rng(1)
    u, v = (rng.standard_normal(objective.n_params).astype(theta.dtype) for _ in range(2))
    start = objective.counters.rounds
    point = objective.linearize(theta, curvature_rows)
    value, gradient = objective.value_and_gradient(theta)
    assert objective.counters.rounds == start + 2
    np.testing.assert_array_equal(gradient, point.gradient)
    assert value == point.value == objective.value(theta)
    assert (point.value, point.error) == objective.value_and_error(theta)

    along = objective.values_along(theta, [u, v], [0.0, 0.5])
    assert along.shape == (2, 2)
    assert relative(along[:, 0], [value, value]) <= tolerance
    half = theta + theta.dtype.type(0.5) * v
    assert relative(along[1, 1], objective.value(half)) <= tolerance

    for operator in (point.hessian(), point.gauss_newton()):
        before = objective.counters.rounds
        a, b = operator.matvec(u), operator.matvec(v)
        assert objective.counters.rounds == before + 2
        size = np.linalg.norm(u) * np.linalg.norm(b)
        assert abs(float(u @ b) - float(v @ a)) <= tolerance * size
        assert relative(operator.matvec(2 * u - v), 2 * a - b) <= 10 * tolerance
        np.testing.assert_array_equal(operator.matvec(u), a)
    gv = point.gauss_newton().matvec(v)
    assert float(v @ gv) >= -tolerance * np.linalg.norm(v) * np.linalg.norm(gv)


def check_sample(objective, theta):
    """A sample's gradient is that of its rows alone, and other draws are other samples."""
    n = objective.n_rows // 2
    one, again, other = (objective.value_and_gradient(theta, RowSample(n, seed=0, draw=draw))[0] for draw in (0, 0, 1))
    assert one == again
    assert one != other
    first, second = (objective.value_and_gradient(theta, RowSample(n, index=i)) for i in (0, 1))
    whole_value, whole_gradient = objective.value_and_gradient(theta)
    if 2 * n == objective.n_rows:
        # Two samples of half the rows each, of one draw, are all the rows.
        assert abs((first[0] + second[0]) / 2 - whole_value) <= 1e-6 * abs(whole_value)
        assert relative((first[1] + second[1]) / 2, whole_gradient) <= 1e-4
