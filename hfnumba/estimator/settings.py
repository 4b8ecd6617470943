"""Settings of the estimators: their checks, and the optimiser that they choose."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from hfnumba.activations import ACTIVATIONS
from hfnumba.errors import UsageError
from hfnumba.krylov.preconditioners import PRECONDITIONERS
from hfnumba.network import INITIALIZATIONS, Network
from hfnumba.optim.methods import METHODS, Optimizer, optimizer, settings_of
from hfnumba.processors import available_processors

# What a row costs in a round, in units of what one parameter does; and the cost of a round, about 0.6 ms on one thread,
# below which two threads take longer. A rough fit: only the time depends on it.
_COST_OF_UNIT, _COST_OF_ROW, _FEWEST_FOR_TWO = 64, 256, 10_000_000

_COUNT = Interval(Integral, 1, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")

# Default of curvature_rows, which is not None, since None takes all rows.
CURVATURE_ROWS = 4096

CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", _COUNT],
    "activation": [StrOptions(set(ACTIVATIONS)), tuple, list],
    "method": [StrOptions(set(METHODS))],
    "preconditioner": [StrOptions({"none", *PRECONDITIONERS}), None],
    "curvature_rows": [_COUNT, None],
    "damping": [_POSITIVE, None],
    "learning_rate": [_POSITIVE, None],
    "batch_rows": [_COUNT, None],
    "init": [StrOptions(set(INITIALIZATIONS))],
    "l2": [_NOT_NEGATIVE],
    "standardise": ["boolean"],
    "max_iter": [_COUNT],
    "tol": [_NOT_NEGATIVE],
    "early_stopping": ["boolean", StrOptions({"auto"})],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [_COUNT],
    "warm_start": ["boolean"],
    "verbose": ["verbose"],
    "random_state": ["random_state"],
    "n_threads": [_COUNT, None],
    "client": "no_validation",  # type: ignore[dict-item]
}
"""Constraints of the settings of both estimators, in scikit-learn's form."""

# Settings that only some methods have: refused where a method has no use for them, but for the size of the curvature
# sample, which has a default.
_OF_METHODS = ("preconditioner", "damping", "learning_rate", "batch_rows")


def hidden_widths(sizes: Any) -> list[int]:
    """Return the widths of the hidden layers as a list.

    Raises
    ------
    UsageError
        If they are not whole numbers of at least 1.
    """
    values = np.atleast_1d(np.asarray(sizes))
    if values.ndim != 1 or (values.size and (values.dtype.kind not in "iu" or values.min() < 1)):
        raise UsageError(
            f"expected hidden_layer_sizes of whole numbers of at least 1, such as (100,), got {sizes!r}; give the "
            "width of each hidden layer"
        )
    return [int(n) for n in values]


def thread_count(given: int | None, network: Network, n_rows: int) -> int:
    """Return the number of threads of a fit: as given, else one for each processor, but no more than OMP_NUM_THREADS.

    joblib sets that variable in the processes of a search, so that all of them together have a thread per processor.
    Rounds over so few rows that handing over to another thread takes longer have one.
    """
    if given is not None:
        return given
    limit = os.environ.get("OMP_NUM_THREADS", "")
    per_row = network.n_params + _COST_OF_UNIT * sum(network.sizes[1:]) + _COST_OF_ROW
    usual = 1 if n_rows * per_row < _FEWEST_FOR_TWO else available_processors()
    return min(usual, max(1, int(limit))) if limit.isdecimal() else usual


def make_optimizer(estimator: Any, seed: int, max_iterations: int) -> Optimizer:
    """Return the optimiser of an estimator's settings.

    Raises
    ------
    UsageError
        If the method does not have a setting that was given, or a value is out of its range.
    """
    names = settings_of(estimator.method)
    settings = {name: getattr(estimator, name) for name in _OF_METHODS if getattr(estimator, name) is not None}
    if estimator.curvature_rows != CURVATURE_ROWS:
        settings["curvature_rows"] = estimator.curvature_rows
    if foreign := sorted(settings.keys() - names):
        own = ", ".join(name for name in ("curvature_rows", *_OF_METHODS) if name in names)
        raise UsageError(
            f"expected settings of {estimator.method} ({own or 'it has none of these'}), got {', '.join(foreign)}; "
            f"leave {'these' if len(foreign) > 1 else 'it'} out, or choose another method"
        )
    settings["max_iterations"] = max_iterations
    if "preconditioner" in names:
        # The default of the method pays where rounds are dear; on small sets the one without generalised better.
        settings.setdefault("preconditioner", "none")
    if "curvature_rows" in names:
        settings["curvature_rows"] = estimator.curvature_rows
    if "seed" in names:
        settings["seed"] = seed
    return optimizer(estimator.method, **settings)
