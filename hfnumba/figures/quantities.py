"""Quantities that curves of runs show: two curves share an axis only if theirs are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from hfnumba.errors import CheckpointError
from hfnumba.ledger import Line
from hfnumba.metrics import ERROR, R2, RMSE, metrics_in, metrics_of

if TYPE_CHECKING:
    from hfnumba.run.records import RunRecord


@dataclass(frozen=True)
class Quantity:
    """Quantity of a ledger's line.

    Attributes
    ----------
    key : str
        Key in the line.
    name : str
        Name on the axis.
    of : str
        What distinguishes it from other quantities of this name: the loss, or the targets in whose unit it is.
    """

    key: str
    name: str
    of: str = ""

    @property
    def is_share(self) -> bool:
        """Whether it is shown in percent."""
        return self.key == ERROR.key

    def title(self, others: Sequence[Quantity]) -> str:
        """Return the label of its axis among those of others."""
        alone = sum(other.key == self.key for other in others) == 1
        return (
            self.name if alone or not self.of or self.name.endswith(self.of) else fill(f"{self.name} ({self.of})", 30)
        )


def quantities_of(lines: Sequence[Line], record: RunRecord | None) -> tuple[Quantity, ...]:
    """Return the quantities of a run: its loss and its measures; without a record, by the keys of the lines.

    RMSE and squared errors of the same unit are those of targets of the same names; where targets have no names, of the
    same data.
    """
    if record is None:
        return (Quantity("loss", "loss"), *(Quantity(metric.key, metric.name) for metric in metrics_in(lines[-1])))
    data, loss = record.store, record.network.loss
    targets = ", ".join(data.targets or ())
    whose = targets or f"targets of {Path(data.path).stem} {data.digest[:6]}"
    kind = loss.replace("_", " ")
    if loss == "squared_error":
        kind += f", standardised {whose}" if data.target_standardisation else f", {whose}"
    unit = "in deviations, " if data.target_standardisation and len(data.target_deviation or ()) > 1 else ""
    named = {
        ERROR: Quantity(ERROR.key, ERROR.name),
        RMSE: Quantity(RMSE.key, f"RMSE of {targets}" if targets and not unit else RMSE.name, unit + whose),
        R2: Quantity(R2.key, R2.name),
    }
    return (Quantity("loss", "loss", kind), *(named[metric] for metric in metrics_of(loss)))


def record_of(run: Path) -> RunRecord | None:
    """Read the record of a run; None if the directory has a ledger alone, or a record that is damaged."""
    from hfnumba.run.directory import RunDirectory  # noqa: PLC0415 - slow to import

    try:
        return RunDirectory(run).record()
    except CheckpointError:
        return None
