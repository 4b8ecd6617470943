"""Training runs: beginning, continuing and ending them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hfnumba import ledger
from hfnumba.errors import CheckpointError
from hfnumba.run.config import memory_bytes, refuse_address, settings_from
from hfnumba.run.directory import RunDirectory, resumed_settings, shortened
from hfnumba.run.ending import Ending
from hfnumba.run.lock import locked
from hfnumba.run.loop import Loop, RunReporter
from hfnumba.run.method_settings import method_settings, optimizer_of
from hfnumba.run.new import new_record
from hfnumba.run.records import RunRecord
from hfnumba.run.scores import Scores
from hfnumba.run.settings import as_dict
from hfnumba.run.validation import rows_of_run
from hfnumba.run.writer import RunWriter
from hfnumba.stop import StopSignals


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    Attributes
    ----------
    ending : Ending
        Reason for the end.
    lines : tuple of dict
        Complete ledger, including the iterations before an interruption.
    """

    ending: Ending
    lines: tuple[ledger.Line, ...]


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
        Path of the store. Its split ``train`` is trained on; ``validation`` and ``test``, if there are any, are
        evaluated for the ledger, and the iteration with the lowest validation loss is kept.
    directory : RunDirectory
        Directory of the run: new or empty, or for ``resume`` that of the run to continue.
    given : mapping
        Settings by the names of :class:`TrainSettings`; for ``resume`` at most what may change, or as they were.
    reporter : RunReporter
        Receiver of messages, progress and iterations.
    resume : bool
        Whether to continue the run in the directory; if it holds none yet, it begins.
    trust_config : bool
        Whether to continue the run at the address of a cluster that only its ``config.toml`` names. The processes there
        can run code as the user, so by default ``given`` must have the setting ``cluster``.

    Returns
    -------
    Outcome
        Reason for the end, and the ledger.

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
    store = open_store(store_path).for_task(settings.task)
    record = new_record(store, settings, reporter, given)
    if recorded is None:
        directory.refuse_used()
    else:
        _refuse_other(directory, recorded, record)
    made = optimizer_of(settings, recorded)
    record = msgspec.structs.replace(record, optimizer=method_settings(settings.method, made))
    network, rows = record.network.network(), rows_of_run(store, record.settings)
    loop = Loop(
        record,
        rows,
        made,
        network,
        network.initialize(settings.seed, settings.init),  # type: ignore[arg-type]  # it checks the name itself
        started,
        Scores.of(rows, record.store, network, reporter),
    )
    with locked(directory.path) as lock, StopSignals(reporter.stopping) as stop:
        if resume and recorded is None:
            reporter.note(f"there is no run in {directory.path} yet; it begins")
        checkpoint, lines = (None, []) if recorded is None else directory.rewind(record)
        if lines and lines[0].get(ledger.LOST):
            reporter.note(f"the ledger begins with iteration {lines[0]['iteration']}: the lines before are lost")
        writer = RunWriter(directory, record, lock, checkpoint, lines)
        ending = Ending.SIGNAL if stop.received else loop.run(writer, reporter, stop)
        writer.finish()
    return Outcome(ending, tuple(map(loop.scores.completed, writer.lines)))


def _refuse_other(directory: RunDirectory, recorded: RunRecord, record: RunRecord) -> None:
    """Refuse to continue a run on other training rows."""
    if recorded.store.digest != record.store.digest:
        expected, found = shortened(recorded.store.digest, record.store.digest)
        raise CheckpointError(
            f"{directory.path} was trained on a store with digest {expected} "
            f"({recorded.store.path}), but {record.store.path} has {found}; give the same data"
        )
    if recorded.settings.validation_fraction != record.settings.validation_fraction:
        raise CheckpointError(
            f"{directory.path} was trained on all training rows, of which --early-stopping would hold out some; "
            "leave it out, or start another run"
        )
