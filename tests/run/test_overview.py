"""The state of a run from its ledger."""

import pytest

from hfnumba.errors import CheckpointError
from hfnumba.optim.limits import StopReason
from hfnumba.run.config import settings_from
from hfnumba.run.lock import locked
from hfnumba.run.overview import Overview, overview
from tests.lines import line


def seen(*lines, age_s=0.0, **settings):
    return Overview(settings_from({"hidden": (3,), "max_iterations": 12} | settings), lines, age_s)


def test_time_left_is_by_the_median_of_the_last_iterations():
    assert seen().left_s is None and seen(line(0)).left_s is None
    lines = [line(k, elapsed_s=s) for k, s in enumerate((0.0, 100.0, 102.0, 104.0, 106.0, 116.0, 118.0))]
    assert seen(*lines).left_s == pytest.approx(6 * 2.0)
    assert seen(*lines, age_s=3.0).left_s == pytest.approx(9.0)
    assert seen(*lines, age_s=30.0).left_s == 0.0


def test_the_ending():
    assert seen().ending is None and seen(line(3)).ending is None
    assert seen(line(12)).ending == "the limit of iterations is reached"
    assert seen(line(3, error=0.01), target_error=0.02).ending == "the target error is reached"
    assert seen(line(3, note=StopReason.FLAT.value)).ending == StopReason.FLAT.value


def test_a_run_that_stopped_early_or_reached_its_rmse_has_ended():
    losses = {0: 3.0, 1: 2.0, 2: 2.5, 3: None}
    lines = [line(k, validation_loss=loss, best_iteration=min(k, 1)) for k, loss in losses.items()]
    stopping = {"early_stopping": True, "patience": 2}
    assert seen(*lines, **stopping).ending == "the validation loss no longer improves"
    assert seen(*lines[:3], **stopping).ending is None and seen(*lines).ending is None
    assert seen(line(3, rmse=0.5), target_rmse=0.6).ending == "the target RMSE is reached"
    assert seen(line(3, rmse=0.5), target_rmse=0.4).ending is None


def test_the_last_step_and_its_reason():
    assert seen().step == "" and seen(line(0)).step == ""
    step = {"direction": "newton", "alpha": 0.5, "krylov_status": "MAXITER"}
    assert seen(line(1, **step)).step == "newton, step length 0.5: solver: the iteration limit was reached"
    curved = line(1, **step | {"direction": "negative_curvature", "note": "it was lowest"})
    assert seen(curved).step == "negative curvature, step length 0.5: it was lowest"
    assert seen(line(1, **step | {"krylov_status": None})).step == "newton, step length 0.5"


def test_a_run_that_is_about_to_begin_has_no_state(tmp_path):
    with locked(tmp_path / "r"):
        assert overview(tmp_path / "r") is None


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is not the directory of a run"):
        overview(tmp_path)
