"""Row samples of an iteration: the one that curvature is measured on, and the one for step lengths."""

from __future__ import annotations

from hfnumba.objective import RowSample


def curvature_sample(n_rows: int, size: int | None, seed: int, iteration: int) -> RowSample | None:
    """Return the curvature sample of an iteration, None for all rows.

    Parameters
    ----------
    n_rows : int
        Number of rows of the objective.
    size : int or None
        Number of rows to draw; None or a value >= ``n_rows`` stands for all.
    seed, iteration : int
        Key of the draw.
    """
    return _drawn(n_rows, size, seed, iteration, 0)


def line_sample(
    n_rows: int, size: int | None, seed: int, iteration: int, curvature_rows: int | None
) -> RowSample | None:
    """Return the rows that step lengths are evaluated on, drawn after those of the curvature sample; None for all."""
    if size is None:
        return None
    return _drawn(n_rows, size, seed, iteration, -(-(curvature_rows or 1) // size))


def _drawn(n_rows: int, size: int | None, seed: int, iteration: int, index: int) -> RowSample | None:
    if size is None or size >= n_rows:
        return None
    return RowSample(n_rows=int(size), seed=int(seed), draw=iteration, index=index)
