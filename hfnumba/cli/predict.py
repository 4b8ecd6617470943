"""`hfnumba predict`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from hfnumba.cli.common import AnyPath, checkpoint_option, print_json
from hfnumba.cli.progress import stderr_reporter
from hfnumba.path_text import path_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hfnumba.run.answers import Names
    from hfnumba.run.model import TrainedModel
    from hfnumba.run.predictions import Part


@click.command()
@click.argument("run", type=AnyPath)
@click.argument("rows", type=AnyPath)
@click.option(
    "-o",
    "--out",
    type=AnyPath,
    help="File to write instead: .csv or .parquet with names of classes and targets, .npy, or .ark.",
)
@click.option("--split", default="test", show_default=True, help="Name of the split, where ROWS is a store.")
@checkpoint_option
@click.option(
    "--cluster",
    default="none",
    show_default=True,
    metavar="WHERE",
    help="Cluster that predicts, as for hfnumba train: none (this process), local:N, tcp://HOST:PORT, …",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Number of threads of this process, or of each worker.  [default: one per processor; 1 per worker]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --out, a description of the file.")
def predict(
    *,
    run: Path,
    rows: Path,
    out: Path | None,
    split: str,
    checkpoint: Literal["best", "newest"],
    cluster: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Predict ROWS with RUN's best checkpoint; print one line of JSON per row.

    ROWS is a table (.csv, .tsv, .parquet), whose columns are found by their names; rows of numbers in the order of the
    training rows (.npy, .npz with its array X or its only one, IDX, plain or .gz); utterances (.ark, .scp); or a store.
    Values are those of the source of the training rows, and are encoded, standardised and scaled in the same way.

    A line has the number of the predicted class, its name if it has one, and its probability, or the outputs; those of
    standardised targets are in the units of the source.
    """
    from hfnumba.kernels.cache import warm_up
    from hfnumba.launch import open_cluster
    from hfnumba.launch.pool import open_pool
    from hfnumba.run.answers import Names, refuse_format, write_answers
    from hfnumba.run.model import load_model
    from hfnumba.run.predictions import predictions

    if out is not None:
        refuse_format(out)
    model = load_model(run, checkpoint)
    with ExitStack() as stack:
        reporter = stack.enter_context(stderr_reporter())
        # First, since the other ranks of a job wait ten minutes for a message, and compiling may take long.
        placement = stack.enter_context(open_cluster(cluster, threads))
        warm_up(reporter.note, reporter.progress)
        pool = stack.enter_context(open_pool(model, placement, threads))
        parts = predictions(model, rows, split, pool, reporter)
        if out is None:
            _print(model, parts)
            return
        names = Names.of(model)
        n_rows = write_answers(out, parts, names, model.theta.dtype)
        reporter.note(_written(n_rows, out, names, model))
    if as_json:
        found = {"run": path_text(run), "iteration": model.iteration, "rows": path_text(rows), "out": path_text(out)}
        print_json(found | {"n_rows": n_rows, "n_outputs": model.network.n_outputs, "outputs": list(names.outputs)})


def _print(model: TrainedModel, parts: Iterable[Part]) -> None:
    row = 0
    for part in parts:
        of_part = {} if part.name is None else {"utterance": part.name}
        for values in (values for block in part.blocks for values in block):
            click.echo(json.dumps(of_part | {"row": row} | _prediction(values, model)))
            row += 1


def _written(n_rows: int, out: Path, names: Names, model: TrainedModel) -> str:
    """Say what a file holds, with the names of columns that it does not say itself."""
    from hfnumba.store.columns import listed

    rows, verb = ("1 row", "is") if n_rows == 1 else (f"{n_rows} rows", "are")
    if out.suffix in {".csv", ".parquet"}:
        return f"{rows} {verb} written to {out}"
    numbers = "1 number" if len(names.outputs) == 1 else f"{len(names.outputs)} numbers"
    said = f"{rows} of {numbers} {verb} written to {out}"
    if model.classes:
        return f"{said}, of the classes {listed(names.outputs)}"
    return f"{said}, of {listed(names.outputs)}" if model.record.store.targets else said


def _prediction(values: NDArray[Any], model: TrainedModel) -> dict[str, Any]:
    if not model.classifies:
        return {"outputs": values.tolist()}
    best = int(values.argmax())
    name = {"name": model.classes[best]} if model.classes else {}
    return {"class": best} | name | {"probability": float(values[best])}
