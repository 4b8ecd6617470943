"""`hfnumba cluster-scripts`."""

from __future__ import annotations

from pathlib import Path

import click

from hfnumba.cli.common import AnyPath


@click.command()
@click.argument("folder", metavar="DIR", type=AnyPath)
@click.option("--overwrite", is_flag=True, help="Replace files that DIR already has.")
def cluster_scripts(folder: Path, overwrite: bool) -> None:
    """Write launch scripts for MPI, Slurm, PBS and Kubernetes to the folder DIR; print their paths.

    README.md among them says what each is for. The scripts for Slurm and PBS expect to be in a folder named cluster,
    below the one that jobs are submitted from.
    """
    from hfnumba.launch.scripts import write_scripts

    for path in write_scripts(folder, overwrite=overwrite):
        click.echo(path)
