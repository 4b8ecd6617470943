"""`hfnumba predict`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hfnumba.cli.common import AnyPath
from hfnumba.cli.progress import stderr_reporter
from hfnumba.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@click.command()
@click.argument("run", type=AnyPath)
@click.argument("file", type=AnyPath)
@click.option(
    "-o",
    "--out",
    type=AnyPath,
    help="Write an array of all probabilities (or outputs) to this .npy file instead.",
)
def predict(run: Path, file: Path, out: Path | None) -> None:
    """Predict the rows of FILE with RUN's newest checkpoint; print one line of JSON per row.

    FILE is .npy, .npz (its array X, or its only array) or IDX, plain or .gz. Features are in the units of the source of
    the training store, and are scaled in the same way. A line has the predicted class and its probability, or the
    outputs.
    """
    import numpy as np

    from hfnumba.atomic import write_file
    from hfnumba.kernels.cache import warm_up
    from hfnumba.run.model import load_model, read_rows

    if out is not None and out.suffix != ".npy":
        raise UsageError(f"expected --out to end in .npy, got {out}")
    model = load_model(run)
    rows = read_rows(file)
    with stderr_reporter() as reporter:
        warm_up(reporter.note)
    outputs = model.predict(rows)
    if out is not None:
        payload = io.BytesIO()
        np.save(payload, outputs)
        write_file(out, payload.getvalue())
        click.echo(f"{outputs.shape[0]} rows of {outputs.shape[1]} numbers are written to {out}", err=True)
        return
    for row, values in enumerate(outputs):
        click.echo(json.dumps({"row": row} | _prediction(values, model.classifies)))


def _prediction(values: NDArray[Any], classifies: bool) -> dict[str, Any]:
    if not classifies:
        return {"outputs": values.tolist()}
    best = int(values.argmax())
    return {"class": best, "probability": float(values[best])}
