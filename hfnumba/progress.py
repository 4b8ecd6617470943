"""Progress reporting for long-running steps: the interface of reporters, and counters that drive it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

Progress = Callable[[int, int], None]
"""Called with the amount done so far and the total."""

Advance = Callable[[int], None]
"""Called with the amount done since the last call."""


class Reporter(Protocol):
    """Receiver of messages and progress; decides how they are shown."""

    def note(self, text: str) -> None:
        """Show one sentence to the user.

        Parameters
        ----------
        text : str
            The sentence.
        """
        ...

    def progress(self, what: str, unit: str) -> Progress:
        """Begin a step that may take long.

        Parameters
        ----------
        what : str
            Name of the step, such as ``"Reading rows"``.
        unit : str
            Unit of its amounts, such as ``"rows"`` or ``"bytes"``.

        Returns
        -------
        callable
            Receives the progress of this step. It may be called from another thread.
        """
        ...


class _Silent:
    """Reporter that shows nothing."""

    def note(self, text: str) -> None:
        """Ignore the sentence."""

    def progress(self, what: str, unit: str) -> Progress:
        """Return a callable that ignores the progress."""
        return lambda done, total: None


SILENT: Reporter = _Silent()
"""Reporter that shows nothing; the default wherever a function takes a reporter."""


class Counter:
    """Counter towards a known total, which reports every increase.

    Parameters
    ----------
    progress : callable
        Called after every increase.
    total : int
        Amount at which the step is done.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def advance(self, n: int = 1) -> None:
        """Add ``n`` to the amount done."""
        self._done += n
        self._progress(self._done, self._total)


class FileProgress:
    """Progress of reading files one after another, in bytes.

    Parameters
    ----------
    progress : callable
        Called after every piece of a file.
    files : mapping of str to sequence of Path
        Files of each split; their sizes make the total.
    """

    def __init__(self, progress: Progress, files: Mapping[str, Sequence[Path]]) -> None:
        self._progress, self._done = progress, 0
        self._total = sum(path.stat().st_size for paths in files.values() for path in paths)

    def follow[T](self, path: Path, pieces: Iterable[tuple[T, float]]) -> Iterator[T]:
        """Yield the pieces of a file; each comes with the share of the file that is read by then."""
        nbytes = path.stat().st_size
        for piece, share in pieces:
            self._progress(self._done + round(share * nbytes), self._total)
            yield piece
        self._done += nbytes


def with_bar[T, R](
    items: Generator[T, None, R], total: int | None, describe: Callable[[T], tuple[int, str]]
) -> Generator[T, None, R]:
    """Yield what a generator yields, return what it returns, and show a progress bar with a text of the last item.

    In a notebook the bar is a part of the output; elsewhere it is drawn on stderr, and where that is no terminal only
    its last state is printed.

    Parameters
    ----------
    items : generator
    total : int or None
        Number of items in all; None if it is not known.
    describe : callable
        Returns the number of an item, and its text.
    """
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=not Console().is_jupyter)
    columns = MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("", total=total)
        while True:
            try:
                item = next(items)
            except StopIteration as end:
                result: R = end.value
                return result
            number, text = describe(item)
            bars.update(bar, completed=number, description=text)
            yield item
