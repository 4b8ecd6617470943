"""Rounds sent directly to every worker, and rounds relayed by workers: measured, and modelled for more workers.

    python benchmarks/relay.py --out figures/runs/relay --seconds 60    # repeat until all is measured
    python benchmarks/relay.py --out figures/runs/relay --docs docs     # the tables into DOCS/scaling.md

Rounds compute nothing. The constants of the model are those of figure 2 (DOCS/figures/two.json), except that of a level
of relays, which is measured here.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from pages import publish

from hfnumba.bench.emulation import METHOD
from hfnumba.bench.kernels import NETWORKS
from hfnumba.bench.model import Constants, Workload, hops, iteration_s, transport_share
from hfnumba.bench.remote import remote_workers
from hfnumba.bench.scaling import STAR, measure_rounds, relay_seconds
from hfnumba.cli.common import RESUMABLE
from hfnumba.cli.progress import PlainReporter
from hfnumba.engine.cluster.engine import FAN_IN
from hfnumba.figures.options import FigureStopped
from hfnumba.figures.summary import markdown
from hfnumba.figures.two import Pieces
from hfnumba.figures.two_results import TIMIT_ROWS
from hfnumba.network import Network
from hfnumba.processors import available_processors

PATH = click.Path(path_type=Path)
FAN_INS, CHAINS = (STAR, 8, 16, 32), (2, 4)
MODELLED, MODELLED_FAN_INS = (128, 1000, 10_000), (None, 4, 8, 16, 32, 64)
REPEATS, CURVATURE_ROWS = 5, 2048
# Counts of an iteration, from figure 2.
COUNTS = {"n_products": 11, "n_candidates": 6, "n_alphas": 9}


def measured(pieces, network, workers):
    """Measure rounds by number of workers and fan-in, and the seconds of a level of relays."""

    def get(name, p, some):
        def rounds():
            with remote_workers(p, min(p, available_processors())) as client:
                return [[f, measure_rounds(client, p, network.n_params, REPEATS, f)] for f in some]

        return pieces.get(f"{name}-{p}-workers", {"n_params": network.n_params, "repeats": REPEATS}, rounds)

    # Twice, in both orders, because the speed of a machine varies.
    few = [dict(get(f"chain{turn}", p, (STAR, 1))) for turn in (1, 2) for p in CHAINS]
    found = {p: get("there", p, fan_ins(p)) + get("back", p, fan_ins(p)[::-1]) for p in workers}
    return found, float(np.median([relay_seconds(rounds[STAR], rounds[1]) for rounds in few]))


def fan_ins(p):
    """Fan-ins with which this number of workers makes a tree, and the star."""
    return [f for f in FAN_INS if f < p or f == STAR]


def fan_in_text(fan_in):
    """Format a fan-in."""
    return "star" if fan_in in (None, STAR) else str(fan_in)


def measured_table(found):
    """Table of milliseconds of a round, and of the processor of the client."""
    kinds = ("no vector", "a vector sent", "a vector returned")
    lines = []
    for p, runs in found.items():
        for fan_in in fan_ins(p):
            both = [rows for f, rows in runs if f == fan_in]
            cells = []
            for k in range(len(kinds)):
                seconds, client = (min(1e3 * rows[k][key] for rows in both) for key in ("seconds", "client_s"))
                cells.append(f"{seconds:.0f} ({client:.0f})")
            lines.append([str(p), fan_in_text(fan_in), *cells])
    return markdown(["workers", "fan-in", *(f"{kind}, ms (processor of the client)" for kind in kinds)], lines)


def modelled_table(constants, network):
    """Table of seconds of an iteration over the rows of TIMIT, and of the share without computing."""
    lines = []
    for p in MODELLED:
        work = Workload(network.n_params, TIMIT_ROWS, CURVATURE_ROWS, **COUNTS, n_partitions=max(16, p))
        for fan_in in MODELLED_FAN_INS:
            levels, messages = hops(p, fan_in)
            seconds, share = (f(constants, work, p, fan_in) for f in (iteration_s, transport_share))
            cells = [f"{levels}", f"{messages:,}", f"{seconds['iteration']:,.1f}", f"{share:.0%}"]
            lines.append([f"{p:,}", fan_in_text(fan_in), *cells])
    header = ["workers", "fan-in", "levels", "sequential messages", "iteration, s", "without computing"]
    return markdown(header, lines)


@click.command()
@click.option("--out", type=PATH, default=Path("figures/runs/relay"), show_default=True)
@click.option("--workers", default="16,32,64,128", show_default=True)
@click.option("--seconds", type=float, help="Time limit: begin no measurement afterwards, and exit with status 75.")
@click.option("--docs", type=PATH, help="Write the tables to DOCS/scaling.md.")
def main(out, workers, seconds, docs):
    """Measure what is missing, and print or insert the tables."""
    network, numbers = Network(NETWORKS["C"]), [int(word) for word in workers.split(",")]
    pieces = Pieces(out, 2 * (len(CHAINS) + len(numbers)), PlainReporter(), seconds)
    try:
        found, relay_s = measured(pieces, network, numbers)
    except FigureStopped as stop:
        click.echo(f"{stop}; the same command continues from there", err=True)
        sys.exit(RESUMABLE)
    figure = json.loads(((docs or Path("docs")) / "figures" / "two.json").read_text())
    constants = replace(Constants.of(figure["constants"]), relay_s=relay_s)
    text = (
        f"Measured: empty rounds of {network.n_params:,} float32, the lower of two medians of {REPEATS}. A level of "
        f"relays takes {1e3 * relay_s:.1f} ms.\n\n{measured_table(found)}\n\nModelled: an iteration of `{METHOD}` over "
        f"{TIMIT_ROWS:,} rows, with {CURVATURE_ROWS:,} curvature rows. The default fan-in is {FAN_IN}.\n\n"
        f"{modelled_table(constants, network)}"
    )
    publish(text, docs and docs / "scaling.md", "relay", out.glob("*.json"))


if __name__ == "__main__":
    main()
