"""Time of training to a target by the number of workers: a part of figure 2, from files of results, for the docs.

    hfnumba bench quality mnist          # and other problems: see docs/quality.md
    python benchmarks/targets.py quality-*.jsonl --docs docs

Tables go to DOCS/scaling.md, pictures to DOCS/figures. The constants of a round are those of figure 2
(DOCS/figures/two.json). The bytes of a round and the client's processor time are measured here, in seconds.
"""

import json
from pathlib import Path

import click
from pages import insert

from hfnumba.bench.model import Constants
from hfnumba.bench.round_costs import measure_round
from hfnumba.figures.two_targets import write_targets

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("results", type=PATH, nargs=-1, required=True)
@click.option("--docs", type=PATH, default=Path("docs"), show_default=True)
def main(results, docs):
    """Draw, and insert the tables."""
    constants = Constants.of(json.loads((docs / "figures" / "two.json").read_text())["constants"])
    *_, text, _ = write_targets(docs / "figures", constants, results, measure_round)
    insert(docs / "scaling.md", "targets", text.read_text(), results)
    text.unlink()


if __name__ == "__main__":
    main()
