"""Cost of the parts of a step of kfac: gradients over minibatches, Kronecker factors, and the trial of the last step.

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
from hfnumba.bench.quality.operations import operations_per_row
from hfnumba.engine import SplitObjective
from hfnumba.engine.evaluations import Gradient, KroneckerFactors, Loss
from hfnumba.figures.summary import markdown
from hfnumba.ingest import write_store
from hfnumba.network import Network
from hfnumba.objective import RowSample
from hfnumba.processors import available_processors
from hfnumba.store import open_store

SIZES, N_ROWS, PARTITIONS = (784, 400, 150, 10), 60_000, 16
BATCHES = (6144, 4096, 1024, 512)
FACTOR_ROWS = (1024, 4096)


def jobs(objective, theta):
    """Return a call, its rows and the operations of a row, by the name of the evaluation."""
    count = itertools.count()

    def evaluation(kind, rows, *more):
        """Call of an evaluation on a new sample each time."""

        def call():
            sample = None if rows == N_ROWS else RowSample(rows, 0, 0, next(count) % (N_ROWS // rows))
            with objective.vectors.using(theta) as name:
                objective.evaluate(kind(name, objective.sample(sample), *more))

        return call, rows, operations_per_row(kind("theta", None, *more), SIZES, {})

    made = {f"gradient, {rows:,} rows": evaluation(Gradient, rows) for rows in (N_ROWS, *BATCHES)}
    made |= {f"factors, {rows:,} rows": evaluation(KroneckerFactors, rows, (0, 0)) for rows in FACTOR_ROWS}
    return made | {"loss, 1,024 rows": evaluation(Loss, 1024)}


def table(seconds):
    """Measure all jobs, and return the table."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (N_ROWS, SIZES[0]), dtype=np.uint8), rng.integers(0, SIZES[-1], N_ROWS)
    network, peaks = Network(SIZES), sgemm(SIZES, available_processors())
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder) / "s.zarr", {"train": (X, y)}, n_partitions=PARTITIONS, scale=1 / 255)
        with SplitObjective(network, open_store(Path(folder) / "s.zarr")["train"]) as objective:
            ours = jobs(objective, network.initialize(0))
            calls = {name: call for name, (call, _) in peaks.items()} | {name: job[0] for name, job in ours.items()}
            found = measure(calls, seconds)
    peak = max(operations / found[name] for name, (_, operations) in peaks.items())
    full = found[f"gradient, {N_ROWS:,} rows"] / N_ROWS
    rows = []
    for name, (_, n_rows, operations) in ours.items():
        rate, of_full = n_rows * operations / found[name] / 1e9, found[name] / n_rows / full
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
