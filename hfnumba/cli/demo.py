"""`hfnumba demo`."""

from __future__ import annotations

from pathlib import Path

import click

from hfnumba.cli.common import AnyPath, Failure
from hfnumba.cli.progress import stderr_reporter
from hfnumba.cli.train import default_run, run_and_report

GOAL = 0.04


@click.command()
@click.option(
    "--dir", "folder", type=AnyPath, default=Path("runs"), show_default=True, help="Folder for the store and the run."
)
def demo(folder: Path) -> None:
    """Train on the handwritten digits that come with scikit-learn, on a local cluster of two processes.

    Builds a store, starts a cluster, trains a network 64-100-50-10 with hf-bicgstab and draws its curves. Takes well
    under a minute once the kernels are compiled.
    """
    from hfnumba.errors import UsageError
    from hfnumba.ingest import build

    path = folder / "digits.zarr"
    with stderr_reporter() as reporter:
        store = build("digits", None, path, reporter=reporter)
    train, test = store["train"], store["test"]
    click.echo(
        f"The store {path} has {train.n_rows} training and {test.n_rows} test rows of {train.n_features} features.",
        err=True,
    )
    run = folder / default_run(Path("demo"), "hf-bicgstab").name
    given = {"hidden": (100, 50), "max_iterations": 20, "target_error": 0.0, "cluster": "local:2"}
    outcome = run_and_report(path, run, given)
    try:
        from hfnumba.figures.curves import draw, read_curves

        picture = run / "curves.png"
        draw([read_curves(run)], picture)
        click.echo(f"The curves are in {picture}.", err=True)
    except UsageError as error:
        click.echo(f"No curves: {error}.", err=True)
    reached = outcome.lines[-1]["test_error"]
    if reached > GOAL:
        raise Failure(f"the test error is {100 * reached:.2f} %, expected at most {100 * GOAL:g} %", 1)
    click.echo(f"The test error is {100 * reached:.2f} %. What to try next:", err=True)
    for command, what in (
        (f"hfnumba train {path} --hidden 100,50 --method gn-cg", "Another method"),
        ("hfnumba runs" if folder == Path("runs") else f"hfnumba runs {folder}", "A table of all runs"),
        (f"hfnumba plot {folder}/demo-*", "Their curves in one picture"),
        ("hfnumba data list", "Larger data sets"),
        ("hfnumba train --help", "All settings"),
    ):
        click.echo(f"{what}:\n  {command}", err=True)
