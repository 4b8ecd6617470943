"""Training loop of a run: a checkpoint and a ledger line for each iteration, limits, and signals."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hfnumba import ledger
from hfnumba.errors import CheckpointError, StoppedError
from hfnumba.optim.iteration import Iteration, OptimizerState
from hfnumba.optim.limits import StopReason, limit_reached
from hfnumba.optim.methods import Optimizer, optimizer, settings_of
from hfnumba.progress import Reporter
from hfnumba.run.config import memory_bytes, refuse_address, settings_from
from hfnumba.run.directory import RunDirectory, resumed_settings, shortened
from hfnumba.run.lock import locked
from hfnumba.run.new import new_record
from hfnumba.run.options import Callee
from hfnumba.run.records import RunRecord
from hfnumba.run.scores import Scores
from hfnumba.run.settings import TrainSettings, arguments, as_dict, optimizer_settings
from hfnumba.run.writer import RunWriter
from hfnumba.stop import StopSignals

if TYPE_CHECKING:
    from hfnumba.engine import RoundObjective
    from hfnumba.engine.protocol import Companion
    from hfnumba.launch import Placement
    from hfnumba.network import Network
    from hfnumba.store import Store


class Ending(Enum):
    """Reason for the end of a run; the value is a sentence."""

    ITERATIONS = StopReason.ITERATIONS.value
    TARGET = StopReason.TARGET_ERROR.value
    TARGET_RMSE = "the target RMSE is reached"
    TIME = "the time limit is reached"
    OPTIMIZER = "the optimiser ended by itself"
    SIGNAL = "stopped by a signal"


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    Attributes
    ----------
    ending : Ending
    lines : tuple of dict
        Complete ledger, including the iterations before an interruption.
    """

    ending: Ending
    lines: tuple[ledger.Line, ...]


class RunReporter(Reporter, Protocol):
    """Reporter of a run: also receives its iterations."""

    def begin(self, settings: TrainSettings, line: ledger.Line | None) -> None:
        """Announce that iterations follow; ``line`` is the last one before an interruption."""
        ...

    def iteration(self, line: ledger.Line) -> None:
        """Show an iteration by its line of the ledger."""
        ...

    def stopping(self, signal_name: str) -> None:
        """Announce that the current iteration is the last; called in a signal handler."""
        ...


def train(
    store_path: str | Path,
    directory: RunDirectory,
    given: Mapping[str, Any],
    reporter: RunReporter,
    *,
    resume: bool = False,
    trust_config: bool = False,
) -> Outcome:
    """Train a network on a store, or continue a run.

    Each iteration is checkpointed first and then written to the ledger, so a process that is killed at any moment
    leaves a run that can be continued with the same bits.

    Parameters
    ----------
    store_path : path
        Path of the store. Its split ``train`` is trained on; ``test``, if there is one, is evaluated for the ledger.
    directory : RunDirectory
        Directory of the run: new or empty, or for ``resume`` that of the run to continue.
    given : mapping
        Settings by the names of :class:`TrainSettings`; for ``resume`` at most what may change, or as they were.
    reporter : RunReporter
    resume : bool
        Whether to continue the run in the directory; if it holds none yet, it begins.
    trust_config : bool
        Whether to continue the run at the address of a cluster that only its ``config.toml`` names. The processes there
        can run code as the user, so by default ``given`` must have the setting ``cluster``.

    Raises
    ------
    UsageError, StoreError, DataError, ClusterError, NumericalError, CheckpointError
        Before anything is written for a mistake in the settings; afterwards the last checkpoint remains.
    KeyboardInterrupt
        At a second Ctrl-C.
    """
    from hfnumba.launch.spec import parse  # noqa: PLC0415
    from hfnumba.store import open_store  # noqa: PLC0415 - slow to import

    started = time.monotonic()
    # A run that was killed before it had begun, or never started, begins; so a batch job repeats one command.
    begun = directory.config.exists() or "hidden" not in given
    recorded = directory.record() if resume and begun else None
    settings = settings_from(given) if recorded is None else resumed_settings(recorded.settings, given)
    if "cluster" not in given and not trust_config:
        refuse_address(as_dict(settings), directory.config)
    parse(settings.cluster)
    memory_bytes(settings)
    store = open_store(store_path)
    record = new_record(store, settings, reporter, given)
    if recorded is None:
        directory.refuse_used()
    elif recorded.store.digest != store.digest:
        expected, found = shortened(recorded.store.digest, store.digest)
        raise CheckpointError(
            f"{directory.path} was trained on a store with digest {expected} "
            f"({recorded.store.path}), but {store.path} has {found}; give the same data"
        )
    loop = _Loop.of(record, store, started, reporter)
    with locked(directory.path) as lock, StopSignals(reporter.stopping) as stop:
        if resume and recorded is None:
            reporter.note(f"there is no run in {directory.path} yet; it begins")
        checkpoint, lines = (None, []) if recorded is None else directory.rewind(record)
        if lines and lines[0].get(ledger.LOST):
            reporter.note(f"the ledger begins with iteration {lines[0]['iteration']}: the lines before are lost")
        writer = RunWriter(directory, record, lock, checkpoint, lines)
        ending = Ending.SIGNAL if stop.received else loop.run(store, writer, reporter, stop)
        writer.finish()
    return Outcome(ending, tuple(writer.lines))


