"""Remarks on the rows of a store that is built: task, classes that cannot be learnt, order, faulty utterances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.sources.numbering import numbering_features
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


class Seen:
    """Counts the frames of each class in each split, and collects utterances that have all frames of another.

    Attributes
    ----------
    class_counts : dict of str to Counter of int
        Number of frames of each class in each split.
    """

    def __init__(self) -> None:
        self.class_counts: dict[str, Counter[int]] = {}
        self._first: dict[str, str] = {}
        self._pairs: list[str] = []

    @property
    def largest(self) -> int:
        """Largest label."""
        return max(max(counts) for counts in self.class_counts.values())

    def add(self, split: str, name: str, y: NDArray[Any], digest: str) -> None:
        """Add the labels of an utterance, and the digest of its frames and labels."""
        self.class_counts.setdefault(split, Counter()).update(count(y))
        first = self._first.setdefault(digest, f"{name} ({split})")
        if first != f"{name} ({split})":
            self._pairs.append(f"{name} ({split}) is that of {first}")

    def report(self, reporter: Reporter) -> None:
        """Show a note if there are utterances twice."""
        if self._pairs:
            reporter.note(
                f"{len(self._pairs)} utterances have the same frames and labels as another, perhaps from copies of one "
                f"file: {listed(self._pairs)}"
            )


def count(y: NDArray[Any]) -> dict[int, int]:
    """Number of each label; a label may be large."""
    labels, counts = np.unique(y, return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def listed(names: Sequence[str]) -> str:
    """List the first few names, and the number of the others."""
    more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
    return ", ".join(names[:N_NAMED]) + more


def remark_on_task(header: Header, given: bool, counts: Mapping[str, Mapping[int, int]], reporter: Reporter) -> None:
    """Say which task was chosen, and which classes have no rows, or none in training.

    Parameters
    ----------
    header : Header
        Header of the store.
    given : bool
        Whether the recipe says the task.
    counts : mapping of str to mapping of int to int
        Number of rows of each class in each split; empty for regression.
    reporter : Reporter
    """
    change = "" if given else "; to change it, set task in a recipe"
    if header.n_classes is None:
        outputs = header.splits["train"].n_outputs
        scaled = ", whose targets are standardised" if header.target_standardisation else ""
        reporter.note(f"The task is regression with {outputs} output{'s' if outputs != 1 else ''}{scaled}{change}")
        return
    names = [repr(name) for name in header.classes]
    kinds = f": {listed(names)}" if names else f", the class numbers 0 to {header.n_classes - 1}"
    if not names and (absent := [str(k) for k in range(header.n_classes) if k not in counts["train"]]):
        kinds += f", of which no row of train has {listed(absent)}"
    reporter.note(f"The task is classification with {header.n_classes} classes{kinds}{change}")
    first = min((label for rows in counts.values() for label in rows), default=0)
    if first and not names:
        none = "class 0 has" if first == 1 else f"the classes 0 to {first - 1} have"
        reporter.note(
            f"Warning: {none} no rows, since the labels of the source begin with {first}. Predictions use "
            "the labels of the source; each class without rows only adds an unused output to the network"
        )
    for split, rows in counts.items():
        unseen = sorted(rows.keys() - counts["train"].keys())
        if unseen:
            which = listed([names[k] if names else str(k) for k in unseen])
            reporter.note(
                f"Warning: {sum(rows[k] for k in unseen)} of {sum(rows.values())} rows of {split} have a class that no "
                f"row of train has, so it cannot be learnt: {which}"
                f"{'; is it spelled in another way in train?' if names else ''}"
            )


def remarks_on_order(X: NDArray[Any]) -> Iterator[str]:
    """Yield warnings of features without names that number the rows, or give their order."""
    found = list(numbering_features(X))
    for consecutive, one, several in (
        (True, "is a running number", "are running numbers"),
        (False, "has a larger (or smaller) value from row to row", "have larger (or smaller) values from row to row"),
    ):
        names = [str(j) for j, running in found if running == consecutive]
        if names:
            which = f"features {listed(names)} (counted from 0) {several}"
            if len(names) == 1:
                which = f"feature {names[0]} (counted from 0) {one}"
            yield (
                f"Warning: {which}, which may give away labels by the order of the rows; leave out what only numbers "
                "the rows"
            )
