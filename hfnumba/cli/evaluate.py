"""`hfnumba evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from hfnumba.cli.common import AnyPath, json_option, print_json
from hfnumba.cli.progress import stderr_reporter
from hfnumba.cli.tables import number, percent, print_table


@click.command()
@click.argument("run", type=AnyPath)
@click.argument("store", type=AnyPath)
@click.option("--split", default="test", show_default=True, help="Name of the split.")
@json_option
def evaluate(run: Path, store: Path, split: str, as_json: bool) -> None:
    """Print loss and error of RUN's newest checkpoint on a split of STORE.

    The loss includes the penalty and the class weights of the run, as in its ledger. STORE may be another one than
    that of the run.
    """
    from hfnumba.kernels.cache import warm_up
    from hfnumba.run.model import load_model
    from hfnumba.store import open_store

    model = load_model(run)
    opened = open_store(store)
    rows = opened[split]
    with stderr_reporter() as reporter:
        warm_up(reporter.note, reporter.progress)
        loss, error = model.evaluate(rows, reporter)
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
        }
        print_json(found)
        return
    print_table(
        ["split", "rows", "iteration", "loss", "error"],
        [[split, str(rows.n_rows), str(model.iteration), number(loss), percent(error)]],
    )
