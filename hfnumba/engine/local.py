"""Engine that evaluates all partitions on threads of this process, with the same bits as on a cluster."""

from __future__ import annotations

from hfnumba.engine.host import PartitionHost
from hfnumba.engine.memory import RecomputationNote
from hfnumba.engine.protocol import Problem, Round
from hfnumba.engine.tree import Sums
from hfnumba.errors import UsageError
from hfnumba.kernels.cache import compile_once
from hfnumba.processors import available_processors


class LocalEngine:
    """Evaluates every partition in this process.

    Parameters
    ----------
    problem : Problem
    n_threads : int, optional
        Number of threads; by default the processors this process may use.
    """

    def __init__(self, problem: Problem, n_threads: int | None = None) -> None:
        if n_threads is not None and n_threads < 1:
            raise UsageError(f"expected at least 1 thread, got {n_threads}; None means one per processor")
        compile_once()
        self._host = PartitionHost(problem, n_threads or available_processors())
        self._note = RecomputationNote()

    def run(self, request: Round) -> Sums:
        """Return the sums over all partitions, divided by the round's divisors."""
        host, n = self._host, self._host.problem.source.n_partitions
        host.receive(request.vectors, list(request.vectors))
        (total,) = host.evaluate(request.evaluations, range(n), request.divisors).values()
        self._note.check(host.n_recomputed, n)
        return total

    def done(self) -> int:
        """Partitions of the current round that are computed."""
        return self._host.n_done

    def close(self) -> None:
        """Stop the threads and drop the rows."""
        self._host.close()
