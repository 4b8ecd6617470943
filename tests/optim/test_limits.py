from __future__ import annotations

import numpy as np
import pytest

from hfnumba.errors import NumericalError
from hfnumba.optim.limits import StopReason, flat_stop, limit_reached, require_finite
from tests.optim.toys import Network


@pytest.mark.parametrize(
    ("iteration", "error", "max_iterations", "target_error", "reason"),
    [
        (3, 0.1, None, None, None),
        (3, 0.1, 4, 0.05, None),
        (4, 0.1, 4, None, StopReason.ITERATIONS),
        (5, None, 4, 0.5, StopReason.ITERATIONS),
        (0, 0.1, None, 0.1, StopReason.TARGET_ERROR),
        (4, 0.1, 4, 0.1, StopReason.TARGET_ERROR),
        (3, None, None, 0.5, None),
    ],
)
def test_limits(iteration, error, max_iterations, target_error, reason):
    assert limit_reached(iteration, error, max_iterations, target_error) is reason


def test_a_flat_point_is_the_end_unless_the_exact_hessian_has_not_been_probed():
    assert flat_stop(exact=False, probed=False) is flat_stop(exact=False, probed=True) is StopReason.FLAT
    assert flat_stop(exact=True, probed=False) is None
    assert flat_stop(exact=True, probed=True) is StopReason.MINIMUM


def test_a_start_that_is_not_finite_is_refused():
    toy = Network()
    lin = toy.linearize(toy.start())
    assert require_finite(lin) is lin
    lin.gradient[0] = np.nan
    with pytest.raises(NumericalError, match="smaller weights"):
        require_finite(lin)
