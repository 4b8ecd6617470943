"""What is said about the rows of a store that is built: utterances that cannot be used, or are there twice."""

from __future__ import annotations

from collections.abc import Sequence

from hfnumba.errors import DataError
from hfnumba.progress import Reporter

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
