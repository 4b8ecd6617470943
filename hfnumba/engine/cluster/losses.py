"""Losses of workers: one that is lost in a round is not asked again while there are others.

One that is lost in round after round is asked more and more rarely.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from hfnumba.errors import ClusterError

_MAX_REST_S = 3600.0
# Losses of a worker after which it is not asked again in a round.
_MAX_LOST = 3
# Rounds that a worker finishes one after another before its losses are forgotten. Where a network loses large packets
# only, one with small messages is finished now and then.
_N_FORGIVEN = 10


def least_lost(threads: Mapping[str, int], losses: Mapping[str, int], reason: str) -> dict[str, int]:
    """Return the workers, with their threads, that have been lost least often in a round.

    Parameters
    ----------
    threads, losses : mapping of str to int
        Threads and losses of each worker.
    reason : str
        Sentence about the last loss.

    Raises
    ------
    ClusterError
        If each has been lost three times.
    """
    least = min(losses[address] for address in threads)
    if least >= _MAX_LOST:
        raise ClusterError(
            f"{reason}; it was lost {least} times in one round, and there is no other worker; see its log and the "
            "network to it, then use --resume"
        )
    return {address: n for address, n in threads.items() if losses[address] == least}


class Losses:
    """Losses by the names of workers, which their new processes have too.

    After one loss a worker is asked again as soon as it is there. After another, with fewer than ten rounds finished in
    between, it rests for twice the time that a loss may take, then four times, and so on up to an hour.

    Parameters
    ----------
    silence_s : float
        Time that a loss may take.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(self, silence_s: float, clock: Callable[[], float]) -> None:
        self._silence_s, self._clock = silence_s, clock
        self._counts: Counter[str] = Counter()
        # Rounds finished since the last loss.
        self._finished: Counter[str] = Counter()
        self._rest_until: dict[str, float] = {}

    def lost(self, name: str) -> float:
        """Count a loss; return for how many seconds the worker rests."""
        self._counts[name] += 1
        self._finished[name] = 0
        if self._counts[name] == 1:
            return 0.0
        rest_s = min(self._silence_s * 2.0 ** min(self._counts[name] - 1, 30), _MAX_REST_S)
        self._rest_until[name] = self._clock() + rest_s
        return rest_s

    def answered(self, name: str) -> None:
        """Count that a worker has finished its part of a round; after ten of them its losses are deleted."""
        if self._counts[name]:
            self._finished[name] += 1
            if self._finished[name] == _N_FORGIVEN:
                for kept in (self._counts, self._finished, self._rest_until):
                    kept.pop(name, None)

    def rests(self, name: str) -> bool:
        """Whether a worker is not asked now, if there are others."""
        return self._clock() < self._rest_until.get(name, 0.0)
