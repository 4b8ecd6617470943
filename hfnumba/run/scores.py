"""Error rate, RMSE and R² of a run: of the lines of its ledger, and of its model on the rows of a split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from hfnumba.errors import NumericalError
from hfnumba.metrics import ERROR, R2, RMSE, Scale, metrics_of

if TYPE_CHECKING:
    from hfnumba.engine import RoundObjective
    from hfnumba.engine.held_out import SplitPart
    from hfnumba.ledger import Line
    from hfnumba.network import Network
    from hfnumba.objective import Vector
    from hfnumba.progress import Reporter
    from hfnumba.run.records import StoreRecord
    from hfnumba.store import Split


@dataclass(frozen=True)
class Scores:
    """Conversion of the mean squared deviations in the lines of a run.

    Attributes
    ----------
    scale : Scale or None
        None for a loss whose error is an error rate.
    variances : mapping of str to tuple of float, or to None
        Variance of each target, by the beginning of the keys of the rows; None where it is not known.
    """

    scale: Scale | None
    variances: Mapping[str, tuple[float, ...] | None]

    @classmethod
    def of(
        cls, rows: Mapping[str, Split | SplitPart], data: StoreRecord, network: Network, reporter: Reporter
    ) -> Scores:
        """Measure the targets of the rows of a run, by their use; reads nothing where there is nothing to convert.

        The targets of an autoencoder are its inputs, which are not read for this: its R² is not known.
        """
        from hfnumba.store.targets import target_variances  # noqa: PLC0415 - slow to import

        if metrics_of(network.loss) != (RMSE, R2):
            return cls(None, {})
        found = {
            "" if name == "train" else f"{name}_": None
            if data.task == "autoencode"
            else target_variances(part, reporter)
            for name, part in rows.items()
        }
        if data.task == "autoencode":
            return cls(Scale((1.0,) * network.n_outputs), found)
        if network.n_outputs > 1:
            unit = ", in units of their deviations" if data.target_deviation else ""
            reporter.note(
                f"RMSE and R² are over all {network.n_outputs} targets{unit}; hfnumba evaluate has those of each target"
            )
        return cls(scale_of(data, network), found)

    def of_line(self, line: Line) -> dict[str, Any]:
        """Return RMSE and R² for each split that a line has an error of; empty for an error rate."""
        found: dict[str, Any] = {}
        if self.scale is None:
            return found
        for beginning, variances in self.variances.items():
            if f"{beginning}error" not in line:
                continue
            error = line[f"{beginning}error"]
            found[f"{beginning}{RMSE.key}"] = self.scale.rmse(error)
            found[f"{beginning}{R2.key}"] = None if variances is None else self.scale.r2(error, variances)
        return found

    def completed(self, line: Line) -> Line:
        """Return a line with its RMSE and R², which earlier versions did not write."""
        return line | {name: value for name, value in self.of_line(line).items() if name not in line}


def scale_of(data: StoreRecord, network: Network) -> Scale:
    """Return the units of the outputs of a network of a run."""
    return Scale(data.target_deviation or (1.0,) * network.n_outputs)


def completed(lines: list[Line], loss: str | None) -> list[Line]:
    """Add the RMSE to lines of earlier versions, in which targets were as they are; R² is not known.

    Parameters
    ----------
    lines : list of dict
        Lines of a ledger.
    loss : str or None
        Loss of the run; None where it is not known, then lines stay as they are.
    """
    if loss is None or RMSE not in metrics_of(loss):
        return lines
    own = Scale((1.0,))
    unknown = {"r2": None, "test_r2": None}
    return [
        {"rmse": own.rmse(line["error"]), "test_rmse": own.rmse(line["test_error"])} | unknown | line for line in lines
    ]


class TargetScore(NamedTuple):
    """RMSE, in own units, and R² of one target; R² is None for a target that is the same in all rows."""

    name: str
    rmse: float | None
    r2: float | None


@dataclass(frozen=True)
class Measurement:
    """Measures of a model on rows.

    Attributes
    ----------
    loss : float
        f with the penalty and the weights of the run, for standardised targets if the run has them.
    error : float or None
        Error rate of labels or probabilities; None for squared error.
    rmse, r2 : float or None
        RMSE and R² over all targets, see :class:`hfnumba.metrics.Scale`; None for labels, R² also for autoencoders.
    targets : tuple of TargetScore
        Scores of each target; empty for labels.
    squared_error : float or None
        Mean over the rows of ‖output - input‖²; None but for an autoencoder.
    """

    loss: float
    error: float | None
    rmse: float | None = None
    r2: float | None = None
    targets: tuple[TargetScore, ...] = ()
    squared_error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the measures that the rows have, for JSON."""
        found: dict[str, Any] = {"loss": self.loss}
        found |= {} if self.error is None else {ERROR.key: self.error}
        found |= {} if self.squared_error is None else {"squared_error": self.squared_error}
        found |= {} if self.rmse is None else {RMSE.key: self.rmse}
        found |= {} if self.rmse is None or self.squared_error is not None else {R2.key: self.r2}
        return found | ({"targets": [target._asdict() for target in self.targets]} if len(self.targets) > 1 else {})


def measured(
    objective: RoundObjective, theta: Vector, data: StoreRecord, split: Split, reporter: Reporter
) -> Measurement:
    """Measure parameters on the rows of an objective over a split; one round, two for losses that take targets."""
    from hfnumba.store.targets import target_variances  # noqa: PLC0415 - slow to import

    loss, error = objective.value_and_error(theta)
    network = objective.network
    shown = error if ERROR in metrics_of(network.loss) else None
    if network.takes_labels:
        return Measurement(loss, shown)
    scale, squares = scale_of(data, network), objective.squared_deviations(theta).tolist()
    variances = target_variances(split, reporter)
    names = data.targets or data.classes or tuple(map(str, range(network.n_outputs)))
    targets = tuple(
        TargetScore(name, own.rmse(square), own.r2(square, (variance,)))
        for name, square, variance, own in zip(
            names, squares, variances, (Scale((s,)) for s in scale.deviations), strict=True
        )
    )
    mean = sum(squares) / len(squares)
    return Measurement(loss, shown, scale.rmse(mean), scale.r2(mean, variances), targets)


def finite_loss(loss: float, split: Split) -> float:
    """Return a loss on a split.

    Raises
    ------
    NumericalError
        If it is not finite.
    """
    if not math.isfinite(loss):
        raise NumericalError(
            f"the loss on split {split.name!r} of {split.path} is {loss}: features or targets are too large for "
            "the network, with the run's scale; correct them, or leave such rows out"
        )
    return loss
