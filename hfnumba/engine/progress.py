"""Progress of an objective's first round, which reads the rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from hfnumba.engine.protocol import Engine, Round
from hfnumba.engine.tree import Sums
from hfnumba.progress import Progress, Reporter

_INTERVAL_S = 0.5


class CountingEngine(Engine, Protocol):
    """Engine that counts the partitions computed in the current round."""

    def done(self) -> int:
        """Number of partitions computed in the current round; may be called from another thread."""
        ...


class FirstRoundProgress:
    """Engine that passes all rounds to another engine and reports the progress of the first one.

    Parameters
    ----------
    engine : CountingEngine
        Engine that computes the rounds.
    what : str
        Name of the step.
    n_partitions : int
        Number of partitions of a round.
    reporter : Reporter
        Receiver of the progress; called from another thread.
    """

    def __init__(self, engine: CountingEngine, what: str, n_partitions: int, reporter: Reporter) -> None:
        self._engine, self._what, self._total = engine, what, n_partitions
        self._reporter: Reporter | None = reporter

    def run(self, request: Round) -> Sums:
        """Run a round on the wrapped engine."""
        if self._reporter is None:
            return self._engine.run(request)
        progress, self._reporter = self._reporter.progress(self._what, "partitions"), None
        with self._reporting(progress):
            return self._engine.run(request)

    @contextmanager
    def _reporting(self, progress: Progress) -> Iterator[None]:
        """Report from another thread until the round is over; its end only if it did not fail."""
        over = threading.Event()

        def poll() -> None:
            while not over.wait(_INTERVAL_S):
                progress(min(self._engine.done(), self._total), self._total)

        thread = threading.Thread(target=poll, name="hfnumba-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        progress(self._total, self._total)

    def close(self) -> None:
        """Close the wrapped engine."""
        self._engine.close()
