"""Number of runs of a figure and the time left, known before the first run from a rehearsal without training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hfnumba.figures.experiment import Experiment, Laboratory, Lines, Schedule


@dataclass(frozen=True)
class _Rehearsal(Laboratory):
    """Laboratory that trains nothing: it counts the runs that are missing, and makes up their ledgers."""

    missing: set[str] = field(default_factory=set)

    def ledgers(self, experiments: Sequence[Experiment]) -> list[Lines]:
        """Count the runs that are not complete; each is taken for one that learns everything in one iteration."""
        self.missing.update(experiment.name for experiment in experiments if not self.is_done(experiment))
        return [_made_up() for _ in experiments]


def _made_up() -> Lines:
    costs = ("iteration", "epoch", "rounds", "nbytes", "elapsed_s")
    quality = ("loss", "error", "test_loss", "test_error")
    return tuple({**dict.fromkeys(costs, k), **dict.fromkeys(quality, 1.0 - k)} for k in (0, 1))


def planned[T](lab: Laboratory, work: Callable[[Laboratory], T]) -> T:
    """Do the work in a laboratory that says how many runs it takes; runs that depend on others are counted once."""
    rehearsal = _Rehearsal(lab.store, lab.runs, lab.cluster, lab.reporter)
    work(rehearsal)
    return work(replace(lab, schedule=Schedule(len(rehearsal.missing), time.monotonic())))
