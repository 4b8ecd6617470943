"""End of a run: its reasons, and which of them a line of the ledger meets."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from hfnumba.ledger import Line
from hfnumba.optim.early_stopping import BestSoFar
from hfnumba.optim.limits import StopReason, limit_reached
from hfnumba.run.settings import TrainSettings
from hfnumba.run.validation import stopping_rule


class Ending(Enum):
    """Reason for the end of a run; the value is a sentence."""

    ITERATIONS = StopReason.ITERATIONS.value
    TARGET = StopReason.TARGET_ERROR.value
    TARGET_RMSE = "the target RMSE is reached"
    VALIDATION = StopReason.VALIDATION.value
    TIME = "the time limit is reached"
    OPTIMIZER = "the optimiser ended by itself"
    SIGNAL = "stopped by a signal"


def reached(settings: TrainSettings, line: Line, best: BestSoFar | None) -> Ending | None:
    """Return the limit that an iteration meets, None if it meets none.

    Parameters
    ----------
    settings : TrainSettings
    line : dict
        Line of the ledger.
    best : BestSoFar or None
        State of early stopping after it; None for a run without validation rows.
    """
    limit = limit_reached(line["iteration"], line["error"], settings.max_iterations, settings.target_error)
    rmse = line.get("rmse")
    if settings.target_rmse is not None and rmse is not None and rmse <= settings.target_rmse:
        return Ending.TARGET_RMSE
    if limit is None and best is not None and settings.early_stopping and stopping_rule(settings).stops(best):
        return Ending.VALIDATION
    return None if limit is None else Ending(limit.value)


def best_so_far(settings: TrainSettings, lines: Sequence[Line]) -> BestSoFar | None:
    """Return the state of early stopping after the last of some lines, None for a run without validation rows."""
    rule, best = stopping_rule(settings), None
    for line in lines:
        if "best_iteration" in line:
            best = rule.after(best or BestSoFar(), line["iteration"], line["validation_loss"])
    return best
