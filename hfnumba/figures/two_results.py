"""Measurements of figure 2, and their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfnumba.network import Network

if TYPE_CHECKING:
    from hfnumba.bench.model import Constants, Workload

TIMIT_ROWS = 1_013_950
"""Number of rows of the paper's TIMIT, for which the model extrapolates."""
PARTITIONS = 16
Found = dict[str, Any]


@dataclass(frozen=True)
class Measurements:
    """Sizes of all measurements.

    Attributes
    ----------
    rows : int
        Number of rows of the store that is built.
    curvature_rows : tuple of int
    workers : tuple of int
        Numbers of worker processes that really compute.
    waiting : tuple of int
        Numbers of simulated workers, for the rows of the store.
    waiting_timit : tuple of int
        Numbers of simulated workers, for the rows of TIMIT.
    fitted : tuple of int
        Numbers of workers of the empty rounds from which the constants of a round are fitted.
    repeats : int
    """

    rows: int
    curvature_rows: tuple[int, ...]
    workers: tuple[int, ...]
    waiting: tuple[int, ...]
    waiting_timit: tuple[int, ...]
    fitted: tuple[int, ...]
    repeats: int

    @property
    def n_measurements(self) -> int:
        """Number of measurements: iterations, kernels, empty rounds and chains of workers, additions, waiting."""
        iterations = len(self.workers) * len(self.curvature_rows)
        chains = sum(n_workers > 1 for n_workers in self.fitted)
        return iterations + 1 + len(self.fitted) + chains + 1 + len(self.waiting) + len(self.waiting_timit)


@dataclass(frozen=True)
class Results:
    """Results of all measurements, with their data.

    ``measured`` and ``waited`` are keyed by workers, rows and curvature rows.
    """

    plan: Measurements
    rows: int
    sizes: tuple[int, ...]
    constants: Constants
    measured: dict[tuple[int, int, int], Found]
    waited: dict[tuple[int, int, int], Found]
    machine: str
    data: str

    def workload(self, rows: int, curvature_rows: int, n_workers: int) -> Workload:
        """Workload of an iteration, with the counts of the measured ones and a partition for every worker."""
        from hfnumba.bench.model import Workload  # noqa: PLC0415

        own = counts(self.measured[self.plan.workers[0], self.rows, curvature_rows])
        return Workload(Network(self.sizes).n_params, rows, curvature_rows, *own, max(PARTITIONS, n_workers))


def counts(found: Found) -> tuple[int, int, int]:
    """Numbers of products, candidates and step lengths of a measured iteration."""
    return found["n_products"], found["n_candidates"], found["n_alphas"]
