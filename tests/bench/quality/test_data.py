"""Rows of the problems."""

import numpy as np
import pytest

from hfnumba.bench.quality.data import QUICK_ROWS, Request, borehole, flow_rate, of_recipe
from hfnumba.errors import DataError
from hfnumba.ingest import write_store
from hfnumba.progress import SILENT


def test_the_borehole_function():
    """Against the formula as it is usually written, at the middle of the ranges and at a corner."""
    middle = np.array([[0.1, 25050.0, 89335.0, 1050.0, 89.55, 760.0, 1400.0, 10950.0]])
    corner = np.array([[0.05, 100.0, 63070.0, 990.0, 63.1, 700.0, 1120.0, 9855.0]])
    for rows in (middle, corner):
        rw, r, tu, hu, tl, hl, le, kw = rows[0].tolist()
        top = 2 * np.pi * tu * (hu - hl)
        bottom = np.log(r / rw) * (1 + 2 * le * tu / (np.log(r / rw) * rw**2 * kw) + tu / tl)
        assert flow_rate(rows)[0] == pytest.approx(top / bottom, rel=1e-12)
    assert 60 < flow_rate(middle)[0] < 80


def test_rows_of_the_borehole_have_variance_one():
    rows = borehole(Request(None, False, SILENT))
    assert rows.X.shape == rows.X_test.shape == (10_000, 8) and rows.y.shape == (10_000, 1)
    assert rows.X.dtype == rows.y.dtype == np.float32
    assert rows.y.mean() == pytest.approx(0, abs=1e-5) and rows.y.var() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(rows.X.var(axis=0), 1, atol=0.05)
    assert len(borehole(Request(None, True, SILENT)).X) == QUICK_ROWS


def test_digits_are_built_and_then_opened(tmp_path):
    pytest.importorskip("sklearn")
    request = Request(tmp_path / "digits.zarr", False, SILENT)
    built, opened = of_recipe("digits", request), of_recipe("digits", request)
    assert built.X.shape == (1437, 64) and built.X_test.shape == (360, 64) and built.n_outputs == 10
    assert built.X.dtype == np.float32 and built.X.max() == pytest.approx(1)
    np.testing.assert_array_equal(built.X, opened.X)
    np.testing.assert_array_equal(built.y_test, opened.y_test)


def test_a_store_without_held_out_rows_is_refused(tmp_path):
    X, y = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1])
    write_store(tmp_path / "s.zarr", {"train": (X, y)}, n_partitions=1)
    with pytest.raises(DataError, match="a split test"):
        of_recipe("digits", Request(tmp_path / "s.zarr", False, SILENT))
