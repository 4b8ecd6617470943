"""Experiments: runs of `hfnumba train` by description, carried out once, and continued if they were interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hfnumba import ledger
from hfnumba.errors import CheckpointError, NumericalError
from hfnumba.figures.options import FigureStopped, Say
from hfnumba.run.config import settings_from
from hfnumba.run.directory import RunDirectory
from hfnumba.run.settings import TrainSettings, as_dict, fixed

if TYPE_CHECKING:
    from hfnumba.progress import Progress
    from hfnumba.store import Store

Lines = tuple[ledger.Line, ...]
_EVERY_S = 10.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class Experiment:
    """One run by its settings, which also make the name of its directory.

    Attributes
    ----------
    settings : TrainSettings
        As `hfnumba train` takes them; of the limits only ``max_iterations`` and ``target_error``.
    """

    settings: TrainSettings

    @classmethod
    def of(cls, **settings: Any) -> Experiment:
        """Make one from what differs from the defaults."""
        return cls(settings_from(settings))

    def but(self, **settings: Any) -> Experiment:
        """Return the same experiment with other settings."""
        return Experiment(settings_from(as_dict(self.settings) | settings))

    @property
    def name(self) -> str:
        """Network, method, and what else is not as usual. Limits are left out: a longer run serves a shorter one."""
        given, usual = fixed(self.settings), fixed(TrainSettings(hidden=()))
        words = ["-".join(map(str, given.pop("hidden"))) or "linear", given.pop("method")]
        seed = given.pop("seed")
        words += [key if value is True else f"{key}={value}" for key, value in given.items() if value != usual.get(key)]
        return "_".join([*words, f"seed={seed}"]).replace("_rows=", "-rows=").replace("_rate=", "-rate=")

    @property
    def command(self) -> str:
        """The command line of the same run, without the store."""
        words = []
        for key, value in fixed(self.settings).items():
            if value == fixed(TrainSettings(hidden=())).get(key):
                continue
            text = ",".join(map(str, value)) if key == "hidden" else value
            words.append(f"--{key.replace('_', '-')}" + ("" if value is True else f" {text}"))
        return f"hfnumba train STORE {' '.join(words)} --max-iterations {self.settings.max_iterations}"

    def cut(self, lines: Sequence[ledger.Line]) -> Lines:
        """Return the lines up to the first limit that is met; the run may have gone on for another figure."""
        kept = []
        for line in lines:
            kept.append(line)
            if self.ends_at(line):
                break
        return tuple(kept)

    def ends_at(self, line: ledger.Line) -> bool:
        """Tell whether a line meets one of the limits."""
        target, error = self.settings.target_error, line["error"]
        reached = target is not None and error is not None and error <= target
        return reached or bool(line["iteration"] >= self.settings.max_iterations)


@dataclass(frozen=True)
class Laboratory:
    """Where experiments are carried out.

    Attributes
    ----------
    store : Store
    runs : Path
        Folder with a directory for each experiment.
    cluster : str
        See :func:`hfnumba.launch.open_cluster`.
    say : callable
        Takes sentences of progress.
    """

    store: Store
    runs: Path
    cluster: str
    say: Say

    def ledgers(self, experiments: Sequence[Experiment]) -> list[Lines]:
        """Carry out what is not complete, in order, and return the ledgers, each up to its experiment's limits.

        Raises
        ------
        CheckpointError
            If a directory is damaged, or holds a run of other settings or data than its experiment.
        FigureStopped
            If a signal came. What was done until then is kept.
        """
        todo = [experiment for experiment in experiments if not self._is_done(experiment)]
        for number, experiment in enumerate(todo, start=1):
            self._train(experiment, f"run {number} of {len(todo)}, {experiment.name}")
        return [experiment.cut(ledger.read(self._directory(experiment).ledger)) for experiment in experiments]

    def _directory(self, experiment: Experiment) -> RunDirectory:
        return RunDirectory(self.runs / experiment.name)

    def _is_done(self, experiment: Experiment) -> bool:
        directory = self._directory(experiment)
        if not directory.config.exists():
            return False
        record = directory.record()
        wanted = fixed(experiment.settings)
        # The loss that the task brings is written down where none was chosen.
        found = {key: value for key, value in fixed(record.settings).items() if key != "loss" or key in wanted}
        wrong = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
        if record.store.digest != self.store.digest:
            wrong.append("data")
        if wrong:
            raise CheckpointError(
                f"{directory.path} holds a run of other {', '.join(wrong)} than the figure needs; "
                "delete that folder, or give -o another one"
            )
        lines = ledger.read(directory.ledger)
        return any(map(experiment.ends_at, lines)) or (bool(lines) and bool(directory.newest().scalars.get("stopped")))

    def _train(self, experiment: Experiment, title: str) -> None:
        from hfnumba.run.training import Ending, train  # noqa: PLC0415 - slow to import

        directory = self._directory(experiment)
        settings = msgspec.structs.replace(experiment.settings, cluster=self.cluster)
        try:
            outcome = train(self.store.path, directory, as_dict(settings), _Progress(title, self.say), resume=True)
        except NumericalError as error:
            # A learning rate that is too large; the ledger until then is a result too.
            if not ledger.read(directory.ledger):
                raise
            self.say(f"{title}: {error}")
            return
        if outcome.ending is Ending.SIGNAL:
            raise FigureStopped(f"stopped at a checkpoint of {directory.path}")


class _Progress:
    """Says now and then how a run goes."""

    def __init__(self, title: str, say: Say) -> None:
        self._title, self._say, self._said, self._limit = title, say, time.monotonic(), 0

    def note(self, text: str) -> None:
        """Pass on what takes time: kernels that are compiled."""
        if "compil" in text:
            self._say(text)

    def watch(self, what: str, unit: str) -> Progress:
        """Show no steps: a figure's data are small."""
        return lambda done, total: None

    def begin(self, settings: TrainSettings, line: ledger.Line | None) -> None:
        """Say which run begins or continues."""
        self._limit = settings.max_iterations
        self._say(self._title + ("" if line is None else f", continued after iteration {line['iteration']}"))

    def iteration(self, line: ledger.Line) -> None:
        """Say where the run is, if nothing was said for a while."""
        if time.monotonic() - self._said < _EVERY_S:
            return
        self._said = time.monotonic()
        error = "" if line["error"] is None else f", error {100 * line['error']:.2f} %"
        self._say(f"{self._title}: iteration {line['iteration']} of {self._limit}, loss {line['loss']:.4g}{error}")

    def stopping(self, signal_name: str) -> None:
        """Say so; past Python's buffers, because a signal handler may interrupt a write through them."""
        once_more = "; press Ctrl-C again to stop at once" if signal_name == "SIGINT" else ""
        os.write(2, f"\nstopping after this iteration{once_more}\n".encode())
