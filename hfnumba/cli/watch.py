"""`hfnumba watch`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hfnumba.cli.common import AnyPath
from hfnumba.cli.progress import duration
from hfnumba.cli.sparkline import sparkline
from hfnumba.cli.tables import number
from hfnumba.errors import printable
from hfnumba.metrics import ERROR, R2, RMSE, metrics_of

if TYPE_CHECKING:
    from hfnumba.run.overview import Overview

_REFRESH_S = 1.0
_LABEL, _VALUE = 16, 12
_SERIES = {
    "loss": ("loss", number),
    **{
        f"{beginning}{metric.key}": (f"{name}{metric.name}", metric.text)
        for metric in (ERROR, RMSE, R2)
        for beginning, name in (("", ""), ("validation_", "validation "), ("test_", "test "))
    },
    "damping": ("damping", number),
    "rho": ("reduction ratio", number),
}
"""Fields of the ledger that are drawn: their names and the format of their last number."""


@click.command()
@click.argument("run", type=AnyPath)
def watch(run: Path) -> None:
    """Watch RUN while another process trains it: curves, damping, the last step and its reason, costs, time left.

    Ends with Ctrl-C, or when the run has reached a limit or stopped early; after a signal or a time limit it waits.
    Without a terminal the present state is printed once.
    """
    from hfnumba.run.overview import overview

    seen = overview(run)
    if not sys.stdout.isatty():
        for line in shown(seen, run, 80):
            click.echo(line)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()

    def picture() -> Any:
        return Text("\n".join(shown(seen, run, console.width)))

    with Live(picture(), console=console, auto_refresh=False) as live:
        try:
            while seen is None or seen.ending is None:
                time.sleep(_REFRESH_S)
                seen = overview(run)
                live.update(picture(), refresh=True)
        except KeyboardInterrupt:
            return


def shown(seen: Overview | None, run: Path, width: int) -> list[str]:
    """Return the lines of a screen of some width."""
    if seen is None:
        return [f"{printable(str(run))}: the run has not begun yet", "if no process trains there, start it again"]
    settings, lines = seen.settings, seen.lines
    head = f"{printable(str(run))}: {settings.method}, hidden {','.join(map(str, settings.hidden)) or 'none'}"
    if not lines:
        return [head, "no iteration is recorded yet"]
    last, blocks = lines[-1], max(1, width - _LABEL - _VALUE - 1)
    found = [head, _row("iteration", f"{last['iteration']} of {settings.max_iterations}{_time(seen)}")]
    # The error of a regression is no share.
    others = {metric.key for metric in (ERROR, RMSE, R2) if metric not in metrics_of(settings.loss or "")}
    for name, (label, form) in _SERIES.items():
        if name.removeprefix("validation_").removeprefix("test_") in others:
            continue
        values = seen.values(name)
        if any(value is not None for value in values):
            latest = next(value for value in reversed(values) if value is not None)
            found.append(f"{_row(label, form(latest)):<{_LABEL + _VALUE}} {sparkline(values, blocks)}")
    if seen.step:
        found.append(_row("last step", printable(seen.step)))
    per = f", {last['rounds'] / last['iteration']:.1f} an iteration" if last["iteration"] else ""
    found.append(_row("rounds", f"{last['rounds']:,}{per}"))
    found.append(_row("sent, received", f"{last['nbytes'] / 1e6:,.1f} MB"))
    return [line if len(line) <= width else _wrapped(line, width) for line in found]


def _row(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _time(seen: Overview) -> str:
    spent = f", {duration(seen.lines[-1]['elapsed_s'])} so far"
    if seen.ending is not None:
        return f"{spent}; ended: {seen.ending}"
    left = "" if seen.left_s is None else f", about {duration(seen.left_s)} left"
    return f"{spent}{left}; last record {duration(seen.age_s)} ago"


def _wrapped(line: str, width: int) -> str:
    from textwrap import fill

    return fill(line, width, subsequent_indent=" " * _LABEL, drop_whitespace=True)
