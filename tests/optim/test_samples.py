from __future__ import annotations

import pytest

from hfnumba.engine.rows import sample_indices
from hfnumba.objective import RowSample
from hfnumba.optim.samples import curvature_sample, line_sample


@pytest.mark.parametrize("size", [None, 200, 1000])
def test_a_sample_of_all_rows_is_none(size):
    assert curvature_sample(200, size, 3, 1) is None
    assert line_sample(200, size, 3, 1, 20) is None


def test_a_curvature_sample_is_keyed_by_seed_and_iteration():
    assert curvature_sample(200, 20, 3, 7) == RowSample(20, seed=3, draw=7)


@pytest.mark.parametrize(("curvature_rows", "size"), [(20, 20), (20, 30), (30, 20), (50, 13)])
def test_step_lengths_have_other_rows_than_the_curvature_sample(curvature_rows, size):
    curvature = curvature_sample(200, curvature_rows, 3, 7)
    line = line_sample(200, size, 3, 7, curvature_rows)
    drawn = [set(sample_indices(rows, 0, 200, 200)) for rows in (curvature, line)]
    assert [len(rows) for rows in drawn] == [curvature_rows, size]
    assert not drawn[0] & drawn[1]
