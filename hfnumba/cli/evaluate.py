"""`hfnumba evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from hfnumba.cli.common import AnyPath, checkpoint_option, json_option, print_json
from hfnumba.cli.progress import stderr_reporter
from hfnumba.cli.tables import number, print_table
from hfnumba.metrics import ERROR, R2, RMSE, SQUARED_ERROR
from hfnumba.path_text import path_text


@click.command()
@click.argument("run", type=AnyPath)
@click.argument("store", type=AnyPath)
@click.option("--split", default="test", show_default=True, help="Name of the split of STORE.")
@checkpoint_option
@json_option
def evaluate(run: Path, store: Path, split: str, checkpoint: Literal["best", "newest"], as_json: bool) -> None:
    """Print loss and error rate (RMSE and R² for regression) of RUN's best checkpoint on a split of STORE.

    For an autoencoder the error is the squared error per row and its root mean over all outputs (RMSE), in the scale of
    the network's inputs. The loss includes the penalty and the class weights of the run, as in its ledger. STORE may
    differ from that of the run.
    """
    from hfnumba.kernels.cache import warm_up
    from hfnumba.run.model import load_model
    from hfnumba.store import open_store

    model = load_model(run, checkpoint)
    opened = open_store(store)
    rows = opened[split]
    with stderr_reporter() as reporter:
        warm_up(reporter.note, reporter.progress)
        measured = model.measure(rows, reporter)
    if as_json:
        found = {
            "run": path_text(run),
            "iteration": model.iteration,
            "store": path_text(opened.path),
            "store_digest": opened.digest,
            "split": split,
            "n_rows": rows.n_rows,
            **measured.as_dict(),
        }
        print_json(found)
        return
    found = measured.as_dict()
    shown = [metric for metric in (ERROR, SQUARED_ERROR, RMSE, R2) if metric.key in found]
    print_table(
        ["split", "rows", "iteration", "loss", *(metric.name for metric in shown)],
        [
            [
                *(split, str(rows.n_rows), str(model.iteration), number(measured.loss)),
                *(metric.text(found[metric.key]) for metric in shown),
            ]
        ],
    )
    if len(measured.targets) > 1:
        print_table(
            ["target", RMSE.name, R2.name],
            [[target.name, RMSE.text(target.rmse), R2.text(target.r2)] for target in measured.targets],
        )
