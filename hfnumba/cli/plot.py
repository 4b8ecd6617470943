"""`hfnumba plot` and `hfnumba runs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hfnumba.cli.common import FAILED, AnyPath, Failure
from hfnumba.cli.tables import number, print_table
from hfnumba.errors import CheckpointError
from hfnumba.metrics import ERROR, Metric, described

if TYPE_CHECKING:
    from hfnumba.run import RunDirectory


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…", type=AnyPath)
@click.option("-o", "--out", type=AnyPath, help="A .png, .svg or .pdf file.  [default: curves.png in the first RUN]")
def plot(runs: tuple[Path, ...], out: Path | None) -> None:
    """Draw loss and error rate (RMSE and R² for regression) against four costs; print the path of the file.

    The costs are iterations, passes over the data, rounds and seconds. Each quantity has panels of its own.
    """
    from hfnumba.figures.curves import draw, read_curves

    target = out if out is not None else runs[0] / "curves.png"
    draw([read_curves(run) for run in runs], target)
    click.echo(target)


@click.command()
@click.argument("directory", type=AnyPath, default=Path("runs"))
def runs(directory: Path) -> None:
    """List the runs in DIRECTORY (by default: runs), the newest last.

    Those that cannot be read are named on stderr, and the exit status is 1.
    """
    from hfnumba.run.directory import RunDirectory

    if not directory.is_dir():
        raise CheckpointError(f"there is no directory {directory}; name one that contains runs")
    found = sorted(directory.glob("*/config.toml"), key=lambda config: config.lstat().st_mtime)
    if not found:
        raise CheckpointError(f"there are no runs in {directory}; `hfnumba train` makes them")
    rows, faults = [], []
    for config in found:
        try:
            rows.append(_row(RunDirectory(config.parent)))
        except CheckpointError as error:
            faults.append(Failure(str(error), FAILED))
    if rows:
        print_table(["run", "method", "hidden", "iterations", "loss", "error", "test error"], rows)
    for fault in faults[:-1]:
        fault.show()
    if faults:
        raise faults[-1]


def _row(run: RunDirectory) -> list[str]:
    from hfnumba import ledger
    from hfnumba.run.scores import completed

    settings = run.record().settings
    lines = completed(ledger.read(run.ledger), settings.loss)
    last = lines[-1] if lines else {}
    return [
        run.path.name,
        settings.method,
        ",".join(map(str, settings.hidden)),
        f"{last.get('iteration', '–')} of {settings.max_iterations}",
        number(last.get("loss")),
        _measures(described(last)),
        _measures(described(last, "test_")) or "–",
    ]


def _measures(found: Sequence[tuple[Metric, str]]) -> str:
    """Format as ``4.21 %`` or ``RMSE 46310, R² 0.9750``."""
    return ", ".join(text if metric is ERROR else f"{metric.name} {text}" for metric, text in found)
