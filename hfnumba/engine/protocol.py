"""What a round is made of, and what may carry one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from hfnumba.engine.host import Evaluation
from hfnumba.engine.tree import Divisors, Sums


@dataclass(frozen=True)
class Round:
    """A request: evaluations to be answered together.

    Attributes
    ----------
    evaluations : tuple of Evaluation
    vectors : mapping of str to ndarray
        Every vector that the evaluations or later rounds may read, by a name that is never used again for another
        vector. A transport sends only those that the other side does not have, and the other side forgets those
        that are not among them.
    divisors : tuple
        What to divide each array of the sums by, a number of the array's dtype or None for those that are left as they
        are: an engine does it while it has the sums in its cache. Empty: nothing is divided.
    """

    evaluations: tuple[Evaluation, ...]
    vectors: Mapping[str, NDArray[Any]]
    divisors: Divisors = ()


class Engine(Protocol):
    """Carries a round to all partitions and brings back the one reduced answer."""

    def run(self, request: Round) -> Sums:
        """The sums of all evaluations over all partitions, one after another, divided where the request says so."""
        ...

    def close(self) -> None:
        """Let go of whatever the workers hold."""
        ...
