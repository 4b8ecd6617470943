"""How long steps tell how far they have come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

Progress = Callable[[int, int], None]
"""Called with what is done and the total."""

Step = Callable[[int], None]
"""Called with how much more is done."""

Watch = Callable[[str, str], Progress]
"""Called at the beginning of a step with what is done, and in which units (``"bytes"``, ``"rows"`` and so on)."""


def unwatched(what: str, unit: str) -> Progress:
    """Watch nothing."""
    return lambda done, total: None


class Steps:
    """Counts towards a total."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def step(self, n: int = 1) -> None:
        """Count ``n`` more."""
        self._done += n
        self._progress(self._done, self._total)


class Reading:
    """How far files are read, by their sizes.

    Parameters
    ----------
    progress : callable
    files : mapping of str to sequence of Path
        Those of each split.
    """

    def __init__(self, progress: Progress, files: Mapping[str, Sequence[Path]]) -> None:
        self._progress, self._done = progress, 0
        self._total = sum(path.stat().st_size for paths in files.values() for path in paths)

    def follow[T](self, path: Path, parts: Iterable[tuple[T, float]]) -> Iterator[T]:
        """Yield the parts of a file; with each comes the share of the file that is read by then."""
        nbytes = path.stat().st_size
        for part, share in parts:
            self._progress(self._done + round(share * nbytes), self._total)
            yield part
        self._done += nbytes
