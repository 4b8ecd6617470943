"""Model of the time and the bytes of one iteration and its parts, for any number of workers.

An iteration is a sequence of rounds. The time of a round is the computation of one worker plus the communication with
all workers. The constants are measured by :mod:`hfnumba.bench.scaling`; nothing is measured here.

All workers are equal and compute on one thread each. Rows and partitions are divided evenly; the answer of a worker is
one node of the summation tree, which is exact if both numbers are powers of two.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from hfnumba.engine.cluster.assignment import arrange
from hfnumba.engine.cluster.messages import Branch

PARTS = ("gradient", "krylov", "line_search")
"""Parts of an iteration: loss and gradient over all rows; solve and ranking of candidates on the curvature sample; line
search over all rows."""
KINDS = ("gradient", "first_product", "product", "ranking", "line")
Part = Literal["gradient", "krylov", "line_search"]
_ITEM, _VALUE = 4, 8  # Bytes of a float32 and of a float64.


@dataclass(frozen=True)
class Rate:
    """Seconds of one evaluation on one thread: per row, per partition, and per worker.

    Where losses are evaluated at several points (directions or step lengths), those per row and per worker are also per
    point.
    """

    row_s: float
    partition_s: float
    worker_s: float

    def seconds(self, rows: float, partitions: float, points: int = 1) -> float:
        """Time for the given numbers of rows, partitions and points."""
        return points * (self.row_s * rows + self.worker_s) + self.partition_s * partitions


@dataclass(frozen=True)
class Constants:
    """Measured times of the components of a round.

    Attributes
    ----------
    gradient, first_product, product, ranking, line : Rate
        Rates of the evaluations. The first product includes the primal pass.
    round_s : float
        Seconds per round, independent of its data.
    relay_s : float
        Seconds per level of relays between the client and the last worker.
    message_s : float
        Seconds per worker, for both directions.
    send_s_per_byte, receive_s_per_byte : float
        Seconds per byte and worker, on the link of the client.
    add_s_per_byte : float
        Seconds per byte of each answer that the client adds.
    client_s : float
        Seconds that the client computes between the rounds of one iteration (vectors of the solver and so on).
    scheduler_share : float
        Share of a processor that the scheduler uses per worker; it does not delay rounds.
    """

    gradient: Rate
    first_product: Rate
    product: Rate
    ranking: Rate
    line: Rate
    round_s: float
    message_s: float
    send_s_per_byte: float
    receive_s_per_byte: float
    add_s_per_byte: float
    client_s: float
    scheduler_share: float
    relay_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, numbers: dict[str, Any]) -> Constants:
        """Inverse of :meth:`as_dict`."""
        made: dict[str, Any] = {key: Rate(**v) if isinstance(v, dict) else v for key, v in numbers.items()}
        return cls(**made)


@dataclass(frozen=True)
class Workload:
    """Counts of the work of an iteration.

    ``n_products`` includes the first product; ``n_candidates`` are ranked in one round, ``n_alphas`` step lengths are
    evaluated in one round. ``n_partitions`` is a property of the store; a worker without a partition is idle.
    """

    n_params: int
    n_rows: int
    curvature_rows: int
    n_products: int
    n_candidates: int
    n_alphas: int
    n_partitions: int


@dataclass(frozen=True)
class Exchange:
    """Rounds of one kind: part, number of rounds, rows, points, and bytes to and from one worker."""

    kind: str
    part: Part
    count: int
    rows: int
    points: int
    nbytes_out: int
    nbytes_in: int


def exchanges(work: Workload) -> tuple[Exchange, ...]:
    """Rounds of an iteration; bytes as counted by the objective."""
    n, few, every = _ITEM * work.n_params, work.curvature_rows, work.n_rows
    return (
        Exchange("gradient", "gradient", 1, every, 1, n, n + 2 * _VALUE),
        Exchange("first_product", "krylov", 1, few, 1, n, n),
        Exchange("product", "krylov", work.n_products - 1, few, 1, n, n),
        Exchange("ranking", "krylov", 1, few, work.n_candidates, n * work.n_candidates, _VALUE * work.n_candidates),
        Exchange("line", "line_search", 1, every, work.n_alphas, n, _VALUE * work.n_alphas),
    )


class Traffic(Protocol):
    """What a round sends to a worker and receives from it, in bytes."""

    @property
    def nbytes_out(self) -> float:
        """Bytes to one worker."""
        ...

    @property
    def nbytes_in(self) -> float:
        """Bytes from one worker."""
        ...


@functools.cache
def hops(n_workers: int, fan_in: int | None = None) -> tuple[int, int]:
    """Number of levels of the tree of workers, and of sequential messages on its longest path.

    ``fan_in`` is the largest number of direct successors; None for the star, in which all workers are below the client.
    """
    if fan_in is not None and fan_in < 1:
        raise ValueError(f"a tree needs a fan-in of at least 1, got {fan_in}")

    def longest(branches: tuple[Branch, ...]) -> tuple[int, int]:
        if not branches:
            return 0, 0
        levels, messages = zip(*(longest(branch.below) for branch in branches), strict=True)
        return 1 + max(levels), len(branches) + max(messages)

    workers = [Branch(str(k), (k,)) for k in range(n_workers)]
    return longest(arrange(workers, fan_in or n_workers))


def compute_s(constants: Constants, exchange: Exchange, work: Workload, n_workers: int) -> float:
    """Seconds that the busiest worker computes in a round."""
    busy = min(n_workers, work.n_partitions)
    partitions = -(-work.n_partitions // busy)
    rate: Rate = getattr(constants, exchange.kind)
    return rate.seconds(exchange.rows * partitions / work.n_partitions, partitions, exchange.points)


def transport_s(constants: Constants, traffic: Traffic, n_workers: int, fan_in: int | None = None) -> float:
    """Seconds to send to all workers, to receive and to add their answers; relays do this in parallel."""
    levels, messages = hops(n_workers, fan_in)
    back = constants.receive_s_per_byte + constants.add_s_per_byte
    each = constants.message_s + constants.send_s_per_byte * traffic.nbytes_out + back * traffic.nbytes_in
    return constants.round_s + constants.relay_s * (levels - 1) + each * messages


def iteration_s(constants: Constants, work: Workload, n_workers: int, fan_in: int | None = None) -> dict[str, float]:
    """Seconds of the parts of an iteration, of the client's own work, and of all together (``iteration``).

    Parameters
    ----------
    constants : Constants
    work : Workload
    n_workers : int
    fan_in : int, optional
        Fan-in of the tree in which workers relay requests and add sums; None for the star.
    """
    parts = dict.fromkeys(PARTS, 0.0)
    for exchange in exchanges(work):
        one = compute_s(constants, exchange, work, n_workers) + transport_s(constants, exchange, n_workers, fan_in)
        parts[exchange.part] += exchange.count * one
    parts["client"] = constants.client_s
    return parts | {"iteration": sum(parts.values())}


def transport_share(constants: Constants, work: Workload, n_workers: int, fan_in: int | None = None) -> float:
    """Share of an iteration without computing."""
    rounds = sum(e.count * transport_s(constants, e, n_workers, fan_in) for e in exchanges(work))
    return rounds / iteration_s(constants, work, n_workers, fan_in)["iteration"]


def fan_ins(n_workers: int) -> tuple[int | None, ...]:
    """Fan-ins to choose from: None, which is the star, and powers of two."""
    return (None, *(2**k for k in range(1, max(1, math.ceil(math.log2(max(2, n_workers)))))))


def best_fan_in(constants: Constants, work: Workload, n_workers: int) -> int | None:
    """Fan-in of the fastest iteration; None if no tree is faster than the star."""
    choices = fan_ins(n_workers)
    times = [iteration_s(constants, work, n_workers, fan_in)["iteration"] for fan_in in choices]
    return choices[times.index(min(times))]


def best_workers(constants: Constants, work: Workload, candidates: tuple[int, ...], fan_in: int | None = None) -> int:
    """Number of workers with the fastest iteration, among the candidates."""
    return min(candidates, key=lambda p: iteration_s(constants, work, p, fan_in)["iteration"])
