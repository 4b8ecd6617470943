"""All partitions in this process, on threads. What a cluster does, without one: the same sums, the same bits."""

from __future__ import annotations

from hfnumba.engine.host import Job, PartitionHost
from hfnumba.engine.protocol import Round
from hfnumba.engine.tree import Sums
from hfnumba.errors import UsageError
from hfnumba.processors import available_processors


class SerialEngine:
    """Evaluates every partition here.

    Parameters
    ----------
    job : Job
    n_threads : int, optional
        Default: the processors this process may use.
    """

    def __init__(self, job: Job, n_threads: int | None = None) -> None:
        if n_threads is not None and n_threads < 1:
            raise UsageError(f"the number of threads must be at least 1, got {n_threads}")
        self._host = PartitionHost(job, n_threads or available_processors())

    def run(self, request: Round) -> Sums:
        """The sums over all partitions, divided where the request says so."""
        host, n = self._host, self._host.job.source.n_partitions
        host.receive(request.vectors, list(request.vectors))
        (total,) = host.evaluate(request.evaluations, range(n), request.divisors).values()
        return total

    def done(self) -> int:
        """Partitions of the round under way that are computed."""
        return self._host.n_done

    def close(self) -> None:
        """Stop the threads and forget the rows."""
        self._host.close()
