"""Reporters of the command line, on stderr: bars on a terminal, otherwise plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from hfnumba.cli.tables import number
from hfnumba.errors import printable
from hfnumba.ledger import Line
from hfnumba.metrics import described
from hfnumba.stop import print_in_handler

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from hfnumba.progress import Progress
    from hfnumba.run import RunReporter, TrainSettings

INTERVAL_S = 5.0
"""Seconds between two plain lines of a step; a shorter step has none."""


def duration(seconds: float) -> str:
    """Format as ``0.7 s``, ``17 s``, ``3:07`` or ``1:02:03``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    if hours:
        return f"{hours}:{m:02d}:{s:02d}"
    return f"{m}:{s:02d}" if minutes else f"{s} s"


def rate(done: int, total: int, unit: str, seconds: float) -> str:
    """Format the amount done, the rate, and the time left at that rate."""
    per_second = done / seconds if seconds > 0 else 0.0
    left = f", {duration(max(total - done, 0) / per_second)} left" if per_second else ""
    if unit == "bytes":
        return f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {per_second / 1e6:,.1f} MB/s{left}"
    return f"{done:,} of {total:,} {unit}, {per_second:,.{0 if per_second >= 10 else 1}f} a second{left}"


class Clock:
    """Estimates the remaining time of a run from its limits."""

    def __init__(self) -> None:
        self._started = self._since = time.monotonic()
        self._first = 0
        self._settings: TrainSettings | None = None

    def begin(self, settings: TrainSettings, line: Line | None) -> None:
        """Start counting iterations; ``line`` is the last one before an interruption."""
        self._settings, self._since = settings, time.monotonic()
        self._first = 0 if line is None else line["iteration"]

    def left_s(self, iteration: int) -> float | None:
        """Return the seconds until the first limit is reached; None before the first iteration."""
        if self._settings is None or iteration <= self._first:
            return None
        now = time.monotonic()
        each = (now - self._since) / (iteration - self._first)
        left = each * (self._settings.max_iterations - iteration)
        if self._settings.time_limit_s is not None:
            left = min(left, self._settings.time_limit_s - (now - self._started))
        return max(left, 0.0)


class PlainReporter:
    """Reporter of plain lines: one per iteration, and one every few seconds of a long step."""

    def __init__(self) -> None:
        self._clock = Clock()

    def note(self, text: str) -> None:
        """Print a sentence."""
        click.echo(printable(text), err=True)

    def progress(self, what: str, unit: str) -> Progress:
        """Begin a step; print its progress every few seconds."""
        began = printed = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal printed
            now = time.monotonic()
            if now - printed >= INTERVAL_S:
                printed = now
                self.note(f"{what}: {rate(done, total, unit, now - began)}")

        return show

    def begin(self, settings: TrainSettings, line: Line | None) -> None:
        """Print where an interrupted run continues."""
        self._clock.begin(settings, line)
        if line is not None:
            self.note(f"continuing after iteration {line['iteration']}")

    def iteration(self, line: Line) -> None:
        """Print a line for an iteration."""
        parts = [
            f"iteration {line['iteration']}",
            f"loss {number(line['loss'])}",
            *(f"{metric.name} {text}" for metric, text in described(line)),
        ]
        if line.get("validation_loss") is not None:
            best = f"(best in iteration {line['best_iteration']})"
            parts.append(f"validation loss {number(line['validation_loss'])} {best}")
        parts += [f"test {metric.name} {text}" for metric, text in described(line, "test_")]
        if line["damping"] is not None:
            parts.append(f"damping {number(line['damping'])}")
        parts += [f"rounds {line['rounds']}", duration(line["elapsed_s"])]
        left = self._clock.left_s(line["iteration"])
        if left:
            parts.append(f"at most {duration(left)} left")
        self.note(", ".join(parts))

    def stopping(self, signal_name: str) -> None:
        """Print that the run stops after this iteration."""
        print_in_handler(_stopping(signal_name))


class BarReporter:
    """Reporter of bars: one for the run, and one for the current step; sentences are printed above them."""

    def __init__(self, bars: Bars) -> None:
        self._bars, self._clock = bars, Clock()
        self._run: Any = None
        self._step: Any = None
        self._limit = 0

    def note(self, text: str) -> None:
        """Print a sentence above the bars; the terminal wraps it, so that paths can be copied."""
        self._bars.console.print(printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True)

    def progress(self, what: str, unit: str) -> Progress:
        """Begin a step: its bar replaces that of the step before, and disappears when the step is done."""
        self.end_step()
        step = self._step = self._bars.add_task(what, total=None, text="")
        began = time.monotonic()

        def show(done: int, total: int) -> None:
            if step != self._step:
                return
            if 0 < total <= done:
                self.end_step()
            else:
                self._bars.update(
                    step, completed=done, total=total, text=rate(done, total, unit, time.monotonic() - began)
                )

        return show

    def end_step(self) -> None:
        """Remove the bar of the current step, if there is one."""
        if self._step is not None:
            self._bars.remove_task(self._step)
            self._step = None

    def begin(self, settings: TrainSettings, line: Line | None) -> None:
        """Add the bar of the run."""
        self._clock.begin(settings, line)
        done = 0 if line is None else line["iteration"]
        if line is not None:
            self.note(f"continuing after iteration {done}")
        self._limit = settings.max_iterations
        self._run = self._bars.add_task(
            settings.method, completed=done, total=self._limit, text=f"{done}/{self._limit} · starting"
        )

    def iteration(self, line: Line) -> None:
        """Show the numbers of an iteration."""
        parts = [f"{line['iteration']}/{self._limit}", f"loss {number(line['loss'])}"]
        parts += [f"{metric.name} {text}" for metric, text in described(line)[:1]]
        if line.get("validation_loss") is not None:
            parts.append(f"validation {number(line['validation_loss'])} (best: {line['best_iteration']})")
        parts += [f"test {text}" for _, text in described(line, "test_")[:1]]
        left = self._clock.left_s(line["iteration"])
        if left is not None:
            parts.append(f"≤ {duration(left)} left")
        if line["damping"] is not None:
            parts.append(f"damping {number(line['damping'])}")
        parts.append(f"{line['rounds']} rounds")
        self._bars.update(self._run, completed=line["iteration"], text=" · ".join(parts))

    def stopping(self, signal_name: str) -> None:
        """Show in place of the numbers that the run stops; the bars are drawn by a thread of their own."""
        if self._run is None:
            print_in_handler(_stopping(signal_name))
        else:
            self._bars.update(self._run, text=_stopping(signal_name))


def _stopping(signal_name: str) -> str:
    again = "; press Ctrl-C again to stop at once" if signal_name == "SIGINT" else f" ({signal_name})"
    return f"stopping after this iteration{again}"


@contextmanager
def stderr_reporter() -> Iterator[RunReporter]:
    """Yield a reporter that suits stderr."""
    if not sys.stderr.isatty():
        yield PlainReporter()
        return
    from rich.console import Console

    from hfnumba.cli.bars import StackedBars

    with StackedBars(console=Console(stderr=True)) as bars:
        reporter = BarReporter(bars)
        yield reporter
        reporter.end_step()
