"""Cost of a round compared with plain Dask futures and mpi4py: medians of several runs of `hfnumba bench round`.

    python benchmarks/rounds.py [--docs docs]

With --docs the table replaces the text between the markers of DOCS/scaling.md.
"""

from collections import defaultdict
from pathlib import Path
from statistics import median

import click
from pages import publish

from hfnumba.bench.rounds import SIZES, timings
from hfnumba.figures.summary import markdown, spread


@click.command()
@click.option(
    "--runs", type=click.IntRange(1), default=3, show_default=True, help="Number of runs, each with new processes."
)
@click.option(
    "--repeats", type=click.IntRange(1), default=50, show_default=True, help="Number of rounds of each kind in a run."
)
@click.option("--docs", type=click.Path(path_type=Path), help="Write the table to DOCS/scaling.md.")
def main(runs, repeats, docs):
    """Measure 2 and 4 workers."""
    found = defaultdict(list)
    for number in range(runs):
        for timing in timings((2, 4), repeats):
            found[timing.network, timing.workers, timing.way].append(timing)
            click.echo(f"run {number + 1}: {timing}", err=True)
    rows = []
    for network, n in SIZES.items():
        for workers in (2, 4):
            ways = {way: found[network, workers, way] for way in ("engine", "futures", "mpi4py")}
            ours = [timing.milliseconds for timing in ways["engine"]]
            cells = [spread(ours, "{:.1f}".format)]
            for way in ("futures", "mpi4py"):
                theirs = [timing.milliseconds for timing in ways[way]]
                ratios = [a / b for a, b in zip(ours, theirs, strict=True)] if theirs else [None]
                cells += [f"{median(theirs):.1f}" if theirs else "–", spread(ratios, "{:.2f}".format)]
            scheduler = spread([timing.scheduler_ms for timing in ways["engine"]], "{:.2f}".format)
            rows.append([f"{n:,}", str(workers), *cells, scheduler])
    header = ["floats", "workers", "a round, ms", "futures, ms", "ours : futures", "mpi4py, ms", "ours : mpi4py"]
    table = markdown([*header, "processor of the scheduler, ms"], rows)
    table += f"\n\nMedians of {runs} runs of {repeats} rounds each, and in brackets their range."
    publish(table, docs and docs / "scaling.md", "rounds")


if __name__ == "__main__":
    main()
