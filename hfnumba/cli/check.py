"""`hfnumba check`."""

from __future__ import annotations

from pathlib import Path

import click

from hfnumba.cli.common import FAILED, AnyPath, Failure, json_option, print_json
from hfnumba.cli.tables import hanging


@click.command()
@click.argument("store", type=AnyPath, required=False)
@click.option(
    "--cluster", default="none", show_default=True, help="Cluster to check, as for hfnumba train.", metavar="WHERE"
)
@json_option
def check(store: Path | None, cluster: str, as_json: bool) -> None:
    """Check what a run needs: versions, kernels, threads, derivatives, disk, and STORE and cluster if given.

    Reads every chunk of the store. With a store and a cluster, computes one gradient on the cluster and in this
    process, which must be equal to the bit. Exit status 1 if a check fails.
    """
    from hfnumba.preflight import checks

    done = []
    for one in checks(store, cluster):
        done.append(one)
        if not as_json:
            click.echo(hanging(f"{'ok  ' if one.ok else 'FAIL'}  {one.name:<12} ", one.found))
    if as_json:
        print_json([one._asdict() for one in done])
    failed = [one.name for one in done if not one.ok]
    if failed:
        raise Failure(f"failed checks: {', '.join(failed)}", FAILED)
