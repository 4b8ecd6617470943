"""`hfnumba figure`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from hfnumba.cli.common import RESUMABLE, AnyPath, Choice, Failure
from hfnumba.cli.progress import stderr_reporter
from hfnumba.errors import UsageError

FIGURES = {"1": "one", "2": "two", "3": "three", "saddle": "saddle"}
"""Module of :mod:`hfnumba.figures` for each figure; it has ``make(options, reporter)``, which returns the files."""


@click.command()
@click.argument("name", type=Choice(list(FIGURES)))
@click.option("--store", type=AnyPath, help="Store of the data.  [default: see above]")
@click.option("--quick", is_flag=True, help="Make a small version, in under 3 minutes on two processors.")
@click.option("-o", "--out", type=AnyPath, default=Path("figures"), show_default=True, help="Folder to write to.")
@click.option(
    "--cluster",
    default="none",
    show_default=True,
    help="Cluster, as for hfnumba train: none (this process), local, local:N, tcp://HOST:PORT, …",
    metavar="WHERE",
)
@click.option(
    "--results",
    type=AnyPath,
    multiple=True,
    help="File of results of hfnumba bench quality, for figure 2; may be given several times.",
    metavar="FILE",
)
def figure(*, name: str, store: Path | None, quick: bool, out: Path, cluster: str, results: tuple[Path, ...]) -> None:
    """Make a figure of the paper from runs of your own: pictures (PNG, SVG) and a table; print their paths.

    \b
    1       loss against iterations, passes and rounds, by method
    2       time of an iteration against workers: measured, and modelled to 1,024
    3       errors, and iterations to an error, by size of the curvature sample
    saddle  which methods leave the plateau around zero weights

    Without --store they use mnist.zarr in the current folder; figure 2 builds synthetic data of TIMIT's shape, and
    starts its own workers. With --results it also models the time of training to the targets of these files, by method,
    for networks of 1, 10 and 100 Gbit/s. The runs are stored below the output folder. Complete runs are not repeated,
    and after Ctrl-C (exit status 75) the same command continues.
    """  # noqa: D301 - Click wants the character itself
    from hfnumba.figures.options import FigureOptions, FigureStopped

    if results and name != "2":
        raise UsageError(f"--results is for figure 2, got figure {name}; leave it out")
    module = import_module(f"hfnumba.figures.{FIGURES[name]}")
    options = FigureOptions(store=store, out=out, quick=quick, cluster=cluster, results=results)
    try:
        with stderr_reporter() as reporter:
            paths = module.make(options, reporter)
    except (FigureStopped, KeyboardInterrupt) as stop:
        raise Failure(f"{str(stop) or 'interrupted'}; the same command continues from there", RESUMABLE) from None
    for path in paths:
        click.echo(path)
