"""`hfnumba check`."""

from __future__ import annotations

from pathlib import Path

import click

from hfnumba.cli import FAILED, Failure


@click.command()
@click.argument("store", type=click.Path(path_type=Path), required=False)
@click.option("--cluster", default="none", show_default=True, help="As for train.", metavar="WHERE")
def check(store: Path | None, cluster: str) -> None:
    """Check what a run needs: versions, kernels, threads, derivatives, disk, and STORE and cluster if given.

    Every chunk of the store is read. With a store and a cluster, one gradient is computed there and here and
    compared to the bit. Exit status 1 if anything is not as it should be.
    """
    from hfnumba.preflight import checks

    failed = []
    for one in checks(store, cluster):
        click.echo(f"{'ok  ' if one.ok else 'FAIL'}  {one.name:<12} {one.found}")
        failed += [] if one.ok else [one.name]
    if failed:
        raise Failure(f"not as it should be: {', '.join(failed)}", FAILED)
