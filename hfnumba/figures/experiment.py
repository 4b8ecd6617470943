"""Experiments: runs of `hfnumba train` defined by settings, made once, and continued if interrupted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hfnumba import ledger
from hfnumba.errors import CheckpointError, NumericalError
from hfnumba.figures.options import FigureStopped
from hfnumba.optim.second_order import SECOND_ORDER_METHODS
from hfnumba.progress import Progress, Reporter
from hfnumba.run.config import settings_from
from hfnumba.run.directory import RunDirectory
from hfnumba.run.ending import Ending
from hfnumba.run.setting_types import ALL, EARLIER_ALL, by_earlier_number
from hfnumba.run.settings import TrainSettings, as_dict, fixed
from hfnumba.stop import print_in_handler

if TYPE_CHECKING:
    from hfnumba.store import Store

Lines = tuple[ledger.Line, ...]
_INTERVAL_S = 10.0
"""Seconds between two notes about a run."""


def _of_the_paper(settings: dict[str, Any]) -> dict[str, Any]:
    """Add what the paper's second-order methods do without: a preconditioner, and a sample for the line search."""
    if settings.get("method", TrainSettings(hidden=()).method) not in SECOND_ORDER_METHODS:
        return {name: value for name, value in settings.items() if name not in ("preconditioner", "line_rows")}
    return {"preconditioner": "none", "line_rows": ALL} | settings


@dataclass(frozen=True)
class Experiment:
    """Run defined by its settings, which also give the name of its directory.

    Attributes
    ----------
    settings : TrainSettings
        Settings of `hfnumba train`; the only limits are ``max_iterations`` and ``target_error``.
    """

    settings: TrainSettings

    @classmethod
    def of(cls, **settings: Any) -> Experiment:
        """Make an experiment from the settings that differ from the defaults."""
        return cls(settings_from(_of_the_paper(settings)))

    def but(self, **settings: Any) -> Experiment:
        """Return the same experiment with some settings changed."""
        return Experiment(settings_from(_of_the_paper(as_dict(self.settings) | settings)))

    @property
    def name(self) -> str:
        """Network, method and other settings that are not defaults; no limits, so a longer run serves for a shorter."""
        given, defaults = fixed(self.settings), fixed(TrainSettings(hidden=()))
        words = ["-".join(map(str, given.pop("hidden"))) or "linear", given.pop("method")]
        seed = given.pop("seed")
        words += [
            key if value is True else f"{key}={value}" for key, value in given.items() if value != defaults.get(key)
        ]
        return "_".join([*words, f"seed={seed}"]).replace("_rows=", "-rows=").replace("_rate=", "-rate=")

    @property
    def command(self) -> str:
        """Command line of the same run, without the store."""
        words = []
        for key, value in fixed(self.settings).items():
            if value == fixed(TrainSettings(hidden=())).get(key):
                continue
            text = ",".join(map(str, value)) if key == "hidden" else value
            words.append(f"--{key.replace('_', '-')}" + ("" if value is True else f" {text}"))
        return f"hfnumba train STORE {' '.join(words)} --max-iterations {self.settings.max_iterations}"

    def cut(self, lines: Sequence[ledger.Line]) -> Lines:
        """Return the lines up to the first limit that is reached; another figure may have continued the run."""
        found = []
        for line in lines:
            found.append(line)
            if self.ends_at(line):
                break
        return tuple(found)

    def ends_at(self, line: ledger.Line) -> bool:
        """Whether a line reaches one of the limits."""
        target, error = self.settings.target_error, line["error"]
        reached = target is not None and error is not None and error <= target
        return reached or bool(line["iteration"] >= self.settings.max_iterations)


class Schedule:
    """Number of the current run or measurement, and the time left by the mean time of those before it.

    Parameters
    ----------
    total : int
        Number of those that are missing; more may follow.
    started : float
        Time at which the first one begins, of :func:`time.monotonic`.
    what : str
        Word for one of them.
    """

    def __init__(self, total: int, started: float, what: str = "run") -> None:
        self._total, self._started, self._what, self._done = total, started, what, 0

    def next(self) -> str:
        """Begin a run; return ``run 3 of 10, about 12 min left``."""
        number, self._done = self._done + 1, self._done + 1
        total = max(self._total, number)
        if number == 1:
            return f"{self._what} {number} of {total}"
        left_s = (time.monotonic() - self._started) / (number - 1) * (total - number + 1)
        left = f"{left_s / 60:.0f} min" if left_s >= 90 else f"{left_s:.0f} s"
        return f"{self._what} {number} of {total}, about {left} left"

    def skip(self) -> None:
        """Leave out one that turned out not to be missing."""
        self._total -= 1


