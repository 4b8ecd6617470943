"""What client and workers say to each other in a round, and one exchange of it.

A request carries its job's number, the names of the live vectors, and the vectors that the other side is thought to
lack. What it lacks after all it names, and gets with the next request. So no answer ever rests on state that the
request did not name. Where client and worker see the same memory, arrays are in boxes
(:mod:`hfnumba.engine.cluster.shared_memory`) and the messages say where.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pickle import PickleBuffer
from typing import Any, cast

from distributed.comm.core import CommClosedError
from distributed.protocol import pickle, to_serialize
from numpy.typing import NDArray

from hfnumba.engine.cluster.shared_memory import Parcel
from hfnumba.engine.host import Evaluation, Job
from hfnumba.engine.tree import Node, Sums
from hfnumba.errors import HfnumbaError

GREET = "hfnumba_greet"
OPERATION = "hfnumba_round"
FORGET = "hfnumba_forget"
DONE = "hfnumba_done"
GONE = (CommClosedError, OSError)
# First what the worker is thought to lack, then the job it turned out to lack, then vectors, then without boxes.
MAX_EXCHANGES = 4
# Bytes of arrays that may be copied into a message.
_INLINE = 1 << 14


class RefusedError(Exception):
    """An answer that must not be added."""


@dataclass(frozen=True)
class Branch:
    """A worker, what it is to answer for and is thought to lack, and the workers that it passes the request on to."""

    address: str
    partitions: tuple[int, ...]
    lacks: tuple[str, ...] = ()
    lacks_job: bool = False
    below: tuple[Branch, ...] = ()

    def members(self, without: Collection[str] = ()) -> Iterator[Branch]:
        """Itself and the workers below it, except some with all that are below them."""
        if self.address not in without:
            yield self
            for branch in self.below:
                yield from branch.members(without)


@dataclass(frozen=True)
class Request:
    """A round for one worker, and for those that it passes it on to."""

    number: int
    job_id: str
    evaluations: tuple[Evaluation, ...]
    partitions: tuple[int, ...]
    live: tuple[str, ...]
    vectors: Mapping[str, NDArray[Any] | Parcel]
    job: Job | None = None
    # Tokens of the client's boxes; None asks for an answer without boxes.
    boxes: tuple[bytes, ...] | None = None
    below: tuple[Branch, ...] = ()
    # How long those below may give no sign of life.
    silence_s: float = 0.0

    def passed_on(self, branch: Branch, vectors: Mapping[str, Any], job: Job) -> Request:
        """The same round for a worker below, which gets what it lacks from here."""
        return replace(
            self,
            partitions=branch.partitions,
            vectors={name: vectors[name] for name in branch.lacks},
            job=job if branch.lacks_job else None,
            boxes=None,
            below=branch.below,
        )


@dataclass(frozen=True)
class Lost:
    """A worker below that gave no sum: it is gone, or silent, or its answer is refused."""

    address: str
    why: str
    silent: bool = False
    refused: bool = False


@dataclass(frozen=True)
class Answer:
    """Sums of some nodes of the tree; or what the worker lacks; or the error that kept it from answering.

    A worker with others below adds what they have answered. Sums that are not finite it passes on as they came, with
    the name of who gave them; and it says who gave none, with whom all below that one are missing.
    """

    number: int
    nodes: Mapping[Node, tuple[NDArray[Any] | Parcel, ...]] = field(default_factory=dict)
    lacks_job: bool = False
    missing: tuple[str, ...] = ()
    lacks_sight: bool = False
    error: HfnumbaError | None = None
    failure: str | None = None
    apart: tuple[tuple[str, Mapping[Node, Sums]], ...] = ()
    lost: tuple[Lost, ...] = ()

    @property
    def sums(self) -> Mapping[Node, Sums]:
        """The nodes of an answer without boxes."""
        return cast(Mapping[Node, Sums], self.nodes)

    @property
    def lacks(self) -> bool:
        """Whether it only says what has to be sent with the next request."""
        return self.lacks_job or bool(self.missing) or self.lacks_sight


def packed(message: Request | Answer) -> Any:
    """A message as it travels: pickled here where it has no large arrays, which takes Dask several times as long."""
    buffers: list[PickleBuffer] = []
    data = pickle.dumps(message, buffer_callback=buffers.append)
    if sum(buffer.raw().nbytes for buffer in buffers) > _INLINE:
        return to_serialize(message)  # Arrays as they are, without a copy.
    return pickle.dumps(message) if buffers else data


def unpacked(message: Any) -> Any:
    """The inverse of :func:`packed`, on the other side."""
    return pickle.loads(message) if isinstance(message, bytes) else message


async def exchange(rpc: Callable[[str], Any], address: str, request: Request) -> Answer:
    """Send a request and return the answer to it.

    Raises
    ------
    CommClosedError, OSError
        If the worker is gone.
    RefusedError
        If what came cannot be the answer.
    HfnumbaError
        The worker's own.
    """
    answer = unpacked(await getattr(rpc(address), OPERATION)(request=packed(request)))
    if answer is None:
        raise CommClosedError("its handler is gone")
    if not isinstance(answer, Answer) or answer.number != request.number:
        raise RefusedError("a stale answer")
    if answer.error is not None:
        raise answer.error
    if answer.failure is not None:
        raise RefusedError(f"no answer but {answer.failure}")
    return answer
