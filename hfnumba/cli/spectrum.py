"""`hfnumba spectrum`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hfnumba.cli.common import AnyPath, checkpoint_option
from hfnumba.cli.progress import stderr_reporter
from hfnumba.cli.tables import print_table
from hfnumba.errors import UsageError
from hfnumba.path_text import path_text

_MATRICES = ("hessian", "gauss-newton", "fisher", "empirical-fisher")


@click.command()
@click.argument("run", type=AnyPath)
@click.argument("store", type=AnyPath)
@checkpoint_option
@click.option("--matrix", type=click.Choice(_MATRICES), default="hessian", show_default=True, help="Curvature matrix.")
@click.option(
    "--split", default="train", show_default=True, help="Split of STORE over whose rows the matrix is a mean."
)
@click.option("--rows", type=click.IntRange(1), help="Number of rows in a sample of the split.  [default: all]")
@click.option("--probes", type=click.IntRange(2), default=8, show_default=True, help="Number of random vectors.")
@click.option(
    "--steps", type=click.IntRange(2), default=64, show_default=True, help="Number of products for each random vector."
)
@click.option(
    "--extreme", type=click.IntRange(1), default=5, show_default=True, help="Number of eigenvalues at each end."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed for the random vectors.")
@click.option(
    "--every",
    type=click.IntRange(1),
    help="Number of iterations between spectra along the run.  [default: only the chosen checkpoint]",
)
@click.option("--cluster", default="none", show_default=True, metavar="WHERE", help="Cluster, as for hfnumba train.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Number of threads of this process, or of each worker.  [default: one per processor; 1 per worker]",
)
@click.option("-o", "--out", type=AnyPath, help="Picture to write, a .png, .svg or .pdf file.  [default: none]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the quadratures.")
def spectrum(run: Path, store: Path, out: Path | None, as_json: bool, **options: Any) -> None:
    """Print the spectrum of a curvature matrix of RUN at a checkpoint, over rows of STORE.

    Extreme eigenvalues come with the distance within which an eigenvalue lies for certain; numbers of eigenvalues and
    the trace with standard errors, from stochastic Lanczos quadrature; numbers also with bounds for what the quadrature
    does not resolve. The Fisher matrix is the Gauss-Newton matrix for all losses here.

    With --every the run is computed again from its settings, to the same bits, with a spectrum every so many
    iterations, up to that checkpoint.
    """
    from hfnumba.figures import style
    from hfnumba.run.spectrum import SpectrumSettings, run_spectra

    if out is not None and out.suffix.lower() not in style.SUFFIXES:
        raise UsageError(f"expected --out to end in {', '.join(style.SUFFIXES)}, got {out}")
    with stderr_reporter() as reporter:
        found = list(run_spectra(run, store, SpectrumSettings(**options), reporter))
    if out is not None:
        from hfnumba.figures.spectrum import draw

        draw(found, options["matrix"], out)
        click.echo(f"The picture is in {out}.", err=True)
    if as_json:
        described = {"run": path_text(run), "store": path_text(store), **options}
        spectra = [{"iteration": iteration} | one.as_dict() for iteration, one in found]
        click.echo(json.dumps(described | {"spectra": spectra}, indent=1, allow_nan=False))
    elif options["every"] is None:
        iteration, one = found[0]
        print_table([options["matrix"], "value"], [["iteration", str(iteration)], *map(list, one.rows())])
    else:
        _print_along(found)


def _print_along(found: list[tuple[int, Any]]) -> None:
    rows = []
    for iteration, one in found:
        negative = one.n_negative
        rows.append(
            [
                str(iteration),
                f"{one.lowest[0].value:.4g}",
                f"{one.highest[0].value:.4g}",
                f"{negative.value:.0f} ± {negative.standard_error:.0f}",
                f"{negative.lower:.0f} … {negative.upper:.0f}",
                str(one.n_negative_at_least),
            ]
        )
    print_table(["iteration", "lowest", "highest", "below −1 %", "bounds", "negative ≥"], rows)
