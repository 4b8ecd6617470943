"""`hfnumba predict`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from hfnumba.cli.common import AnyPath, checkpoint_option, print_json
from hfnumba.cli.progress import stderr_reporter
from hfnumba.errors import HfnumbaError, UsageError
from hfnumba.path_text import path_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hfnumba.run.model import TrainedModel


@click.command()
@click.argument("run", type=AnyPath)
@click.argument("file", type=AnyPath)
@click.option(
    "-o",
    "--out",
    type=AnyPath,
    help="Write an array of all probabilities (or outputs) to this .npy file instead.",
)
@checkpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON: with --out a description of the array.")
def predict(run: Path, file: Path, out: Path | None, checkpoint: Literal["best", "newest"], as_json: bool) -> None:
    """Predict the rows of FILE with RUN's best checkpoint; print one line of JSON per row.

    FILE is .npy, .npz (its array X, or its only array) or IDX, plain or .gz. Features are in the units of the source of
    the training store, in the order of its columns, and are standardised and scaled in the same way. A line has the
    number of the predicted class, its name if it has one, and its probability, or the outputs.
    """
    import msgspec

    from hfnumba.kernels.cache import warm_up
    from hfnumba.run.model import load_model
    from hfnumba.run.rows import open_rows
    from hfnumba.store.columns import feature_names, listed

    if out is not None and out.suffix != ".npy":
        raise UsageError(f"expected --out to end in .npy, got {out}")
    model = load_model(run, checkpoint)
    rows = open_rows(file)
    blocks = model.predict_blocks(rows.blocks(), rows.n_features)
    with stderr_reporter() as reporter:
        columns = model.record.store.columns
        if columns is msgspec.UNSET:
            reporter.note("the run has no record of its columns: features are taken in the order of the training rows")
        elif columns:
            reporter.note(f"the features of {file} are taken for {listed(feature_names(columns))}")
        warm_up(reporter.note, reporter.progress)
    if out is not None:
        _write(out, (rows.n_rows, model.network.n_outputs), model.theta.dtype, blocks)
        if as_json:
            found = {
                "run": path_text(run),
                "iteration": model.iteration,
                "file": path_text(file),
                "out": path_text(out),
            }
            shape = {"n_rows": rows.n_rows, "n_outputs": model.network.n_outputs}
            print_json(found | shape | {"classes": list(model.classes)})
        names = f", of the classes {listed(model.classes)}" if model.classes and model.classifies else ""
        click.echo(f"{rows.n_rows} rows of {model.network.n_outputs} numbers are written to {out}{names}", err=True)
        return
    for row, values in enumerate(values for block in blocks for values in block):
        click.echo(json.dumps({"row": row} | _prediction(values, model)))


def _prediction(values: NDArray[Any], model: TrainedModel) -> dict[str, Any]:
    if not model.classifies:
        return {"outputs": values.tolist()}
    best = int(values.argmax())
    name = {"name": model.classes[best]} if model.classes else {}
    return {"class": best} | name | {"probability": float(values[best])}


def _write(out: Path, shape: tuple[int, int], dtype: np.dtype[Any], blocks: Iterable[NDArray[Any]]) -> None:
    """Write an array to an .npy file block by block; a failure leaves what was there before."""
    import numpy as np

    from hfnumba.atomic import explain, write_file

    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    try:
        write_file(out, chain([header.getvalue()], (block.tobytes() for block in blocks)))
    except OSError as error:
        raise HfnumbaError(explain(error, out)) from error
