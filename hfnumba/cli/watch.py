"""How long steps with data are shown: a bar on a terminal, else a plain line now and then; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hfnumba.progress import Progress, Watch

EVERY_S = 5.0
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


def figures(done: int, total: int, unit: str, seconds: float) -> str:
    """Say how much is done, at which rate, and how long the rest will take at that rate."""
    rate = done / seconds if seconds > 0 else 0.0
    left = f", {duration(max(total - done, 0) / rate)} left" if rate else ""
    if unit == "bytes":
        return f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {rate / 1e6:,.1f} MB/s{left}"
    return f"{done:,} of {total:,} {unit}, {rate:,.{0 if rate >= 10 else 1}f} a second{left}"


@contextmanager
def watched() -> Iterator[Watch]:
    """Yield what shows steps, one at a time."""
    if not sys.stderr.isatty():
        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[figures]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:

        def watch(what: str, unit: str) -> Progress:
            for old in bar.task_ids:
                bar.remove_task(old)
            task: Any = bar.add_task(what, total=None, figures="")
            began = time.monotonic()

            def show(done: int, total: int) -> None:
                text = figures(done, total, unit, time.monotonic() - began)
                bar.update(task, completed=done, total=total, figures=text)

            return show

        yield watch


def plain(what: str, unit: str) -> Progress:
    """Print a line now and then."""
    began = said = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= EVERY_S:
            said = now
            click.echo(f"{what}: {figures(done, total, unit, now - began)}", err=True)

    return show
