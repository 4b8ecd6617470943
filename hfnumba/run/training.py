"""Training loop of a run: a checkpoint and a ledger line for each iteration, limits, and signals."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from hfnumba import ledger
from hfnumba.checkpoint import Checkpoint, write_checkpoint
from hfnumba.errors import CheckpointError, StoppedError, UsageError
from hfnumba.optim.iteration import Iteration, OptimizerState
from hfnumba.optim.limits import StopReason, limit_reached
from hfnumba.optim.methods import Optimizer, optimizer, settings_of
from hfnumba.progress import Reporter
from hfnumba.run.config import memory_bytes, settings_from
from hfnumba.run.directory import NetworkRecord, RunDirectory, RunRecord, StoreRecord, resumed_settings
from hfnumba.run.options import Callee
from hfnumba.run.settings import TrainSettings, arguments, optimizer_settings
from hfnumba.stop import StopSignals

if TYPE_CHECKING:
    from hfnumba.engine import RoundObjective
    from hfnumba.launch import Placement
    from hfnumba.network import Network
    from hfnumba.store import Split, Store

LOSS_OF_TASK = {"classification": "softmax_cross_entropy", "regression": "squared_error"}


class Ending(Enum):
    """Reason for the end of a run; the value is a sentence."""

    ITERATIONS = StopReason.ITERATIONS.value
    TARGET = StopReason.TARGET_ERROR.value
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
    parse(settings.cluster)
    memory_bytes(settings)
    store = open_store(store_path)
    record = _record(store, settings, reporter)
    if recorded is None:
        directory.refuse_used()
    elif recorded.store.digest != store.digest:
        raise CheckpointError(
            f"{directory.path} was trained on a store with digest {recorded.store.digest[:12]} "
            f"({recorded.store.path}), but {store.path} has {store.digest[:12]}; give the same data"
        )
    network = record.network.network()
    loop = _Loop(
        directory,
        record,
        optimizer(settings.method, **optimizer_settings(settings)),
        network,
        network.initialize(settings.seed, settings.init),  # type: ignore[arg-type]  # it checks the name itself
        started,
    )
    with directory.locked(), StopSignals(reporter.stopping) as stop:
        if resume and recorded is None:
            reporter.note(f"there is no run in {directory.path} yet; it begins")
        checkpoint = directory.rewind(record) if recorded is not None else None
        ending = Ending.SIGNAL if stop.received else loop.run(store, checkpoint, reporter, stop)
    return Outcome(ending, tuple(ledger.read(directory.ledger)))


def _record(store: Store, settings: TrainSettings, reporter: RunReporter) -> RunRecord:
    split = store["train"]
    settings = msgspec.structs.replace(settings, loss=settings.loss or LOSS_OF_TASK[split.task])
    sizes = (split.n_features, *settings.hidden, split.n_outputs)
    return RunRecord(
        settings=settings,
        network=NetworkRecord(sizes=sizes, activation=settings.activation, loss=str(settings.loss)),
        store=StoreRecord(
            path=str(store.path),
            digest=store.digest,
            task=split.task,
            scale=split.scale,
            offset=split.offset,
            context=split.layout.context,
            mean=split.standardisation.mean if split.standardisation else (),
            deviation=split.standardisation.deviation if split.standardisation else (),
            class_weights=_class_weights(split, settings, reporter),
        ),
    )


def _class_weights(split: Split, settings: TrainSettings, reporter: RunReporter) -> tuple[float, ...]:
    """Return the weights of the classes; empty for none."""
    from hfnumba.store.class_weights import balanced, checked_class_weights  # noqa: PLC0415 - slow to import

    if settings.class_weights is None:
        return ()
    if split.n_classes is None:
        raise UsageError(f"class weights need classes, but {split.path} is for regression; leave out --class-weights")
    if settings.class_weights == "balanced":
        return balanced(split, reporter)
    return checked_class_weights(settings.class_weights, split.n_classes)


@dataclass(frozen=True)
class _Loop:
    """Training loop with its constant parts."""

    directory: RunDirectory
    record: RunRecord
    optimizer: Optimizer
    network: Network
    theta: Any
    started: float

    def run(self, store: Store, checkpoint: Checkpoint | None, reporter: RunReporter, stop: StopSignals) -> Ending:
        """Open the cluster, and iterate until there is a reason to stop; a signal ends all waiting for a cluster."""
        try:
            return self._run(store, checkpoint, reporter, stop)
        except StoppedError:
            self.directory.write_config(self.record)
            return Ending.SIGNAL

    def _run(self, store: Store, checkpoint: Checkpoint | None, reporter: RunReporter, stop: StopSignals) -> Ending:
        from hfnumba.kernels.cache import warm_up  # noqa: PLC0415 - slow to import
        from hfnumba.launch import open_cluster  # noqa: PLC0415

        settings = self.record.settings
        state = None if checkpoint is None else OptimizerState.restore(checkpoint.tensors, checkpoint.scalars)
        last = None if checkpoint is None else checkpoint.ledger_line
        with ExitStack() as stack:
            placement = stack.enter_context(open_cluster(settings.cluster, settings.threads, settings.worker_timeout_s))
            reporter.note(f"running on {placement.description}")
            if settings.curvature_rows is not None and "curvature_rows" not in settings_of(settings.method):
                reporter.note(f"{settings.method} uses no curvature, so --curvature-rows has no effect")
            # Local workers share this machine's cache of compiled kernels; remote ones compile for themselves.
            warm_up(reporter.note)
            memory, for_test = self._memory(store)
            objective = stack.enter_context(self._objective(store["train"], placement, reporter, memory))
            test = None
            if "test" in store.splits:
                cache_rows = memory is None or for_test is not None
                share = for_test or memory
                test = stack.enter_context(self._objective(store["test"], placement, reporter, share, cache_rows))
            if stop.received is not None:
                self.directory.write_config(self.record)
                return Ending.SIGNAL
            reporter.begin(settings, last)
            iterations = self.optimizer.iterate(objective, self.theta, test=test, state=state)
            return self._iterate(iterations, last, reporter, stop)

    def _memory(self, store: Store) -> tuple[int | None, int | None]:
        """Return the bytes of a worker for the training rows and for the test rows."""
        from hfnumba.engine.class_weights import with_class_weights  # noqa: PLC0415 - slow to import
        from hfnumba.engine.memory import divide_memory  # noqa: PLC0415

        memory = memory_bytes(self.record.settings)
        if memory is None or "test" not in store.splits:
            return memory, None
        weights = self.record.store.class_weights or None
        train, test = (with_class_weights(store[name], weights) for name in ("train", "test"))
        return divide_memory(self.network, train, test, memory)

    def _objective(
        self, split: Split, placement: Placement, reporter: RunReporter, memory: int | None, cache_rows: bool = True
    ) -> RoundObjective:
        from hfnumba.engine import DaskObjective, SplitObjective  # noqa: PLC0415 - slow to import

        settings = self.record.settings
        common: Any = {
            "memory": memory,
            "cache_rows": cache_rows,
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
        self, iterations: Iterator[Iteration], last: ledger.Line | None, reporter: RunReporter, stop: StopSignals
    ) -> Ending:
        limit_s = self.record.settings.time_limit_s
        for number, iteration in enumerate(iterations):
            if number == 0:
                # Not sooner: damaged data or an unreachable cluster leave nothing behind.
                self.directory.write_config(self.record)
            last = iteration.as_ledger_line()
            if iteration.iteration == 0:
                last |= {"method": self.record.settings.method, "store_digest": self.record.store.digest}
            self._save(iteration.state, last)
            reporter.iteration(last)
            if self._reached(last) is None:
                if stop.received is not None:
                    return Ending.SIGNAL
                if limit_s is not None and time.monotonic() - self.started >= limit_s:
                    return Ending.TIME
        return (None if last is None else self._reached(last)) or Ending.OPTIMIZER

    def _reached(self, line: ledger.Line) -> Ending | None:
        """Return the limit of the optimiser that a line meets; it comes first, as nothing is left to resume."""
        settings = self.record.settings
        limit = limit_reached(line["iteration"], line["error"], settings.max_iterations, settings.target_error)
        return None if limit is None else Ending(limit.value)

    def _save(self, state: OptimizerState, line: ledger.Line) -> None:
        checkpoint = Checkpoint(
            iteration=state.iteration,
            tensors=state.tensors(),
            scalars=state.scalars(),
            store_digest=self.record.store.digest,
            settings_digest=self.record.settings_digest,
            ledger_line=line,
        )
        write_checkpoint(self.directory.checkpoints, checkpoint)
        ledger.append(self.directory.ledger, line)
