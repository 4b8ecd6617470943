"""`hfnumba evaluate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import click

from hfnumba.cli.common import AnyPath, checkpoint_option, json_option, print_json
from hfnumba.cli.progress import stderr_reporter
from hfnumba.cli.tables import number, percent, print_table


@click.command()
@click.argument("run", type=AnyPath)
@click.argument("store", type=AnyPath)
@click.option("--split", default="test", show_default=True, help="Name of the split.")
@checkpoint_option
@json_option
def evaluate(run: Path, store: Path, split: str, checkpoint: Literal["best", "newest"], as_json: bool) -> None:
    """Print loss and error of RUN's best checkpoint on a split of STORE.

    Of an autoencoder the error is the squared error per row and its root mean over all outputs (RMSE), in the scale of
    the network's inputs. The loss includes the penalty and the class weights of the run, as in its ledger. STORE may be
    another one than that of the run.
    """
    from hfnumba.kernels.cache import warm_up
    from hfnumba.run.model import load_model
    from hfnumba.store import open_store

    model = load_model(run, checkpoint)
    opened = open_store(store)
    rows = opened[split]
    with stderr_reporter() as reporter:
        warm_up(reporter.note, reporter.progress)
        loss, error = model.evaluate(rows, reporter)
        squared = model.squared_error(rows) if model.autoencodes else None
    reconstruction = {}
    if squared is not None:
        reconstruction = {"squared_error": squared, "rmse": math.sqrt(squared / model.network.n_outputs)}
    if as_json:
        found = {
            "run": str(run),
            "iteration": model.iteration,
            "store": str(opened.path),
            "store_digest": opened.digest,
            "split": split,
            "n_rows": rows.n_rows,
            "loss": loss,
            "error": error,
            **reconstruction,
        }
        print_json(found)
        return
    names = ["squared error per row", "RMSE"] if reconstruction else ["error"]
    shown = [number(value) for value in reconstruction.values()] or [percent(error)]
    print_table(
        ["split", "rows", "iteration", "loss", *names],
        [[split, str(rows.n_rows), str(model.iteration), number(loss), *shown]],
    )
