"""`hfnumba export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from hfnumba.cli.common import AnyPath, Choice, checkpoint_option

_FORMATS = ("onnx", "safetensors", "npz", "torch-state-dict")


@click.command()
@click.argument("run", type=AnyPath)
@click.option("--to", type=Choice(_FORMATS), required=True, help="Format of the file.")
@click.option("-o", "--out", type=AnyPath, help="File to write.  [default: network with the format's suffix in RUN]")
@checkpoint_option
def export(run: Path, to: str, out: Path | None, checkpoint: Literal["best", "newest"]) -> None:
    """Write the network of a checkpoint of RUN to a file; print its path.

    onnx: one graph with the standardisation, for features in the units of the training store's source; its outputs are
    logits and probabilities, or values. safetensors and npz: the arrays W1, b1, …, mean, deviation, scale and offset,
    with names and sizes beside them. torch-state-dict: weights and biases of a Sequential of Linear layers, for
    torch.load(FILE, weights_only=True); without the standardisation.
    """
    from hfnumba.run.export import SUFFIXES
    from hfnumba.run.export import export as write
    from hfnumba.run.model import load_model

    target = out if out is not None else run / f"network{SUFFIXES[to]}"
    click.echo(write(load_model(run, checkpoint), to, target))
