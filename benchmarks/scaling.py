"""Figure 2 in several calls, for a machine that is idle only at times, and its numbers and pictures for the docs.

    python benchmarks/scaling.py --out figures --seconds 90       # repeat until all is measured
    python benchmarks/scaling.py --out figures --docs docs

It is the same as `hfnumba figure 2`, which uses the stored measurements.
"""

import shutil
import sys
from pathlib import Path

import click
from pages import insert

from hfnumba.cli.common import RESUMABLE
from hfnumba.cli.progress import PlainReporter
from hfnumba.figures import two
from hfnumba.figures.options import FigureOptions, FigureStopped

PATH = click.Path(path_type=Path)


@click.command()
@click.option("--out", type=PATH, default=Path("figures"), show_default=True)
@click.option("--quick", is_flag=True)
@click.option("--store", type=PATH)
@click.option("--seconds", type=float, help="Time limit: begin no measurement afterwards, and exit with status 75.")
@click.option("--docs", type=PATH, help="Copy pictures to DOCS/figures and tables into DOCS/scaling.md.")
def main(out, quick, store, seconds, docs):
    """Measure what is missing, draw, and copy."""
    try:
        paths = two.make(FigureOptions(store, out, quick), PlainReporter(), limit_s=seconds)
    except FigureStopped as stop:
        click.echo(f"{stop}; the same command continues from there", err=True)
        sys.exit(RESUMABLE)
    if docs is not None:
        for path in paths:
            if path.suffix in (".png", ".svg", ".json"):
                shutil.copy(path, docs / "figures" / path.name)
        insert(docs / "scaling.md", "scaling", (out / "two.md").read_text(), (out / "runs" / "two").glob("*.json"))


if __name__ == "__main__":
    main()
