"""`hfnumba explain`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from hfnumba.cli.common import AnyPath, checkpoint_option, json_option, print_json
from hfnumba.cli.tables import hanging
from hfnumba.errors import printable


@click.command()
@click.argument("run", type=AnyPath)
@checkpoint_option
@json_option
def explain(run: Path, checkpoint: Literal["best", "newest"], as_json: bool) -> None:
    """Say in words what went well (+) or badly (!) in RUN, and what to change.

    The findings come from the ledger, a checkpoint, and some rows of the store if it is still in its place.
    """
    from hfnumba.run.explain import explain as explain_run

    found = explain_run(run, checkpoint)
    if as_json:
        print_json([asdict(finding) for finding in found])
        return
    for finding in found:
        click.echo(hanging(f"{'+' if finding.good else '!'} ", printable(f"{finding.cause}: {finding.text}")))
