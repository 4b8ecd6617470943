"""What an explanation of a run is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from hfnumba import ledger

if TYPE_CHECKING:
    from hfnumba.network import Network
    from hfnumba.run.records import RunRecord
    from hfnumba.run.sample_facts import SampleFacts


@dataclass(frozen=True)
class Evidence:
    """Everything that findings are drawn from.

    Attributes
    ----------
    record : RunRecord
        Content of ``config.toml``.
    lines : sequence of dict
        Lines of the ledger, at least one.
    network : Network
    theta : ndarray, shape (n_params,)
        Parameters of a checkpoint.
    facts : SampleFacts or None
        Facts about some rows; None if the store is not there.
    """

    record: RunRecord
    lines: Sequence[ledger.Line]
    network: Network
    theta: NDArray[Any]
    facts: SampleFacts | None

    def values(self, name: str) -> list[float]:
        """Return the numbers of a field, without those that are missing."""
        return [line[name] for line in self.lines if line.get(name) is not None]

    @property
    def chosen(self) -> ledger.Line:
        """Line of the iteration that predictions use: the best one, or the last without validation rows."""
        best = self.lines[-1].get("best_iteration")
        return next((line for line in self.lines if line["iteration"] == best), self.lines[-1])
