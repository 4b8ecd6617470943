"""What a round of a method costs besides computing: bytes to and from a worker, and the client's work between rounds.

Both are counted over a few iterations of the method on random rows: neither depends on the number of rows.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.bench.scaling import problem_of
from hfnumba.engine import RoundObjective
from hfnumba.engine.local import LocalEngine
from hfnumba.engine.protocol import Engine, Round
from hfnumba.engine.rows import ArraySource
from hfnumba.engine.tree import Sums
from hfnumba.network import Network
from hfnumba.objective import Vector
from hfnumba.optim.methods import optimizer, settings_of

_ROWS, _SAMPLE_ROWS, _PARTITIONS = 2048, 512, 4
_ITERATIONS, _STEPS = 3, 4


@dataclass(frozen=True)
class RoundCost:
    """Means over the rounds of a method.

    Attributes
    ----------
    nbytes_out, nbytes_in : float
        Bytes to one worker, and from it.
    client_s : float
        Processor seconds of the client for a round: solves, factorisations and vectors of the optimiser.
    """

    nbytes_out: float
    nbytes_in: float
    client_s: float


class _Tally:
    """Engine that counts rounds, bytes of their sums, and the processor time that they take in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.rounds, self.nbytes_in, self.processor_s = 0, 0, 0.0

    def run(self, request: Round) -> Sums:
        """Run a round on the wrapped engine."""
        start = time.process_time()
        sums = self._engine.run(request)
        self.processor_s += time.process_time() - start
        self.rounds += 1
        self.nbytes_in += sum(array.nbytes for array in sums)
        return sums

    def close(self) -> None:
        """Close the wrapped engine."""
        self._engine.close()


class _Uncounted(RoundObjective):
    """Objective that does not count evaluations of loss and error alone: methods make them for their record only."""

    def __init__(self, problem: Any, tally: _Tally) -> None:
        super().__init__(problem, tally, 0.0)
        self._tally = tally

    def value_and_error(self, theta: Vector) -> tuple[float, float]:
        """Return f and the error rate, without counting them."""
        counters, rounds, nbytes_in = replace(self.counters), self._tally.rounds, self._tally.nbytes_in
        found = super().value_and_error(theta)
        self.counters, self._tally.rounds, self._tally.nbytes_in = counters, rounds, nbytes_in
        return found


def measure_round(method: str, network: Network) -> RoundCost:
    """Run a few iterations of a method in this process; return the mean cost of a round.

    Parameters
    ----------
    method : str
        One of :data:`hfnumba.optim.methods.METHODS`, with its default settings except for smaller samples.
    network : Network
    """
    rng = np.random.default_rng(0)
    X = rng.standard_normal((_ROWS, network.n_features), dtype=np.float32)
    shape = (_ROWS, network.n_outputs)
    y = rng.integers(0, network.n_outputs, _ROWS) if network.takes_labels else rng.random(shape, dtype=np.float32)
    problem = problem_of(network, ArraySource.of(X, y, _PARTITIONS, 1.0, 0.0))
    tally = _Tally(LocalEngine(problem))
    with _Uncounted(problem, tally) as objective:

        def so_far() -> NDArray[np.float64]:
            client_s = time.process_time() - tally.processor_s
            return np.array([tally.rounds, objective.counters.nbytes, tally.nbytes_in, client_s])

        iterations = optimizer(method, **_settings(method)).iterate(objective, network.initialize(0))
        # The start, and the first iteration, which has no last step and compiles kernels.
        for _ in itertools.islice(iterations, 2):
            pass
        before = so_far()
        for _ in iterations:
            pass
        rounds, nbytes, nbytes_in, client_s = (so_far() - before).tolist()
    return RoundCost((nbytes - nbytes_in) / rounds, nbytes_in / rounds, client_s / rounds)


def _settings(method: str) -> Mapping[str, Any]:
    names = settings_of(method)
    settings: dict[str, Any] = {"max_iterations": _ITERATIONS}
    settings |= {name: _SAMPLE_ROWS for name in ("curvature_rows", "line_rows") if name in names}
    if "record_every" in names:
        settings["record_every"] = _STEPS
    elif "batch_rows" in names:
        settings["batch_rows"] = _ROWS // _STEPS
    return settings
