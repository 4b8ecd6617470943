"""Writes the files of a run while it trains, and again where others have removed them meanwhile."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hfnumba import ledger
from hfnumba.checkpoint import Checkpoint, discard_after, iterations, json_path, write_checkpoint
from hfnumba.errors import CheckpointError
from hfnumba.optim.early_stopping import BestSoFar
from hfnumba.optim.iteration import OptimizerState
from hfnumba.run.directory import RunDirectory
from hfnumba.run.lock import DirectoryLock
from hfnumba.run.records import RunRecord
from hfnumba.run.validation import BEST


class RunWriter:
    """Writer of a run's files, which remembers what must be there.

    Parameters
    ----------
    directory : RunDirectory
        Directory of the run.
    record : RunRecord
        Content of ``config.toml``.
    lock : DirectoryLock
        Lock of the directory, acquired.
    checkpoint : Checkpoint or None
        Checkpoint that a resumed run continues from.
    lines : sequence of dict
        Ledger of a resumed run up to that checkpoint.
    """

    def __init__(
        self,
        directory: RunDirectory,
        record: RunRecord,
        lock: DirectoryLock,
        checkpoint: Checkpoint | None = None,
        lines: Sequence[ledger.Line] = (),
    ) -> None:
        self.lines = list(lines)
        self._directory, self._record, self._lock = directory, record, lock
        self._newest = checkpoint
        self._nbytes: dict[Path, int] = {}

    @property
    def newest(self) -> Checkpoint | None:
        """Newest checkpoint; None before the first iteration of a new run."""
        return self._newest

    def begin(self) -> None:
        """Write ``config.toml``, with the limits and the placement that hold from now on.

        Raises
        ------
        CheckpointError
            See :meth:`save`.
        """
        self._refuse(self._removed())
        self._directory.write_config(self._record)
        self._remember(self._directory.config)

    def save(self, state: OptimizerState, line: ledger.Line, best: BestSoFar | None = None) -> None:
        """Write the checkpoint of an iteration, first as the best if it is that, and then its line of the ledger.

        Raises
        ------
        CheckpointError
            If a file cannot be written, or if files of the run were removed or changed. These are written again first,
            so that nothing is lost but what a run that has begun in the same place meanwhile would lose.
        """
        removed = self._removed()
        self.lines.append(line)
        self._newest = self._checkpoint(state, line, best)
        self._refuse(removed)
        if best is not None and best.iteration == state.iteration:
            # The newest names the best by its iteration, so the best is there before it.
            discard_after(self._directory.best_checkpoints, state.iteration)
            write_checkpoint(self._directory.best_checkpoints, self._newest)
        written = write_checkpoint(self._directory.checkpoints, self._newest)
        ledger.append(self._directory.ledger, line)
        self._remember(written, written.with_suffix(".safetensors"), self._directory.ledger)

    def save_between(self, state: OptimizerState, best: BestSoFar | None = None) -> None:
        """Write a state between two iterations in the place of the checkpoint of the last one.

        Raises
        ------
        CheckpointError
            See :meth:`save`.
        """
        removed = self._removed()
        self._newest = self._checkpoint(state, self.lines[-1], best)
        self._refuse(removed)
        written = write_checkpoint(self._directory.checkpoints, self._newest)
        self._remember(written, written.with_suffix(".safetensors"))

    def _checkpoint(self, state: OptimizerState, line: ledger.Line, best: BestSoFar | None) -> Checkpoint:
        return Checkpoint(
            iteration=state.iteration,
            tensors=state.tensors(),
            scalars=state.scalars() | ({} if best is None else {BEST: asdict(best)}),
            store_digest=self._record.store.digest,
            settings_digest=self._record.settings_digest,
            ledger_line=line,
        )

    def finish(self) -> None:
        """Check that all files of the run are there, and that the ledger is what was written.

        Raises
        ------
        CheckpointError
            See :meth:`save`.
        """
        removed = self._removed()
        try:
            changed = ledger.read(self._directory.ledger) != self.lines
        except CheckpointError:
            changed = True
        if changed and self._directory.ledger not in removed:
            removed.append(self._directory.ledger)
        self._refuse(removed)

    def _remember(self, *paths: Path) -> None:
        """Record the sizes of files that were just written, and forget those of older checkpoints."""
        lasting = {self._directory.config, self._directory.ledger}
        self._nbytes = {path: size for path, size in self._nbytes.items() if path in lasting}
        for path in paths:
            # A file that is gone already is missed at the next iteration.
            with contextlib.suppress(OSError):
                self._nbytes[path] = path.stat().st_size

    def _is_there(self, path: Path) -> bool:
        try:
            found = path.stat()
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == self._nbytes.get(path, found.st_size)

    def _removed(self) -> list[Path]:
        """Return the files that were written, or read by the resumed run, and are not there or have another size."""
        if self._newest is None:
            return []
        record = json_path(self._directory.checkpoints, self._newest.iteration)
        files = (self._directory.config, self._directory.ledger, record, record.with_suffix(".safetensors"))
        return [path for path in files if not self._is_there(path)]

    def _refuse(self, removed: Sequence[Path]) -> None:
        """Lock the directory again if it no longer is; write the run again and raise if files of it are missing."""
        locked, folder = self._lock.holds(), self._directory.path
        if locked and not removed:
            return
        names = ", ".join(str(path.relative_to(folder)) for path in removed) or "the lock file"
        fault = f"{names} of the run in {folder} went missing or changed while it trained"
        try:
            if not locked:
                self._lock.acquire()
                self._refuse_another_run()
            if not removed:
                return
            self._write_again()
        except CheckpointError as error:
            raise CheckpointError(f"{fault}; the run stops, and its files are not written again: {error}") from error
        raise CheckpointError(
            f"{fault}; its files are written again, up to iteration {self.lines[-1]['iteration']}, and the run stops; "
            "find out what removes files there, then continue with --resume"
        )

    def _refuse_another_run(self) -> None:
        """Refuse to write over a run that has begun in this place."""
        ours, n_done = self._record, -1 if self._newest is None else self._newest.iteration
        further = any(iteration > n_done for iteration in iterations(self._directory.checkpoints))
        found = self._directory.record() if self._directory.config.exists() else ours
        if further or (found.settings_digest, found.store.digest) != (ours.settings_digest, ours.store.digest):
            raise CheckpointError(f"another run has begun in {self._directory.path}; give each run its own directory")

    def _write_again(self) -> None:
        assert self._newest is not None
        self._directory.write_config(self._record)
        write_checkpoint(self._directory.checkpoints, self._newest)
        ledger.write(self._directory.ledger, self.lines)
