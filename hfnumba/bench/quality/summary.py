"""Summaries of results: costs to the targets by method, medians over the seeds, and ratios to first-order methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from hfnumba.bench.quality.methods import CONTESTANTS
from hfnumba.bench.quality.problems import Problem, Target
from hfnumba.bench.quality.records import Point, Result

COSTS = ("rounds", "passes", "gflop", "seconds")
"""Costs of a point."""


def reference_of(methods: Sequence[str]) -> str | None:
    """Return the method that sets targets: the first Adam; None without one."""
    return next((name for name in methods if "adam" in name), None)


def methods_of(results: Iterable[Result]) -> tuple[str, ...]:
    """Return the methods of the runs that are no trials, in their order."""
    return tuple(dict.fromkeys(result.run.method for result in results if not result.run.is_trial))


def best_trial(results: Sequence[Result], target: Target) -> Result:
    """Return the run of a grid that reaches the target in the least time, else the one with the lowest value."""

    def rank(result: Result) -> tuple[float, float]:
        point = None if target.value is None else result.to(target.quantity, target.value)
        lowest = result.lowest(target.quantity)
        return (float("inf") if point is None else point.seconds, float("inf") if lowest is None else lowest)

    return min(results, key=rank)


def target_values(
    problem: Problem, methods: Sequence[str], results: Iterable[Result], seed: int
) -> list[tuple[Target, float | None]]:
    """Return the targets of a problem with their values for a seed; None where the reference has not run."""
    reference = reference_of(methods)
    run = next((r for r in results if (r.run.method, r.run.seed, r.run.is_trial) == (reference, seed, False)), None)
    return [
        (target, target.value if target.value is not None or run is None else run.lowest(target.quantity))
        for target in problem.targets
    ]


@dataclass(frozen=True)
class Attainment:
    """How a method reached a target.

    Attributes
    ----------
    method, setting : str
    points : tuple of Point or None
        First point that reaches it, for each seed; None for a seed that does not.
    lowest : float or None
        Median of the lowest values of the quantity.
    """

    method: str
    setting: str
    points: tuple[Point | None, ...]
    lowest: float | None

    def costs(self, cost: str) -> list[float | None]:
        """Return a cost for each seed."""
        return [None if point is None else getattr(point, cost) for point in self.points]

    def median(self, cost: str) -> float | None:
        """Return the median of a cost over the seeds; None if a seed did not reach the target."""
        costs = [value for value in self.costs(cost) if value is not None]
        return median(costs) if costs and len(costs) == len(self.points) else None


@dataclass(frozen=True)
class TargetSummary:
    """A target, and how each method reached it.

    Attributes
    ----------
    quantity : str
    values : tuple of float or None
        Value of the target for each seed.
    is_reference : bool
        Whether the value is what Adam reached.
    attainments : tuple of Attainment
    """

    quantity: str
    values: tuple[float | None, ...]
    is_reference: bool
    attainments: tuple[Attainment, ...]

    def best_peer(self, cost: str) -> Attainment | None:
        """Return the first-order method with the lowest median of a cost; None if none has reached the target."""
        peers = [a for a in self.attainments if CONTESTANTS[a.method].is_first_order and a.median(cost) is not None]
        return min(peers, key=lambda a: a.median(cost) or 0.0, default=None)

    def ratio(self, attainment: Attainment, cost: str) -> float | None:
        """Return the median cost of the best first-order method over that of a method; above 1, the method is better.

        None for first-order methods, and where one of both has not reached the target with all seeds.
        """
        peer, own = self.best_peer(cost), attainment.median(cost)
        theirs = None if peer is None else peer.median(cost)
        if CONTESTANTS[attainment.method].is_first_order or theirs is None or not own:
            return None
        return theirs / own

    def as_dict(self) -> dict[str, Any]:
        """Return medians and ratios for JSON."""
        peers = {cost: None if (peer := self.best_peer(cost)) is None else peer.setting for cost in COSTS}
        methods = {
            a.setting: {
                "method": a.method,
                "reached": sum(point is not None for point in a.points),
                "seeds": len(a.points),
                "lowest": a.lowest,
                **{cost: a.median(cost) for cost in COSTS},
                "ratios": {cost: self.ratio(a, cost) for cost in COSTS},
            }
            for a in self.attainments
        }
        values = [value for value in self.values if value is not None]
        return {
            "quantity": self.quantity,
            "value": median(values) if values else None,
            "is_reference": self.is_reference,
            "best_first_order": peers,
            "methods": methods,
        }


def summarise(problem: Problem, methods: Sequence[str], results: Iterable[Result]) -> list[TargetSummary]:
    """Return a summary for each target, over the runs that are no trials."""
    finals = [result for result in results if not result.run.is_trial and result.run.method in methods]
    seeds = sorted({result.run.seed for result in finals})
    values = {seed: target_values(problem, methods, finals, seed) for seed in seeds}
    found = []
    for k, target in enumerate(problem.targets):
        of_seed = {seed: values[seed][k][1] for seed in seeds}
        attainments = [_attainment(name, finals, target.quantity, of_seed) for name in methods]
        found.append(
            TargetSummary(
                target.quantity,
                tuple(of_seed.values()),
                target.value is None,
                tuple(a for a in attainments if a.points),
            )
        )
    return found


def _attainment(method: str, results: Sequence[Result], quantity: str, values: dict[int, float | None]) -> Attainment:
    own = [result for result in results if result.run.method == method]
    points = tuple(None if (value := values[result.run.seed]) is None else result.to(quantity, value) for result in own)
    lowest = [value for result in own if (value := result.lowest(quantity)) is not None]
    return Attainment(method, own[0].run.setting if own else method, points, median(lowest) if lowest else None)
