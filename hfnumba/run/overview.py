"""State of a run from its files, while another process trains it: numbers, the last step and its reason, time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from hfnumba import ledger
from hfnumba.krylov.result import KrylovStatus
from hfnumba.run.directory import RunDirectory
from hfnumba.run.ending import best_so_far, reached
from hfnumba.run.lock import LOCK
from hfnumba.run.settings import TrainSettings

_RECENT = 5
"""Number of iterations whose time gives the time left."""


@dataclass(frozen=True)
class Overview:
    """State of a run, read from its files.

    Attributes
    ----------
    settings : TrainSettings
    lines : tuple of dict
        Lines of the ledger so far.
    age_s : float
        Seconds since the ledger was written to; 0 if there is none yet.
    """

    settings: TrainSettings
    lines: tuple[ledger.Line, ...]
    age_s: float

    @property
    def ending(self) -> str | None:
        """Reason why no iteration follows; None while the run may go on."""
        if not self.lines:
            return None
        last = self.lines[-1]
        limit = reached(self.settings, last, best_so_far(self.settings, self.lines))
        if limit is not None:
            return limit.value
        return last["note"] if "stopped: " in last["note"] else None

    @property
    def left_s(self) -> float | None:
        """Seconds until the limit of iterations at the pace of the last iterations; None if it is not known yet."""
        seconds = [line["elapsed_s"] for line in self.lines[-_RECENT - 1 :]]
        if len(seconds) < 2:
            return None
        each: float = median(after - before for before, after in pairwise(seconds))
        n_left = self.settings.max_iterations - int(self.lines[-1]["iteration"])
        return max(0.0, each * n_left - self.age_s)

    @property
    def step(self) -> str:
        """Direction of the last step, and why; empty if the method has none or makes its first step."""
        last = self.lines[-1] if self.lines else {}
        kind = last.get("direction")
        if kind is None:
            return str(last.get("note", ""))
        status = last["krylov_status"]
        known = status in KrylovStatus.__members__
        why = last["note"] or (f"solver: {KrylovStatus[status].value.partition(';')[0]}" if known else "")
        return f"{kind.replace('_', ' ')}, step length {last['alpha']:.3g}" + (f": {why}" if why else "")

    def values(self, name: str) -> Sequence[float | None]:
        """Return a field of all lines; None where a line has no number."""
        return [line.get(name) for line in self.lines]


def overview(path: Path) -> Overview | None:
    """Read the state of a run; None if a process prepares to begin it, such as by compiling kernels.

    Raises
    ------
    CheckpointError
        If this is no run, or its files are damaged.
    """
    directory = RunDirectory(path)
    if (path / LOCK).exists() and not directory.config.exists():
        return None
    settings = directory.record().settings
    lines = ledger.read(directory.ledger)
    age_s = max(0.0, time.time() - directory.ledger.stat().st_mtime) if lines else 0.0
    return Overview(settings, tuple(lines), age_s)
