"""`hfnumba report`."""

from __future__ import annotations

from pathlib import Path

import click

from hfnumba.cli.common import AnyPath


@click.command()
@click.argument("run", type=AnyPath)
@click.option("-o", "--out", type=AnyPath, help="An .html file.  [default: report.html in RUN]")
def report(run: Path, out: Path | None) -> None:
    """Write a page about RUN: findings, curves, timings, settings, data, machine, versions, and every iteration.

    The page is one file that needs no other file and no network. Prints its path.
    """
    from hfnumba.figures.report import report as write_report

    click.echo(write_report(run, out if out is not None else run / "report.html"))
