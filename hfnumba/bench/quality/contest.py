"""All runs on a problem: first a grid for each first-order method, then each method with each seed, in turn."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hfnumba.bench.peers import installed
from hfnumba.bench.quality.course import Arena, Course, Limits, RunOver
from hfnumba.bench.quality.load import MachineLoad
from hfnumba.bench.quality.methods import CONTESTANTS
from hfnumba.bench.quality.problems import Problem
from hfnumba.bench.quality.records import Point, Record, Run
from hfnumba.bench.quality.summary import best_trial, reference_of, target_values
from hfnumba.kernels.blas import arithmetic
from hfnumba.kernels.cache import warm_up
from hfnumba.processors import available_processors
from hfnumba.progress import Progress, Reporter
from hfnumba.versions import PACKAGES
from hfnumba.versions import installed as installed_versions

_TRIAL_SHARE = 0.25
"""Time of a run of a grid, as a share of the time of the problem, where targets are what Adam reaches."""

_PEERS = {"torch": "torch", "jax": "jax", "optax": "optax", "sklearn": "scikit-learn"}


@dataclass(frozen=True)
class Contest:
    """A comparison of methods on a problem.

    Attributes
    ----------
    methods : tuple of str
        Names of :data:`hfnumba.bench.quality.methods.CONTESTANTS`, in the order of the runs with a seed.
    seeds : int
        Number of seeds, from 0: each draws other initial parameters and other minibatches.
    minutes : float
        Time of a run at most.
    grids : mapping of str to sequence of (int, float)
        Rows of a minibatch and learning rates of the methods that have them; the best of several is found on seed 0.
    """

    problem: Problem
    methods: tuple[str, ...]
    seeds: int
    minutes: float
    grids: Mapping[str, Sequence[tuple[int, float]]]

    def trials(self, method: str) -> list[Run]:
        """Return the runs of a method's grid; none if there is one setting, or no grid."""
        grid = self.grids.get(method, ())
        return [Run(method, *setting, is_trial=True) for setting in grid] if len(grid) > 1 else []

    def seconds_left(self, n_trials: int, n_finals: int) -> float:
        """Return the seconds of training that so many runs take at most."""
        share = _TRIAL_SHARE if self.problem.targets[0].value is None else 1.0
        return 60 * self.minutes * (share * n_trials + n_finals)

    def finals(self, record: Record) -> Iterator[Run]:
        """Yield the runs that are compared, each when those before it have ended."""
        for seed in range(self.seeds):
            for method in self.methods:
                yield replace(self._setting(method, record), seed=seed, is_trial=False)

    def _setting(self, method: str, record: Record) -> Run:
        trials = self.trials(method)
        if not trials:
            return Run(method, *next(iter(self.grids.get(method, ())), ()))
        return best_trial([record.results[run] for run in trials], self.problem.targets[0]).run

    def limits(self, run: Run, record: Record) -> Limits:
        """Return what ends a run: a trial also when it is slower than the best one of its grid."""
        first, seconds = self.problem.targets[0], 60 * self.minutes
        if run.is_trial and first.value is None:
            return Limits((), _TRIAL_SHARE * seconds)
        if run.is_trial:
            value = float(first.value or 0)
            found = [result.to(first.quantity, value) for result in self._trials_so_far(run.method, record)]
            fastest = min((point.seconds for point in found if point is not None), default=math.inf)
            return Limits(((first.quantity, value),), min(seconds, fastest))
        if self.problem.has_reference and run.method == reference_of(self.methods):
            return Limits((), seconds)
        values = target_values(self.problem, self.methods, record.results.values(), run.seed)
        return Limits([(target.quantity, value) for target, value in values if value is not None], seconds)

    def _trials_so_far(self, method: str, record: Record) -> list[Any]:
        return [record.results[run] for run in self.trials(method) if run in record.results]


def setting(name: str, contest: Contest, arena: Arena) -> dict[str, Any]:
    """Return everything that results depend on besides the runs, as the first line of a file of results has it."""
    network, data = arena.network, arena.data
    peers = tuple(_PEERS[name] for name in installed(tuple(_PEERS)))
    return {
        "problem": name,
        "sizes": list(network.sizes),
        "activation": network.activation,
        "objective": network.loss,
        "rows": len(data.X),
        "test_rows": len(data.X_test),
        "checksum": zlib.crc32(data.y, zlib.crc32(data.X)),
        "targets": [asdict(target) for target in contest.problem.targets],
        "minutes": contest.minutes,
        "interval": contest.problem.interval,
        "l2": contest.problem.l2,
        "machine": arithmetic(),
        "processors": available_processors(),
        "versions": installed_versions(("python", *PACKAGES, *peers)),
    }


def carry_out(contest: Contest, arena: Arena, record: Record, reporter: Reporter) -> None:
    """Make the runs that the record does not have; each point is written when it is there."""
    warm_up(reporter.note, reporter.progress)
    trials = [run for method in contest.methods for run in contest.trials(method)]
    n_finals = contest.seeds * len(contest.methods)
    for number, run in enumerate(itertools.chain(trials, contest.finals(record)), start=1):
        if run in record.results:
            continue
        title = f"{number}/{len(trials) + n_finals} {run.setting}, {'grid' if run.is_trial else f'seed {run.seed}'}"
        ending = _carry_out(run, contest.limits(run, record), arena, record, reporter.progress(title, "s"))
        n_trials = max(0, len(trials) - number)
        left = contest.seconds_left(n_trials, len(trials) + n_finals - number - n_trials)
        reporter.note(f"{title}: {ending}" + (f"; at most {_minutes(left)} left" if left else ""))


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _carry_out(run: Run, limits: Limits, arena: Arena, record: Record, progress: Progress) -> str:
    """Make a run and return how it ended."""
    total = max(1, round(limits.seconds))
    seconds = 0.0

    def add(point: Point) -> None:
        nonlocal seconds
        record.add(point)
        seconds = point.seconds
        progress(min(round(seconds), total - 1), total)

    record.begin(run)
    ending, machine = "the method ended", MachineLoad()
    try:
        CONTESTANTS[run.method].run(Course(arena, run, limits, add))
    except RunOver as over:
        ending = str(over)
    record.end(run, ending, machine.others())
    progress(total, total)
    return f"{seconds:.1f} s, {ending}"
