"""How measures are written, and which a loss has."""

import pytest

from hfnumba.metrics import ERROR, R2, RMSE, Scale, described, metrics_of
from hfnumba.network import LOSSES


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        (ERROR, 0.0123, "1.23 %"),
        (ERROR, None, "–"),
        (RMSE, 0.00123456, "0.001235"),
        (RMSE, 46310.4, "46310"),
        (RMSE, 2.5e12, "2.5e+12"),
        (R2, 0.97512, "0.9751"),
        (R2, -12.0, "-12.0000"),
    ],
)
def test_texts(metric, value, text):
    assert metric.text(value) == text


def test_every_loss_has_measures():
    assert {loss: metrics_of(loss)[0] for loss in LOSSES} == {
        "softmax_cross_entropy": ERROR,
        "sigmoid_cross_entropy": ERROR,
        "squared_error": RMSE,
    }


def test_lines_without_test_rows_have_no_measures_of_them():
    line = {"error": 0.25, "test_error": None}
    assert described(line) == [(ERROR, "25.00 %")]
    assert described(line, "test_") == described(line, "validation_") == []
    assert described({"error": 4.0, "rmse": 2.0, "r2": None}) == [(RMSE, "2"), (R2, "–")]


def test_a_single_target_has_its_own_unit_and_several_that_of_the_outputs():
    assert Scale((10.0,)).rmse(4.0) == 20.0
    assert Scale((10.0,)).r2(4.0, (800.0,)) == 0.5
    assert Scale((10.0, 2.0)).rmse(4.0) == 2.0
    assert Scale((10.0, 2.0)).r2(4.0, (800.0, 32.0)) == 0.5
    assert Scale((1.0,)).r2(0.0, (0.0,)) is None
