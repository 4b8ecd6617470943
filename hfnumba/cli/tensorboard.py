"""Scalars of a run for TensorBoard, written beside its ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfnumba.cli.progress import stderr_reporter
from hfnumba.errors import UsageError
from hfnumba.ledger import Line

if TYPE_CHECKING:
    from hfnumba.progress import Progress
    from hfnumba.run import RunReporter, TrainSettings

FOLDER = "tensorboard"
_WITHOUT = ("iteration", "n_negative_curvature")


class TensorBoardReporter:
    """Reporter that writes every number of an iteration to ``RUN/tensorboard``, and passes all on to another one.

    Parameters
    ----------
    reporter : RunReporter
        Receiver of everything.
    run : Path
        Directory of the run; the folder is made with its first iteration.

    Raises
    ------
    UsageError
        If tensorboardX is not installed.
    """

    def __init__(self, reporter: RunReporter, run: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise UsageError(
                "--tensorboard needs tensorboardX; install it with `pip install 'hfnumba[tensorboard]'`"
            ) from None
        self._reporter, self._folder, self._make = reporter, run / FOLDER, SummaryWriter
        self._writer: Any = None
        self._first = 0

    def note(self, text: str) -> None:
        """Pass a sentence on."""
        self._reporter.note(text)

    def progress(self, what: str, unit: str) -> Progress:
        """Pass a step on."""
        return self._reporter.progress(what, unit)

    def begin(self, settings: TrainSettings, line: Line | None) -> None:
        """Note where an interrupted run continues: what TensorBoard has of later iterations is dropped there."""
        self._first = 0 if line is None else line["iteration"] + 1
        self._reporter.begin(settings, line)

    def iteration(self, line: Line) -> None:
        """Write the numbers of an iteration."""
        if self._writer is None:
            # Files are named by the second, and a run may be resumed within the second of its start.
            suffix = f".{self._first}"
            self._writer = self._make(str(self._folder), purge_step=self._first or None, filename_suffix=suffix)
        for name, value in line.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in _WITHOUT:
                self._writer.add_scalar(name, value, line["iteration"])
        self._writer.flush()
        self._reporter.iteration(line)

    def stopping(self, signal_name: str) -> None:
        """Pass a signal on."""
        self._reporter.stopping(signal_name)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def run_reporter(run: Path, tensorboard: bool) -> Iterator[RunReporter]:
    """Yield a reporter that suits stderr, and writes for TensorBoard if asked for."""
    with stderr_reporter() as reporter:
        if not tensorboard:
            yield reporter
            return
        both = TensorBoardReporter(reporter, run)
        try:
            yield both
        finally:
            both.close()
