"""How a run is shown: a bar with figures on a terminal, a plain line per iteration otherwise; always on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from hfnumba.cli.watch import duration, figures, plain
from hfnumba.ledger import Line

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from hfnumba.progress import Progress
    from hfnumba.run import Report, TrainSettings


def number(value: float | None) -> str:
    """Format to four digits, or as a dash where there is no value."""
    return "–" if value is None else f"{value:.4g}"


def percent(value: float | None) -> str:
    """Format a share as a percentage, or as a dash where there is no value."""
    return "–" if value is None else f"{100 * value:.2f} %"


class Clock:
    """Estimates how long a run may still take, by its limits."""

    def __init__(self) -> None:
        self._started = self._since = time.monotonic()
        self._first = 0
        self._settings: TrainSettings | None = None

    def begin(self, settings: TrainSettings, line: Line | None) -> None:
        """Start to count iterations."""
        self._settings, self._since = settings, time.monotonic()
        self._first = 0 if line is None else line["iteration"]

    def left_s(self, iteration: int) -> float | None:
        """Return seconds to the limit that comes first; None while there is nothing to judge by."""
        if self._settings is None or iteration <= self._first:
            return None
        now = time.monotonic()
        each = (now - self._since) / (iteration - self._first)
        left = each * (self._settings.max_iterations - iteration)
        if self._settings.time_limit_s is not None:
            left = min(left, self._settings.time_limit_s - (now - self._started))
        return max(left, 0.0)


class PlainReport:
    """One line per iteration."""

    def __init__(self) -> None:
        self._clock = Clock()

    def note(self, text: str) -> None:
        """Print a sentence."""
        click.echo(text, err=True)

    def watch(self, what: str, unit: str) -> Progress:
        """Print how far a step is, now and then."""
        return plain(what, unit)

    def begin(self, settings: TrainSettings, line: Line | None) -> None:
        """Say where the run goes on, if it does."""
        self._clock.begin(settings, line)
        if line is not None:
            self.note(f"continuing after iteration {line['iteration']}")

    def iteration(self, line: Line) -> None:
        """Print the line."""
        parts = [
            f"iteration {line['iteration']}",
            f"loss {number(line['loss'])}",
            f"error {percent(line['error'])}",
        ]
        if line["test_error"] is not None:
            parts.append(f"test error {percent(line['test_error'])}")
        if line["damping"] is not None:
            parts.append(f"damping {number(line['damping'])}")
        parts += [f"rounds {line['rounds']}", duration(line["elapsed_s"])]
        left = self._clock.left_s(line["iteration"])
        if left:
            parts.append(f"at most {duration(left)} left")
        self.note(", ".join(parts))

    def stopping(self, signal_name: str) -> None:
        """Say so; past Python's buffers, because a signal handler may interrupt a write through them."""
        os.write(2, f"\n{_stopping(signal_name)}\n".encode())


class RichReport:
    """A bar and the newest figures."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._clock = Clock()
        self._task: Any = None

    def note(self, text: str) -> None:
        """Print a sentence above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def watch(self, what: str, unit: str) -> Progress:
        """Show a bar for a step until it is done; it may be told by another thread."""
        began, tasks = time.monotonic(), list[Any]()

        def show(done: int, total: int) -> None:
            if done < total:
                tasks[:] = tasks or [self._bar.add_task(what, total=total, figures="")]
                text = figures(done, total, unit, time.monotonic() - began)
                self._bar.update(tasks[0], completed=done, total=total, figures=text)
            elif tasks:
                self._bar.remove_task(tasks.pop())

        return show

    def begin(self, settings: TrainSettings, line: Line | None) -> None:
        """Show the bar."""
        self._clock.begin(settings, line)
        done = 0 if line is None else line["iteration"]
        if line is not None:
            self.note(f"continuing after iteration {done}")
        self._task = self._bar.add_task(
            settings.method, completed=done, total=settings.max_iterations, figures="starting"
        )

    def iteration(self, line: Line) -> None:
        """Show the figures of a line."""
        parts = [f"loss {number(line['loss'])}", f"error {percent(line['error'])}"]
        if line["test_error"] is not None:
            parts.append(f"test {percent(line['test_error'])}")
        if line["damping"] is not None:
            parts.append(f"damping {number(line['damping'])}")
        parts.append(f"{line['rounds']} rounds")
        left = self._clock.left_s(line["iteration"])
        if left is not None:
            parts.append(f"≤ {duration(left)} left")
        self._bar.update(self._task, completed=line["iteration"], figures=" · ".join(parts))

    def stopping(self, signal_name: str) -> None:
        """Show it in place of the method; the bar is drawn by a thread of its own, so nothing is written here."""
        if self._task is None:
            os.write(2, f"\n{_stopping(signal_name)}\n".encode())
        else:
            once_more = "; Ctrl-C again: at once" if signal_name == "SIGINT" else ""
            self._bar.update(self._task, description=f"stopping{once_more}")


def _stopping(signal_name: str) -> str:
    once_more = "; press Ctrl-C again to stop at once" if signal_name == "SIGINT" else f" ({signal_name})"
    return f"stopping after this iteration{once_more}"


@contextmanager
def report() -> Iterator[Report]:
    """Yield what suits stderr."""
    if not sys.stderr.isatty():
        yield PlainReport()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True),
    ) as bar:
        yield RichReport(bar)


def table(columns: list[str], rows: list[list[str]], err: bool = False) -> None:
    """Print a table: drawn on a terminal, tab-separated elsewhere."""
    if not (sys.stderr if err else sys.stdout).isatty():
        for row in [columns, *rows]:
            click.echo("\t".join(row), err=err)
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(*columns)
    for row in rows:
        drawn.add_row(*row)
    Console(stderr=err).print(drawn)


def summary(lines: tuple[Line, ...]) -> None:
    """Print the first, the best and the last iteration of a run as a table on stderr."""
    if not lines:
        return
    chosen = [("start", lines[0])]
    if any(line["test_error"] is not None for line in lines):
        best = min((line for line in lines if line["test_error"] is not None), key=lambda line: line["test_error"])
        chosen.append(("best test error", best))
    chosen.append(("end", lines[-1]))
    columns = ["", "iteration", "loss", "error", "test loss", "test error", "passes", "rounds", "MB", "seconds"]
    table(
        columns,
        [
            [
                name,
                str(line["iteration"]),
                number(line["loss"]),
                percent(line["error"]),
                number(line["test_loss"]),
                percent(line["test_error"]),
                f"{line['epoch']:.1f}",
                str(line["rounds"]),
                f"{line['nbytes'] / 1e6:.1f}",
                f"{line['elapsed_s']:.1f}",
            ]
            for name, line in chosen
        ],
        err=True,
    )
