"""Iterations of a run: the cluster, the objectives, a checkpoint and a ledger line for each iteration, and limits."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hfnumba import ledger
from hfnumba.errors import NumericalError, StoppedError
from hfnumba.optim.early_stopping import BestSoFar
from hfnumba.optim.iteration import Iteration, OptimizerState
from hfnumba.optim.methods import Optimizer, settings_of
from hfnumba.progress import Reporter
from hfnumba.run.config import memory_bytes
from hfnumba.run.ending import Ending, reached
from hfnumba.run.options import Callee
from hfnumba.run.records import RunRecord
from hfnumba.run.scores import Scores
from hfnumba.run.settings import TrainSettings, arguments
from hfnumba.run.validation import best_of, optimizer_scalars, stopping_rule
from hfnumba.run.writer import RunWriter
from hfnumba.stop import StopSignals

if TYPE_CHECKING:
    from hfnumba.engine import RoundObjective
    from hfnumba.engine.held_out import SplitPart
    from hfnumba.engine.protocol import Companion
    from hfnumba.launch import Placement
    from hfnumba.network import Network
    from hfnumba.store import Split


class RunReporter(Reporter, Protocol):
    """Receiver of the messages, progress and iterations of a run."""

    def begin(self, settings: TrainSettings, line: ledger.Line | None) -> None:
        """Announce that iterations follow.

        Parameters
        ----------
        settings : TrainSettings
            Settings of the run.
        line : dict or None
            Last line of the ledger before an interruption; None for a new run.
        """
        ...

    def iteration(self, line: ledger.Line) -> None:
        """Show an iteration.

        Parameters
        ----------
        line : dict
            Line of the ledger.
        """
        ...

    def stopping(self, signal_name: str) -> None:
        """Announce that the current iteration is the last; called in a signal handler.

        Parameters
        ----------
        signal_name : str
            Name of the signal, such as ``"SIGINT"``.
        """
        ...


@dataclass(frozen=True)
class Loop:
    """Training loop with its constant parts.

    Attributes
    ----------
    record : RunRecord
    rows : mapping of str to Split or SplitPart
        Rows by their use: ``train``, and ``validation`` and ``test`` where there are any.
    optimizer : Optimizer
    network : Network
    theta : ndarray, shape (n_params,)
        Starting point of a new run.
    started : float
        ``time.monotonic()`` at which the run began, for the time limit.
    scores : Scores
        Conversion of errors to RMSE and R².
    """

    record: RunRecord
    rows: Mapping[str, Split | SplitPart]
    optimizer: Optimizer
    network: Network
    theta: Any
    started: float
    scores: Scores

    def run(self, writer: RunWriter, reporter: RunReporter, stop: StopSignals) -> Ending:
        """Open the cluster, and iterate until there is a reason to stop; a signal ends all waiting for a cluster."""
        try:
            return self._run(writer, reporter, stop)
        except StoppedError:
            writer.begin()
            return Ending.SIGNAL

    def _run(self, writer: RunWriter, reporter: RunReporter, stop: StopSignals) -> Ending:
        from hfnumba.kernels.cache import warm_up  # noqa: PLC0415 - slow to import
        from hfnumba.launch import open_cluster  # noqa: PLC0415

        settings, checkpoint = self.record.settings, writer.newest
        state, last = None, None
        if checkpoint is not None:
            state = OptimizerState.restore(checkpoint.tensors, optimizer_scalars(checkpoint))
            last = checkpoint.ledger_line
        with ExitStack() as stack:
            placement = stack.enter_context(open_cluster(settings.cluster, settings.threads, settings.worker_timeout_s))
            reporter.note(f"running on {placement.description}")
            if settings.curvature_rows is not None and "curvature_rows" not in settings_of(settings.method):
                reporter.note(f"{settings.method} uses no curvature, so --curvature-rows has no effect")
            if not settings.early_stopping and (settings.patience, settings.min_improvement) != (None, None):
                reporter.note("--patience and --min-improvement have no effect without --early-stopping")
            # Local workers share this machine's cache of compiled kernels; remote ones compile for themselves.
            warm_up(reporter.note, reporter.progress)
            objectives = {name: stack.enter_context(self._objective(name, placement, reporter)) for name in self.rows}
            if stop.received is not None:
                writer.begin()
                return Ending.SIGNAL
            reporter.begin(settings, last)
            iterations = self.optimizer.iterate(
                objectives["train"],
                self.theta,
                test=objectives.get("test"),
                validation=objectives.get("validation"),
                state=state,
                stop=lambda: self._interrupted(stop) is not None,
            )
            return self._iterate(iterations, last, writer, reporter, stop)

    def _companion(self, name: str) -> Companion | None:
        """Return the rows with which the objective of some shares the memory of a process; all but train yield."""
        from hfnumba.engine.class_weights import with_class_weights  # noqa: PLC0415 - slow to import
        from hfnumba.engine.protocol import Companion  # noqa: PLC0415

        weights = self.record.store.class_weights or None
        sources = {other: with_class_weights(rows, weights) for other, rows in self.rows.items() if other != name}
        if not sources:
            return None
        first = sources.pop("train") if name != "train" else sources.pop(next(iter(sources)))
        return Companion(first, name == "train", tuple(sources.values()))

    def _objective(self, name: str, placement: Placement, reporter: Reporter) -> RoundObjective:
        from hfnumba.engine import DaskObjective, SplitObjective  # noqa: PLC0415 - slow to import

        settings, split = self.record.settings, self.rows[name]
        common: Any = {
            "memory": memory_bytes(settings),
            "companion": self._companion(name),
            "class_weights": self.record.store.class_weights or None,
            "reporter": reporter,
            **arguments(settings, Callee.OBJECTIVE),
        }
        if name == "validation":
            # A penalty that falls is no better fit to rows that were not trained on.
            common["l2"] = 0.0
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
        rule, best = stopping_rule(self.record.settings), self._best(writer)
        number, between = 0, None
        # A limit comes before a signal, as nothing is left to resume.
        if last is not None and (ending := reached(self.record.settings, last, best)) is not None:
            return ending
        while True:
            try:
                iteration = next(iterations)
            except StopIteration as end:
                between = end.value
                break
            last = iteration.as_ledger_line()
            last |= self.scores.of_line(last)
            if number == 0:
                # Not sooner: damaged data or an unreachable cluster leave nothing behind.
                self._require_finite(iteration)
                writer.begin()
            number += 1
            if iteration.iteration == 0:
                last |= {"method": self.record.settings.method, "store_digest": self.record.store.digest}
            if best is not None:
                best = rule.after(best, iteration.iteration, last["validation_loss"])
                last["best_iteration"] = best.iteration
            writer.save(iteration.state, last, best)
            reporter.iteration(last)
            if (ending := reached(self.record.settings, last, best)) is not None:
                return ending
            if (ending := self._interrupted(stop)) is not None:
                return ending
        if between is not None:
            writer.save_between(between, best)
            return self._interrupted(stop) or Ending.SIGNAL
        return Ending.OPTIMIZER

    def _best(self, writer: RunWriter) -> BestSoFar | None:
        """Return the state of early stopping at which the iterations begin; None without validation rows."""
        if "validation" not in self.rows:
            return None
        return (best_of(writer.newest) if writer.newest is not None else None) or BestSoFar()

    def _require_finite(self, iteration: Iteration) -> None:
        """Refuse validation rows whose loss is not finite at the start: they could not choose an iteration."""
        loss = iteration.validation_loss
        if iteration.iteration == 0 and loss is not None and not math.isfinite(loss):
            raise NumericalError(
                f"the loss over the {self.rows['validation'].n_rows} validation rows is {loss} at the starting point; "
                "correct their features and targets, which are too large"
            )

    def _interrupted(self, stop: StopSignals) -> Ending | None:
        """Return why a run ends before its method does: a signal, or its time."""
        if stop.received is not None:
            return Ending.SIGNAL
        limit_s = self.record.settings.time_limit_s
        return Ending.TIME if limit_s is not None and time.monotonic() - self.started >= limit_s else None
