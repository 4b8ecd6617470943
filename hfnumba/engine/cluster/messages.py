"""The messages of a round between client and workers.

A message carries its problem's id, the names of the live vectors, and the vectors that the worker is assumed to lack.
What it lacks nevertheless it names, and gets with the next message. So no answer ever rests on state that the message
did not name. Where client and worker share memory, arrays are in boxes (:mod:`hfnumba.engine.cluster.shared_memory`)
and the messages have their places.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pickle import PickleBuffer
from typing import Any, cast

from distributed.comm.core import CommClosedError
from distributed.protocol import pickle, to_serialize
from numpy.typing import NDArray

from hfnumba.engine.cluster.shared_memory import Parcel
from hfnumba.engine.protocol import Evaluation, Problem
from hfnumba.engine.tree import Node, Sums
from hfnumba.errors import HfnumbaError

GREET = "hfnumba_greet"
OPERATION = "hfnumba_round"
FORGET = "hfnumba_forget"
DONE = "hfnumba_done"
WORKING = "hfnumba_working"
GONE = (CommClosedError, OSError)
# First what the worker is assumed to lack, then the problem it turned out to lack, then vectors, then without boxes.
MAX_EXCHANGES = 4
# Bytes of arrays that may be copied into a message.
_INLINE = 1 << 14


class RefusedError(Exception):
    """An answer cannot be right and must not be added."""


@dataclass(frozen=True)
class Branch:
    """A worker, its partitions, what it is assumed to lack, and the workers that it relays the round to."""

    address: str
    partitions: tuple[int, ...]
    lacks: tuple[str, ...] = ()
    lacks_problem: bool = False
    below: tuple[Branch, ...] = ()

    def members(self, without: Collection[str] = ()) -> Iterator[Branch]:
        """Itself and the workers below it, except some with all that are below them."""
        if self.address not in without:
            yield self
            for branch in self.below:
                yield from branch.members(without)


@dataclass(frozen=True)
class RoundMessage:
    """A round for one worker, and for those that it relays it to.

    Attributes
    ----------
    number : int
        Number of the message, which the answer repeats.
    problem_id : str
    evaluations : tuple of Evaluation
    partitions : tuple of int
    live : tuple of str
        Names of all live vectors.
    vectors : mapping of str to ndarray or Parcel
        Vectors by name that the worker is assumed to lack.
    problem : Problem or None
        The problem, if the worker is assumed to lack it.
    boxes : tuple of bytes or None
        Tokens of the client's boxes; None asks for an answer without boxes.
    below : tuple of Branch
        Workers to relay the round to.
    silence_s : float
        Seconds without a sign of life after which these are given up.
    """

    number: int
    problem_id: str
    evaluations: tuple[Evaluation, ...]
    partitions: tuple[int, ...]
    live: tuple[str, ...]
    vectors: Mapping[str, NDArray[Any] | Parcel]
    problem: Problem | None = None
    boxes: tuple[bytes, ...] | None = None
    below: tuple[Branch, ...] = ()
    silence_s: float = 0.0

    def relayed(self, branch: Branch, vectors: Mapping[str, Any], problem: Problem) -> RoundMessage:
        """Return the same round for a worker below, which gets what it lacks from here."""
        return replace(
            self,
            partitions=branch.partitions,
            vectors={name: vectors[name] for name in branch.lacks},
            problem=problem if branch.lacks_problem else None,
            boxes=None,
            below=branch.below,
        )


@dataclass(frozen=True)
class Lost:
    """A worker below without a sum: it is gone or silent, or its answer is refused."""

    address: str
    why: str
    silent: bool = False
    refused: bool = False

    @classmethod
    def after(cls, address: str, quiet_s: float | None) -> Lost:
        """Return the loss of a worker after a time of silence; None for one that has gone."""
        why = "it disconnected" if quiet_s is None else f"silent for {quiet_s:.0f} s"
        return cls(address, why, silent=quiet_s is not None)


@dataclass(frozen=True)
class Answer:
    """Sums of some nodes of the tree; or what the worker lacks; or the error that prevented an answer.

    A worker that relays adds what those below have answered. Sums that are not finite it passes on as they came, with
    the address that they came from (``apart``). ``lost`` are the workers below without an answer; all below these are
    missing too. ``n_recomputed`` counts partitions whose primal pass was computed again for want of memory.
    """

    number: int
    nodes: Mapping[Node, tuple[NDArray[Any] | Parcel, ...]] = field(default_factory=dict)
    lacks_problem: bool = False
    missing: tuple[str, ...] = ()
    lacks_boxes: bool = False
    error: HfnumbaError | None = None
    failure: str | None = None
    apart: tuple[tuple[str, Mapping[Node, Sums]], ...] = ()
    lost: tuple[Lost, ...] = ()
    n_recomputed: int = 0

    @property
    def sums(self) -> Mapping[Node, Sums]:
        """The nodes of an answer without boxes."""
        return cast(Mapping[Node, Sums], self.nodes)

    @property
    def lacks(self) -> bool:
        """Whether it only names what has to be sent with the next message."""
        return self.lacks_problem or bool(self.missing) or self.lacks_boxes


def packed(message: RoundMessage | Answer) -> Any:
    """Return a message as it travels: pickled here if it has no large arrays; Dask takes several times as long."""
    buffers: list[PickleBuffer] = []
    data = pickle.dumps(message, buffer_callback=buffers.append)
    if sum(buffer.raw().nbytes for buffer in buffers) > _INLINE:
        return to_serialize(message)  # Arrays as they are, without a copy.
    return pickle.dumps(message) if buffers else data


def unpacked(message: Any) -> Any:
    """Undo :func:`packed`, on the other side."""
    return pickle.loads(message) if isinstance(message, bytes) else message
