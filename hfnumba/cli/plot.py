"""`hfnumba plot`."""

from __future__ import annotations

from pathlib import Path

import click

from hfnumba.cli.common import AnyPath


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
