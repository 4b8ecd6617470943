"""Cost of a step of kfac, and of gradients over minibatches and Kronecker factors alone.

784-400-150-10 on 60,000 rows of MNIST's shape in 16 partitions (random bytes; the time does not depend on them). All
parts take turns with sgemm, in one process. Operations are those of matrix products, half as many for a symmetric one.

    python benchmarks/minibatch.py [--write docs/kernels.md]

With --write the table replaces the text between the markers named `minibatch` of that page.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
from pages import publish

from hfnumba.bench.kernels import measure, setting, sgemm
from hfnumba.bench.quality.operations import operations_of_part, operations_per_row
from hfnumba.engine import SplitObjective
from hfnumba.engine.evaluations import Gradient, KroneckerFactors
from hfnumba.engine.minibatch import StochasticStep
from hfnumba.figures.summary import markdown
from hfnumba.ingest import write_store
from hfnumba.network import Network
from hfnumba.objective import RowSample
from hfnumba.processors import available_processors
from hfnumba.store import open_store

SIZES, N_ROWS, PARTITIONS = (784, 400, 150, 10), 60_000, 16


# Makers of evaluations, from the name of theta and a sample.
MADE = {
    "gradient": Gradient,
    "factors": lambda at, rows: KroneckerFactors(at, rows, (0, 0)),
    "step without factors": lambda at, rows: StochasticStep(at, rows, at, at),
    "step with factors": lambda at, rows: StochasticStep(at, rows, at, at, (0, 0)),
}
MEASURED = {
    "gradient": (N_ROWS, 6144, 4096, 1024, 512),
    "factors": (1024, 4096),
    "step without factors": (6144,),
    "step with factors": (6144,),
}
PART = 1024


def job(objective, theta, kind, n_rows):
    """Return a call that evaluates a new sample each time, its rows and its operations."""
    count, part = itertools.count(), PART if kind.startswith("step") else 0

    def call():
        sample = RowSample(n_rows, 0, 0, next(count) % (N_ROWS // n_rows), part)
        with objective.vectors.using(theta) as name:
            objective.evaluate(MADE[kind](name, objective.sample(sample)))

    one = MADE[kind]("theta", None)
    operations = n_rows * operations_per_row(one, SIZES, {}) + part * operations_of_part(one, SIZES)
    return call, n_rows, operations


def table(seconds):
    """Measure all jobs, and return the table."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (N_ROWS, SIZES[0]), dtype=np.uint8), rng.integers(0, SIZES[-1], N_ROWS)
    network, peaks = Network(SIZES), sgemm(SIZES, available_processors())
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder) / "s.zarr", {"train": (X, y)}, n_partitions=PARTITIONS, scale=1 / 255)
        with SplitObjective(network, open_store(Path(folder) / "s.zarr")["train"]) as objective:
            theta = network.initialize(0)
            ours = {
                f"{kind}, {n_rows:,} rows": job(objective, theta, kind, n_rows)
                for kind, each in MEASURED.items()
                for n_rows in each
            }
            calls = {name: call for name, (call, _) in peaks.items()} | {name: job[0] for name, job in ours.items()}
            found = measure(calls, seconds)
    peak = max(operations / found[name] for name, (_, operations) in peaks.items())
    full = found[f"gradient, {N_ROWS:,} rows"] / N_ROWS
    rows = []
    for name, (_, n_rows, operations) in ours.items():
        rate, of_full = operations / found[name] / 1e9, found[name] / n_rows / full
        cells = [f"{1e3 * found[name]:.1f}", f"{rate / peak:.2f}"]
        rows.append([name, *cells, f"{of_full:.2f}" if name.startswith("gradient") else "–"])
    return markdown(["evaluation", "ms", "share of sgemm's peak", "time a row / that of all rows"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers")
    options = parser.parse_args()
    text = f"{table(options.seconds)}\n\n{setting(None, ()).capitalize()}."
    publish(text, options.write, "minibatch")


if __name__ == "__main__":
    main()
