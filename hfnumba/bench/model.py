"""A model of the time of one iteration, of its parts, and of its bytes, for any number of workers.

An iteration is a list of rounds, one after another. A round costs what one worker computes, and what it takes to reach
all workers and to hear from them. The constants are measured (:mod:`hfnumba.bench.scaling`); nothing here measures, and
nothing here knows a number of seconds.

Workers are alike, each computes on one thread, and none is slower than the others. Rows and partitions are shared out
evenly; a worker's answer is one node of the summation tree, as it is where both numbers are powers of two.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hfnumba.engine.cluster.assignment import arrange
from hfnumba.engine.cluster.messages import Branch

PARTS = ("gradient", "krylov", "line_search")
"""Of an iteration: loss and gradient over all rows; the solve and the ranking of its candidates, on the curvature
sample; the line search over all rows."""
KINDS = ("gradient", "first_product", "product", "ranking", "line")
Part = Literal["gradient", "krylov", "line_search"]
_ITEM, _VALUE = 4, 8  # Bytes of a float32 and of a float64.


@dataclass(frozen=True)
class Rate:
    """Seconds of one evaluation on one thread: for each row, for each partition, and once a worker.

    Where losses are priced, those of rows and worker are for each point (direction or step length).
    """

    row_s: float
    partition_s: float
    worker_s: float

    def seconds(self, rows: float, partitions: float, points: int = 1) -> float:
        """Time for so many rows in so many partitions."""
        return points * (self.row_s * rows + self.worker_s) + self.partition_s * partitions


@dataclass(frozen=True)
class Constants:
    """What a machine needs for the pieces of a round.

    Attributes
    ----------
    gradient, first_product, product, ranking, line : Rate
        Of the evaluations. The first product includes the primal pass.
    round_s : float
        Of a round, whatever goes with it.
    relay_s : float
        Of each level of relays between the client and the last worker.
    message_s : float
        For each worker, there and back.
    send_s_per_byte, receive_s_per_byte : float
        For each byte and worker, through the client's link.
    add_s_per_byte : float
        For each byte of each worker's answer that the client adds.
    client_s : float
        What the client computes between the rounds of one iteration (the solver's vectors and so on).
    scheduler_share : float
        Of a processor, that the scheduler spends on each worker. It is on no round's path.
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
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, numbers: dict[str, Any]) -> Constants:
        """The inverse of :meth:`as_dict`."""
        made: dict[str, Any] = {key: Rate(**v) if isinstance(v, dict) else v for key, v in numbers.items()}
        return cls(**made)


@dataclass(frozen=True)
class Workload:
    """What an iteration has to do, in counts.

    ``n_products`` includes the first; ``n_candidates`` are ranked in one round, ``n_alphas`` step lengths are priced in
    one. ``n_partitions`` is a property of the store; a worker without a partition has nothing to do.
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
    """Rounds of one kind: their part, how many, rows read, at how many points, bytes to and from one worker."""

    kind: str
    part: Part
    count: int
    rows: int
    points: int
    nbytes_out: int
    nbytes_in: int


def exchanges(work: Workload) -> tuple[Exchange, ...]:
    """The rounds of an iteration. Bytes are those that the objective's counters count."""
    n, few, every = _ITEM * work.n_params, work.curvature_rows, work.n_rows
    return (
        Exchange("gradient", "gradient", 1, every, 1, n, n + 2 * _VALUE),
        Exchange("first_product", "krylov", 1, few, 1, n, n),
        Exchange("product", "krylov", work.n_products - 1, few, 1, n, n),
        Exchange("ranking", "krylov", 1, few, work.n_candidates, n * work.n_candidates, _VALUE * work.n_candidates),
        Exchange("line", "line_search", 1, every, work.n_alphas, n, _VALUE * work.n_alphas),
    )


@functools.cache
def hops(n_workers: int, fan_in: int | None = None) -> tuple[int, int]:
    """Levels of the engine's tree of workers, and messages that follow each other on the longest way down (or up).

    Nobody has more than ``fan_in`` below. None is the star: everybody below the client.
    """
    if fan_in is not None and fan_in < 1:
        raise ValueError(f"a tree needs a fan-in of at least 1, got {fan_in}")

    def longest(branches: tuple[Branch, ...]) -> tuple[int, int]:
        if not branches:
            return 0, 0
        levels, messages = zip(*(longest(branch.below) for branch in branches), strict=True)
        return 1 + max(levels), len(branches) + max(messages)

    everybody = [Branch(str(k), (k,)) for k in range(n_workers)]
    return longest(arrange(everybody, fan_in or n_workers))


def compute_s(constants: Constants, exchange: Exchange, work: Workload, n_workers: int) -> float:
    """What the busiest worker computes in a round."""
    busy = min(n_workers, work.n_partitions)
    partitions = -(-work.n_partitions // busy)
    rate: Rate = getattr(constants, exchange.kind)
    return rate.seconds(exchange.rows * partitions / work.n_partitions, partitions, exchange.points)


def transport_s(constants: Constants, exchange: Exchange, n_workers: int, fan_in: int | None = None) -> float:
    """What it takes to reach all workers, to hear from them and to add what they say. Relays do so in parallel."""
    levels, messages = hops(n_workers, fan_in)
    back = constants.receive_s_per_byte + constants.add_s_per_byte
    each = constants.message_s + constants.send_s_per_byte * exchange.nbytes_out + back * exchange.nbytes_in
    return constants.round_s + constants.relay_s * (levels - 1) + each * messages


def iteration_s(constants: Constants, work: Workload, n_workers: int, fan_in: int | None = None) -> dict[str, float]:
    """Seconds of the parts of an iteration, of the client's own work, and of all together (``iteration``).

    Parameters
    ----------
    constants : Constants
    work : Workload
    n_workers : int
    fan_in : int, optional
        Of the tree in which workers relay requests and add sums; none: the star.
    """
    parts = dict.fromkeys(PARTS, 0.0)
    for exchange in exchanges(work):
        one = compute_s(constants, exchange, work, n_workers) + transport_s(constants, exchange, n_workers, fan_in)
        parts[exchange.part] += exchange.count * one
    parts["client"] = constants.client_s
    return parts | {"iteration": sum(parts.values())}


def transport_share(constants: Constants, work: Workload, n_workers: int, fan_in: int | None = None) -> float:
    """The part of an iteration that nobody computes in."""
    rounds = sum(e.count * transport_s(constants, e, n_workers, fan_in) for e in exchanges(work))
    return rounds / iteration_s(constants, work, n_workers, fan_in)["iteration"]


def best_fan_in(constants: Constants, work: Workload, n_workers: int) -> int | None:
    """The fan-in of the fastest iteration; None if no tree is faster than the star."""
    choices: list[int | None] = [None, *(2**k for k in range(1, max(1, math.ceil(math.log2(max(2, n_workers))))))]
    times = [iteration_s(constants, work, n_workers, fan_in)["iteration"] for fan_in in choices]
    return choices[times.index(min(times))]


def best_workers(constants: Constants, work: Workload, candidates: tuple[int, ...], fan_in: int | None = None) -> int:
    """Of some numbers of workers the one with the fastest iteration."""
    return min(candidates, key=lambda p: iteration_s(constants, work, p, fan_in)["iteration"])
