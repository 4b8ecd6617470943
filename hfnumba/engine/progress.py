"""The first round of an objective reads the rows; it may tell how far it has come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from hfnumba.engine.protocol import Engine, Round
from hfnumba.engine.tree import Sums
from hfnumba.progress import Progress, Watch

_EVERY_S = 0.5


class Counting(Engine, Protocol):
    """An engine that knows how far a round is."""

    def done(self) -> int:
        """Partitions of the round under way that are computed; another thread may ask."""
        ...


class Telling:
    """An engine that tells about the first round of another one, and passes on all rounds.

    Parameters
    ----------
    engine : Counting
    what : str
        Name of the step.
    n_partitions : int
    watch : callable
        Called when the round begins; what it returns is called by another thread.
    """

    def __init__(self, engine: Counting, what: str, n_partitions: int, watch: Watch) -> None:
        self._engine, self._what, self._total = engine, what, n_partitions
        self._watch: Watch | None = watch

    def run(self, request: Round) -> Sums:
        """Pass a round on."""
        if self._watch is None:
            return self._engine.run(request)
        progress, self._watch = self._watch(self._what, "partitions"), None
        with self._told(progress):
            return self._engine.run(request)

    @contextmanager
    def _told(self, progress: Progress) -> Iterator[None]:
        over = threading.Event()

        def tell() -> None:
            while not over.wait(_EVERY_S):
                progress(min(self._engine.done(), self._total), self._total)

        teller = threading.Thread(target=tell, name="hfnumba-tell", daemon=True)
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()
        progress(self._total, self._total)

    def close(self) -> None:
        """Close the other."""
        self._engine.close()