@dataclass(frozen=True)
class Laboratory:
    """Runs experiments on one store, in one folder.

    Attributes
    ----------
    store : Store
    runs : Path
        Folder with one directory per experiment.
    cluster : str
        Cluster, see :func:`hfnumba.launch.open_cluster`.
    reporter : Reporter
        Receiver of messages and progress.
    schedule : Schedule, optional
        Schedule of all runs of a figure; by default each call of :meth:`ledgers` counts its own.
    """

    store: Store
    runs: Path
    cluster: str
    reporter: Reporter
    schedule: Schedule | None = None

    def ledgers(self, experiments: Sequence[Experiment]) -> list[Lines]:
        """Make the runs that are not complete, in order, and return all ledgers, each up to its experiment's limits.

        Raises
        ------
        CheckpointError
            If a directory is damaged, or has a run with other settings or data than its experiment.
        FigureStopped
            If a signal arrived. The iterations until then are saved.
        """
        todo = [experiment for experiment in experiments if not self.is_done(experiment)]
        schedule = self.schedule or Schedule(len(todo), time.monotonic())
        for experiment in todo:
            self._train(experiment, f"{schedule.next()}: {experiment.name}")
        return [experiment.cut(ledger.read(self._directory(experiment).ledger)) for experiment in experiments]

    def _directory(self, experiment: Experiment) -> RunDirectory:
        found = RunDirectory(self.runs / experiment.name)
        earlier = RunDirectory(self.runs / experiment.name.replace(f"rows={ALL}", f"rows={EARLIER_ALL}"))
        return earlier if earlier.config.exists() and not found.config.exists() else found

    def is_done(self, experiment: Experiment) -> bool:
        """Whether the run of an experiment is complete.

        Raises
        ------
        CheckpointError
            If its directory is damaged, or has a run with other settings or data.
        """
        directory = self._directory(experiment)
        if not directory.config.exists():
            return False
        record = directory.record()
        wanted = by_earlier_number(fixed(experiment.settings), fixed(record.settings))
        # The record names the loss of the task where the settings choose none.
        found = {key: value for key, value in fixed(record.settings).items() if key != "loss" or key in wanted}
        wrong = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
        if record.store.digest != self.store.digest:
            wrong.append("data")
        if wrong:
            raise CheckpointError(
                f"{directory.path} has a run with other {', '.join(wrong)} than the figure needs; "
                "delete that folder, or give -o another one"
            )
        lines = ledger.read(directory.ledger)
        return any(map(experiment.ends_at, lines)) or (bool(lines) and bool(directory.newest().scalars.get("stopped")))

    def _train(self, experiment: Experiment, title: str) -> None:
        from hfnumba.run.training import train  # noqa: PLC0415 - slow to import

        directory = self._directory(experiment)
        settings = msgspec.structs.replace(experiment.settings, cluster=self.cluster)
        try:
            outcome = train(self.store.path, directory, as_dict(settings), _RunNotes(title, self.reporter), resume=True)
        except NumericalError as error:
            # The learning rate is too large; the ledger until then is a result too.
            if not ledger.read(directory.ledger):
                raise
            self.reporter.note(f"{title}: {error}")
            return
        if outcome.ending is Ending.SIGNAL:
            raise FigureStopped(f"stopped at a checkpoint of {directory.path}")


class _RunNotes:
    """Reporter of one run: a note every few seconds."""

    def __init__(self, title: str, reporter: Reporter) -> None:
        self._title, self._reporter, self._noted, self._limit = title, reporter, time.monotonic(), 0

    def note(self, text: str) -> None:
        """Pass on notes about compilation, which takes time."""
        if "compil" in text:
            self._reporter.note(text)

    def progress(self, what: str, unit: str) -> Progress:
        """Pass on the progress of long steps."""
        return self._reporter.progress(what, unit)

    def begin(self, settings: TrainSettings, line: ledger.Line | None) -> None:
        """Note which run begins or continues."""
        self._limit = settings.max_iterations
        self._reporter.note(self._title + ("" if line is None else f", continued after iteration {line['iteration']}"))

    def iteration(self, line: ledger.Line) -> None:
        """Note the state of the run, if the last note is old."""
        if time.monotonic() - self._noted < _INTERVAL_S:
            return
        self._noted = time.monotonic()
        error = "" if line["error"] is None else f", error {100 * line['error']:.2f} %"
        state = f"iteration {line['iteration']} of {self._limit}, loss {line['loss']:.4g}{error}"
        self._reporter.note(f"{self._title}: {state}")

    def stopping(self, signal_name: str) -> None:
        """Print that the run stops after this iteration."""
        again = "; press Ctrl-C again to stop at once" if signal_name == "SIGINT" else ""
        print_in_handler(f"stopping after this iteration{again}")