@dataclass(frozen=True)
class _Loop:
    """Training loop with its constant parts."""

    record: RunRecord
    optimizer: Optimizer
    network: Network
    theta: Any
    started: float
    scores: Scores

    @classmethod
    def of(cls, record: RunRecord, store: Store, started: float, reporter: Reporter) -> _Loop:
        """Return the loop of a run; reads the targets of a regression."""
        settings, network = record.settings, record.network.network()
        method = optimizer(settings.method, **optimizer_settings(settings))
        theta = network.initialize(settings.seed, settings.init)  # type: ignore[arg-type]  # it checks the name itself
        return cls(record, method, network, theta, started, Scores.of(store, record.store, network, reporter))

    def run(self, store: Store, writer: RunWriter, reporter: RunReporter, stop: StopSignals) -> Ending:
        """Open the cluster, and iterate until there is a reason to stop; a signal ends all waiting for a cluster."""
        try:
            return self._run(store, writer, reporter, stop)
        except StoppedError:
            writer.begin()
            return Ending.SIGNAL

    def _run(self, store: Store, writer: RunWriter, reporter: RunReporter, stop: StopSignals) -> Ending:
        from hfnumba.kernels.cache import warm_up  # noqa: PLC0415 - slow to import
        from hfnumba.launch import open_cluster  # noqa: PLC0415

        settings, checkpoint = self.record.settings, writer.newest
        state = None if checkpoint is None else OptimizerState.restore(checkpoint.tensors, checkpoint.scalars)
        last = None if checkpoint is None else checkpoint.ledger_line
        with ExitStack() as stack:
            placement = stack.enter_context(open_cluster(settings.cluster, settings.threads, settings.worker_timeout_s))
            reporter.note(f"running on {placement.description}")
            if settings.curvature_rows is not None and "curvature_rows" not in settings_of(settings.method):
                reporter.note(f"{settings.method} uses no curvature, so --curvature-rows has no effect")
            # Local workers share this machine's cache of compiled kernels; remote ones compile for themselves.
            warm_up(reporter.note)
            objective = stack.enter_context(self._objective(store, "train", placement, reporter))
            test = None
            if "test" in store.splits:
                test = stack.enter_context(self._objective(store, "test", placement, reporter))
            if stop.received is not None:
                writer.begin()
                return Ending.SIGNAL
            reporter.begin(settings, last)
            iterations = self.optimizer.iterate(
                objective, self.theta, test=test, state=state, stop=lambda: self._interrupted(stop) is not None
            )
            return self._iterate(iterations, last, writer, reporter, stop)

    def _companion(self, store: Store, name: str) -> Companion | None:
        """Return the split with which the objective of another one shares the memory of a process."""
        from hfnumba.engine.class_weights import with_class_weights  # noqa: PLC0415 - slow to import
        from hfnumba.engine.protocol import Companion  # noqa: PLC0415

        other = "test" if name == "train" else "train"
        if other not in store.splits:
            return None
        weights = self.record.store.class_weights or None
        return Companion(with_class_weights(store[other], weights), yields=other == "test")

    def _objective(self, store: Store, name: str, placement: Placement, reporter: RunReporter) -> RoundObjective:
        from hfnumba.engine import DaskObjective, SplitObjective  # noqa: PLC0415 - slow to import

        settings, split = self.record.settings, store[name]
        common: Any = {
            "memory": memory_bytes(settings),
            "companion": self._companion(store, name),
            "class_weights": self.record.store.class_weights or None,
            "reporter": reporter,
            **arguments(settings, Callee.OBJECTIVE),
        }
        if placement.client is None:
            return SplitObjective(self.network, split, n_threads=settings.threads, **common)
        return DaskObjective(
            self.network, split, placement.client, **arguments(settings, Callee.DASK_OBJECTIVE), **common
        )

    def _iterate(
        self,
        iterations: Generator[Iteration, None, OptimizerState | None],
        last: ledger.Line | None,
        writer: RunWriter,
        reporter: RunReporter,
        stop: StopSignals,
    ) -> Ending:
        number, between = 0, None
        while last is None or self._reached(last) is None:
            try:
                iteration = next(iterations)
            except StopIteration as end:
                between = end.value
                break
            if number == 0:
                # Not sooner: damaged data or an unreachable cluster leave nothing behind.
                writer.begin()
            number += 1
            last = iteration.as_ledger_line()
            last |= self.scores.of_line(last)
            if iteration.iteration == 0:
                last |= {"method": self.record.settings.method, "store_digest": self.record.store.digest}
            writer.save(iteration.state, last)
            reporter.iteration(last)
            if self._reached(last) is None and (ending := self._interrupted(stop)) is not None:
                return ending
        if between is not None:
            writer.save_between(between)
            return self._interrupted(stop) or Ending.SIGNAL
        return (None if last is None else self._reached(last)) or Ending.OPTIMIZER

    def _interrupted(self, stop: StopSignals) -> Ending | None:
        """Return why a run ends before its method does: a signal, or its time."""
        if stop.received is not None:
            return Ending.SIGNAL
        limit_s = self.record.settings.time_limit_s
        return Ending.TIME if limit_s is not None and time.monotonic() - self.started >= limit_s else None

    def _reached(self, line: ledger.Line) -> Ending | None:
        """Return the limit of the optimiser that a line meets; it comes first, as nothing is left to resume."""
        settings = self.record.settings
        limit = limit_reached(line["iteration"], line["error"], settings.max_iterations, settings.target_error)
        if limit is None or limit is StopReason.ITERATIONS:
            rmse = line.get("rmse")
            if settings.target_rmse is not None and rmse is not None and rmse <= settings.target_rmse:
                return Ending.TARGET_RMSE
        return None if limit is None else Ending(limit.value)
