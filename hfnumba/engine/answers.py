"""What the client looks for in an answer before it is added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hfnumba.engine.host import Job
from hfnumba.engine.protocol import Round
from hfnumba.engine.tree import Node, Shape, Sums, covering


def fault(nodes: Mapping[Node, Sums], run: Sequence[int], request: Round, job: Job) -> str | None:
    """What is wrong with the sums over a worker's partitions; None if they can be added."""
    expected = covering(run, job.source.n_partitions)
    if set(nodes) != expected:
        return f"sums of the nodes {sorted(nodes)} of the tree instead of {sorted(expected)}"
    shapes = [shape for evaluation in request.evaluations for shape in evaluation.results(job, request.vectors)]
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
