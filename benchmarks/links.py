"""Training by kfac over slow networks: rounds, bytes and seconds beside the model of scaling. Needs root (Linux).

    python benchmarks/links.py --docs docs

Workers are in network namespaces, and `tc` limits the client's link; see benchmarks/switch.py. A latency needs the
kernel's netem; where it lacks that, only the bandwidth is limited, and the table has no latency. The constants are
those of figure 2 (DOCS/figures/two.json).
"""

import json
from pathlib import Path

import click
from pages import publish
from switch import BATCH_ROWS, STEPS, compare

from hfnumba.bench.kernels import NETWORKS
from hfnumba.bench.model import Constants
from hfnumba.figures.summary import markdown
from hfnumba.network import Network

WORKERS = (2, 4)


@click.command()
@click.option("--docs", type=click.Path(path_type=Path), help="Write the table to DOCS/scaling.md.")
def main(docs):
    """Measure 2 and 4 workers."""
    network = Network(NETWORKS["B"])
    figure = json.loads(((docs or Path("docs")) / "figures" / "two.json").read_text())
    constants = Constants.of(figure["constants"])
    lines = []
    for n_workers in WORKERS:
        for link, found, transport_s in compare(network, constants, n_workers):
            click.echo(f"{n_workers} workers, {link}: {found.seconds:.2f} s, transport {transport_s:.2f} s", err=True)
            counted = n_workers * found.nbytes
            cells = [f"{found.rounds}", f"{counted / 1e6:.1f}", f"{found.passed / counted - 1:+.1%}"]
            lines.append([str(n_workers), str(link), *cells, f"{found.seconds:.1f}", f"{transport_s:.1f}"])
    header = ["workers", "link", "rounds", "MB by the model", "on the link", "s", "s of transport by the model"]
    sizes = "-".join(map(str, network.sizes))
    text = f"{markdown(header, lines)}\n\nkfac on {sizes}, {BATCH_ROWS:,} rows a step; {2 * STEPS} steps, 2 records."
    publish(text, docs and docs / "scaling.md", "links")


if __name__ == "__main__":
    main()
