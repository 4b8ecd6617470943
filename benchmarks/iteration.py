"""One iteration by two worker processes of one thread each, compared with one process of two threads.

784-400-150-10 on 60,000 rows of MNIST's shape (random bytes; the time does not depend on them): loss and gradient
over all rows, 20 Gauss–Newton products on 4,096 rows, and a line search of 12 step lengths over all rows. Both take
turns.

    python benchmarks/iteration.py [--docs docs]

With --docs the table of medians replaces the text between the markers of DOCS/scaling.md.
"""

import tempfile
import time
from pathlib import Path

import click
import numpy as np
from pages import publish

from hfnumba.engine import DaskObjective, SplitObjective
from hfnumba.figures.summary import markdown
from hfnumba.ingest import write_store
from hfnumba.launch import local
from hfnumba.network import Network
from hfnumba.store import open_store

PARTS = ("gradient", "products", "line search")


def iteration(objective, theta, n_products=20):
    """Seconds of each part."""
    marks = [time.perf_counter()]
    point = objective.linearize(theta, 4096)
    marks.append(time.perf_counter())
    operator, v = point.gauss_newton(), point.gradient
    for _ in range(n_products):
        v = operator.matvec(v)
        v /= np.linalg.norm(v)
    marks.append(time.perf_counter())
    objective.values_along(theta, -point.gradient, 0.8 ** np.arange(12))
    marks.append(time.perf_counter())
    return np.diff(marks)


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True, help="Number of iterations of each.")
@click.option(
    "--partitions", type=click.IntRange(1), default=16, show_default=True, help="Number of partitions of the store."
)
@click.option("--docs", type=click.Path(path_type=Path), help="Write the table to DOCS/scaling.md.")
def main(repeats, partitions, docs):
    """Measure both."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (60_000, 784), dtype=np.uint8), rng.integers(0, 10, 60_000)
    network = Network([784, 400, 150, 10])
    with tempfile.TemporaryDirectory() as folder, local(2) as client:
        write_store(Path(folder) / "s.zarr", {"train": (X, y)}, n_partitions=partitions, scale=1 / 255)
        split = open_store(Path(folder) / "s.zarr")["train"]
        with SplitObjective(network, split, n_threads=2) as here, DaskObjective(network, split, client) as there:
            ways = {"one process, 2 threads": here, "2 workers of 1 thread": there}
            taken = {name: [] for name in ways}
            for i in range(repeats + 1):
                for name, objective in ways.items():
                    parts = iteration(objective, network.initialize(i))
                    if i:
                        taken[name].append(parts)
    both = {name: np.array(parts) for name, parts in taken.items()}
    rows = []
    for name, parts in both.items():
        seconds = [*np.median(parts, axis=0), np.median(parts.sum(axis=1))]
        rows.append([name, *(f"{one:.3f}" for one in seconds)])
    one, two = (parts.sum(axis=1) for parts in both.values())
    ratios = two / one
    table = markdown(["", *(f"{part}, s" for part in PARTS), "iteration, s"], rows)
    table += f"\n\nThe workers take {np.median(ratios):.2f} times as long as the one process: the median of {repeats} "
    table += f"pairs, from {ratios.min():.2f} to {ratios.max():.2f}."
    publish(table, docs and docs / "scaling.md", "iteration")


if __name__ == "__main__":
    main()
