"""Measures of a model besides its loss: which a loss has, how they are computed from sums, and how they are formatted.

A round over rows returns the mean loss and one number more, ``error``. What it means depends on the loss:

=====================  =============================================  ================
loss                   ``error``                                      measures
=====================  =============================================  ================
softmax cross-entropy  share of misclassified rows                    error rate
sigmoid cross-entropy  share of outputs on the wrong side of 1/2      error rate
squared error          mean squared deviation of the outputs          RMSE and R²
=====================  =============================================  ================

Where targets are standardised, the squared deviation is that of standardised targets; :class:`Scale` leads back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SPLITS = {"": "training", "test_": "test", "validation_": "validation"}
"""Beginnings of the keys of a ledger's line, and the rows that they are about."""


@dataclass(frozen=True)
class Metric:
    """Measure of a model on rows.

    Attributes
    ----------
    key : str
        Name in ledgers and in JSON, after a beginning of :data:`SPLITS`.
    name : str
        Name for people.
    decimals : int or None
        Number of decimals; None for four significant digits.
    factor : float
        Multiple that is shown.
    unit : str
        Unit of that multiple; empty for none, or the target's own.
    """

    key: str
    name: str
    decimals: int | None = None
    factor: float = 1.0
    unit: str = ""

    def text(self, value: float | None) -> str:
        """Format a value with its unit; a dash for None."""
        if value is None:
            return "–"
        shown = value * self.factor
        number = f"{shown:.4g}" if self.decimals is None else f"{shown:.{self.decimals}f}"
        if self.decimals is None and 1e4 <= abs(shown) < 1e9:
            number = f"{shown:.0f}"
        return f"{number} {self.unit}" if self.unit else number


ERROR = Metric("error", "error", 2, 100.0, "%")
RMSE = Metric("rmse", "RMSE")
R2 = Metric("r2", "R²", 4)
SQUARED_ERROR = Metric("squared_error", "squared error per row")
"""Mean over the rows of ‖output - input‖² of an autoencoder."""


def metrics_of(loss: str) -> tuple[Metric, ...]:
    """Return the measures that the rounds of a loss give, the main one first."""
    return (RMSE, R2) if loss == "squared_error" else (ERROR,)


def metrics_in(line: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Return the measures that a line of a ledger has."""
    return (RMSE, R2) if RMSE.key in line else (ERROR,)


def described(line: Mapping[str, Any], beginning: str = "") -> list[tuple[Metric, str]]:
    """Return the measures of a line with their texts, for the rows of one beginning; empty without test rows."""
    if beginning and line.get(f"{beginning}error") is None:
        return []
    return [(metric, metric.text(line.get(f"{beginning}{metric.key}"))) for metric in metrics_in(line)]


@dataclass(frozen=True)
class Scale:
    """Conversion of mean squared deviations of a network's outputs to RMSE and R².

    Attributes
    ----------
    deviations : tuple of float
        Unit of each output in the target's own unit: the deviation by which the target was divided, or 1.
    """

    deviations: tuple[float, ...]

    @property
    def unit(self) -> float:
        """Unit of the RMSE over all targets: the target's own, or for several targets that of the outputs."""
        return self.deviations[0] if len(self.deviations) == 1 else 1.0

    def rmse(self, error: float | None) -> float | None:
        """Return the RMSE for a mean squared deviation."""
        return None if error is None else self.unit * math.sqrt(error)

    def spread(self, variances: Sequence[float]) -> float:
        """Return the mean over the targets of their variances (own units squared), in units of the outputs."""
        return sum(v / s**2 for v, s in zip(variances, self.deviations, strict=True)) / len(self.deviations)

    def r2(self, error: float | None, variances: Sequence[float]) -> float | None:
        """Return R² = 1 - error / spread; None for targets that are all the same.

        For several targets this is the average of their R², weighted by their variances in units of the outputs.

        Parameters
        ----------
        error : float or None
            Mean squared deviation over rows and targets.
        variances : sequence of float
            Variance of each target over the same rows, own units squared.
        """
        spread = self.spread(variances)
        return None if error is None or spread <= 0 else 1.0 - error / spread
