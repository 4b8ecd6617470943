"""What figure 2 measures, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfnumba.network import Network

if TYPE_CHECKING:
    from hfnumba.bench.model import Constants, Workload

TIMIT_ROWS = 1_013_950
"""Rows of the paper's TIMIT; where the model goes on, it goes on with so many."""
PARTITIONS = 16
Found = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes
    ----------
    rows : int
        Of the store that is built.
    curvature_rows : tuple of int
    workers : tuple of int
        Processes that really compute.
    waiting : tuple of int
        Workers that wait, with the store's rows.
    waiting_timit : tuple of int
        The same with the rows of TIMIT.
    fitted : tuple of int
        Workers of the empty rounds that the constants of a round are taken from.
    repeats : int
    """

    rows: int
    curvature_rows: tuple[int, ...]
    workers: tuple[int, ...]
    waiting: tuple[int, ...]
    waiting_timit: tuple[int, ...]
    fitted: tuple[int, ...]
    repeats: int


@dataclass(frozen=True)
class Results:
    """Everything that was found, and on which data.

    ``measured`` and ``waited`` are keyed by workers, rows and curvature rows.
    """

    plan: Plan
    rows: int
    sizes: tuple[int, ...]
    constants: Constants
    measured: dict[tuple[int, int, int], Found]
    waited: dict[tuple[int, int, int], Found]
    machine: str
    data: str

    def workload(self, rows: int, curvature_rows: int, n_workers: int) -> Workload:
        """What an iteration has to do, with the counts of the measured ones and a partition for every worker."""
        from hfnumba.bench.model import Workload  # noqa: PLC0415

        own = counts(self.measured[self.plan.workers[0], self.rows, curvature_rows])
        return Workload(Network(self.sizes).n_params, rows, curvature_rows, *own, max(PARTITIONS, n_workers))


def counts(found: Found) -> tuple[int, int, int]:
    """Products, candidates and step lengths of a measured iteration."""
    return found["n_products"], found["n_candidates"], found["n_alphas"]
