"""Model of the time of training to a target, by the number of workers and the speed of their network.

Rounds and seconds to the target are those of a run of `hfnumba bench quality`, on one machine without a network. A
worker is such a machine: P of them share the seconds of computing. To these come, for each round, the client's own work
and the transport of the model of scaling (:mod:`hfnumba.bench.model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hfnumba.bench.model import Constants, fan_ins, transport_s
from hfnumba.bench.round_costs import RoundCost


@dataclass(frozen=True)
class Training:
    """The way of a method to a target.

    Attributes
    ----------
    setting : str
        Method with its settings.
    rounds, gflop, seconds : float
        Cost to the target on one machine, without a network.
    round_cost : RoundCost
    """

    setting: str
    rounds: float
    gflop: float
    seconds: float
    round_cost: RoundCost


def on_network(constants: Constants, gbit_s: float, latency_s: float = 0.0) -> Constants:
    """Return the constants for a network between the machines.

    A byte takes as long as on the network, or as in the measurement of the constants if that is longer: then the
    processor limits it. A round, and each level of relays, waits for the network once in each direction.

    Parameters
    ----------
    constants : Constants
    gbit_s : float
        Bandwidth in Gbit/s, in each direction.
    latency_s : float
        Seconds of a message from one machine to another.
    """
    byte_s = 8e-9 / gbit_s
    return replace(
        constants,
        send_s_per_byte=max(byte_s, constants.send_s_per_byte),
        receive_s_per_byte=max(byte_s, constants.receive_s_per_byte),
        round_s=constants.round_s + 2 * latency_s,
        relay_s=constants.relay_s + 2 * latency_s,
    )


def training_s(constants: Constants, training: Training, n_workers: int) -> float:
    """Seconds to the target with a number of workers, by the fastest tree of relays or the star.

    Work of the client that was measured as part of the seconds on one machine is not shared by workers.
    """
    client_s = min(training.rounds * training.round_cost.client_s, training.seconds)
    transport = min(transport_s(constants, training.round_cost, n_workers, f) for f in fan_ins(n_workers))
    return client_s + (training.seconds - client_s) / n_workers + training.rounds * transport


def crossings(workers: Sequence[int], ours: Sequence[float], theirs: Sequence[float]) -> list[int]:
    """Return the numbers of workers from which on the faster of two methods is another one than before.

    Parameters
    ----------
    workers : sequence of int
        Increasing numbers of workers.
    ours, theirs : sequence of float
        Seconds of both methods.
    """
    faster = [a < b for a, b in zip(ours, theirs, strict=True)]
    return [workers[k] for k in range(1, len(workers)) if faster[k] != faster[k - 1]]
