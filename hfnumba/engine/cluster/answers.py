"""Answers of workers: checks before they are added, and the partial results of a round in progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hfnumba.engine.cluster.messages import Answer, Branch
from hfnumba.engine.cluster.shared_memory import Window
from hfnumba.engine.protocol import Problem, Round
from hfnumba.engine.tree import Node, Shape, Sums, covering, leaves


def fault(answer: Answer, branch: Branch, request: Round, problem: Problem) -> str | None:
    """Return the fault of the sums of a worker and of those below it; None if they can be added."""
    n = problem.source.n_partitions
    left = {j for member in branch.members([lost.address for lost in answer.lost]) for j in member.partitions}
    for _, nodes in answer.apart:
        some = {j for node in nodes for j in leaves(node, n)}
        wrong = _fault(nodes, some, request, problem)
        if wrong is not None or not some <= left:
            return wrong or f"sums of the partitions {sorted(some - left)}, which are not its own"
        left -= some
    return _fault(answer.sums, left, request, problem)


def _fault(nodes: Mapping[Node, Sums], partitions: Collection[int], request: Round, problem: Problem) -> str | None:
    expected = covering(partitions, problem.source.n_partitions)
    if set(nodes) != expected:
        return f"sums of the nodes {sorted(nodes)} of the tree instead of {sorted(expected)}"
    results = [one.results(problem, request.vectors).values() for one in request.evaluations]
    shapes = [(result.shape, result.dtype) for named in results for result in named]
    for sums in nodes.values():
        found = [(array.shape, array.dtype) for array in sums]
        if found != shapes:
            return f"sums of shapes and dtypes {_spelled(found)} instead of {_spelled(shapes)}"
    return None


def _spelled(shapes: Sequence[Shape]) -> str:
    return ", ".join(f"{shape} {dtype}" for shape, dtype in shapes)


def is_finite(sums: Sums) -> bool:
    """Whether all elements are finite numbers."""
    return all(bool(np.isfinite(array).all()) for array in sums)


def doubtful(nodes: Mapping[Node, Sums]) -> Node | None:
    """The smallest node whose sums are not finite."""
    return min((node for node, sums in nodes.items() if not is_finite(sums)), default=None)


@dataclass
class WorkerAnswer:
    """Sums that one worker has answered; its arrays may be in its box, which its next answer overwrites."""

    address: str
    number: int
    nodes: dict[Node, Sums]
    window: Window | None = None
    n_recomputed: int = 0

    def is_intact(self) -> bool:
        """Whether the box still has this answer."""
        return self.window is None or self.window.number() == self.number

    def copy_from_box(self) -> None:
        """Copy the arrays that are in the box."""
        if self.window is not None:
            self.nodes = {node: tuple(np.array(a) for a in sums) for node, sums in self.nodes.items()}
            self.window = None


@dataclass
class RoundInProgress:
    """Partial results of a round in progress, and the losses of workers in it by their names."""

    request: Round
    answers: list[WorkerAnswer] = field(default_factory=list)
    n_refused: int = 0
    last_reason: str = ""
    losses: Counter[str] = field(default_factory=Counter)

    def nodes(self) -> dict[Node, Sums]:
        """All sums that have been received."""
        return {node: sums for answer in self.answers for node, sums in answer.nodes.items()}
