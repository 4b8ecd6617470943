"""What is said about the rows of a store that is built: its task, classes that cannot be learnt, faulty utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.progress import Reporter
from hfnumba.store.manifest import Header

N_NAMED = 5


class Faults:
    """Collects the utterances that cannot be used."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._first = ""

    def add(self, name: str, error: DataError) -> None:
        """Add an utterance and its fault."""
        self._first = self._first or str(error)
        self._names.append(name)

    def check(self, total: int) -> None:
        """Raise if there are any."""
        if self._names:
            more = f"; further ones: {listed(self._names[1:])}" if self._names[1:] else ""
            raise DataError(f"{len(self._names)} of {total} utterances cannot be used: {self._first}{more}")


class Twins:
    """Collects the utterances that have all frames and labels of another."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._pairs: list[str] = []

    def add(self, name: str, digest: str) -> None:
        """Add an utterance and the digest of its frames and labels."""
        first = self._first.setdefault(digest, name)
        if first != name:
            self._pairs.append(f"{name} is that of {first}")

    def report(self, reporter: Reporter) -> None:
        """Show a note if there are any."""
        if self._pairs:
            reporter.note(
                f"{len(self._pairs)} utterances have the same frames and labels as another, perhaps from copies of one "
                f"file: {listed(self._pairs)}"
            )


def listed(names: Sequence[str]) -> str:
    """List the first few names, and the number of the others."""
    more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
    return ", ".join(names[:N_NAMED]) + more


def remark_on_task(header: Header, given: bool, counts: Mapping[str, NDArray[Any]], reporter: Reporter) -> None:
    """Say which task was chosen, and which classes of other splits have no training rows.

    Parameters
    ----------
    header : Header
        Header of the store.
    given : bool
        Whether the recipe says the task.
    counts : mapping of str to ndarray
        Number of rows of each class in each split; empty for regression.
    reporter : Reporter
    """
    change = "" if given else "; to change it, set task in a recipe"
    if header.n_classes is None:
        outputs = header.splits["train"].n_outputs
        reporter.note(f"The task is regression with {outputs} output{'s' if outputs != 1 else ''}{change}")
        return
    names = [repr(name) for name in header.classes]
    kinds = f": {listed(names)}" if names else f", the class numbers 0 to {header.n_classes - 1}"
    reporter.note(f"The task is classification with {header.n_classes} classes{kinds}{change}")
    for split, rows in counts.items():
        unseen = [k for k, n in enumerate(rows) if n and not counts["train"][k]]
        if unseen:
            which = listed([names[k] if names else str(k) for k in unseen])
            reporter.note(
                f"Warning: {np.sum(rows[unseen])} of {np.sum(rows)} rows of {split} have a class that no row of "
                f"train has, so it cannot be learnt: {which}; is it spelled in another way in train?"
            )
