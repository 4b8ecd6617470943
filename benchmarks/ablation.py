"""Ablation of the method kfac: steps to a training error with one ingredient at a time left out or changed.

    hfnumba data build mnist --out mnist.zarr
    python benchmarks/ablation.py mnist.zarr [--write docs/methods.md]

Each step is one round. The network is 784-400-150-10 on MNIST; the error is that over all training rows, after each
step. With --write the table replaces the text between the two markers of that file.
"""

import argparse
import math
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from pages import publish

from hfnumba import Network, open_store, optimizer
from hfnumba.engine import SplitObjective
from hfnumba.errors import NumericalError
from hfnumba.optim import kfac, natural_step

HIDDEN = (400, 150)
ERROR = 0.01
VARIANTS = {
    "as it is": {},
    "no momentum: μ = 0": {"_MOMENTUM": 0.0},
    "momentum from the start: μ = 0.9": {"_MOMENTUM_STEPS": 1e-9},
    "no scale: c = 1": {"_MIN_SCALE": 1.0, "_MAX_SCALE": 1.0},
    "c at most 5": {"_MAX_SCALE": 5.0},
    "no bound on the predicted decrease": {"TRUST": math.inf},
    "bound of 0.075": {"TRUST": 0.075},
    "the last iterate, no average": {"_AVERAGE": 1e12},
    "factors of one sample, no running mean": {"_FACTOR_MEMORY": 0.0},
    "factors averaged over about ten samples": {"_FACTOR_MEMORY": 0.9},
    "factors in every step": {"_FACTOR_EVERY": 1},
    "a first part of 4,096 rows": {"_PART_ROWS": 4096},
    "damping raised by noise, to 100": {"_NOISY_DAMPING": 100.0},
    "steps that raise the loss are not taken back": {"_EXCESS": math.inf},
    "first damping 0.01": {"damping": 0.01},
    "first damping 0.0001": {"damping": 0.0001},
    "minibatches of full size from the start": {"_FEW_ROWS": 10**9},
    "minibatches that grow over 20 steps": {"_GROWING_STEPS": 20},
    "batches of 1,024 rows": {"batch_rows": 1024},
    "batches of 4,096 rows": {"batch_rows": 4096},
    "batches of 12,288 rows": {"batch_rows": 12288},
    "all rows": {"batch_rows": 60000},
}
"""Constants of the two modules, or settings of the method, by what they change."""
HEADER = "| variant | steps to 1 %, tanh | steps to 1 %, relu |\n| --- | --- | --- |"


def steps(split, activation, changes, seed, limit):
    """Return the number of steps to the training error, or infinity."""
    network = Network((split.n_features, *HIDDEN, split.n_outputs), activation, "softmax_cross_entropy")
    settings = {name: value for name, value in changes.items() if name in ("damping", "batch_rows")}
    method = optimizer("kfac", seed=seed, record_every=1, max_iterations=limit, target_error=ERROR, **settings)
    with ExitStack() as stack:
        for name in changes.keys() - settings:
            module = natural_step if hasattr(natural_step, name) else kfac
            stack.enter_context(mock.patch.object(module, name, changes[name]))
        try:
            *_, last = method.iterate(SplitObjective(network, split), network.initialize(seed))
        except NumericalError:
            return math.inf
    return last.iteration if last.error <= ERROR else math.inf


def cell(split, activation, changes, options):
    """Format the median steps of the seeds, with their range."""
    found = sorted(steps(split, activation, changes, seed, options.limit) for seed in range(options.seeds))
    text = [f"{number:g}" if math.isfinite(number) else f"over {options.limit}" for number in found]
    if statistics.median(found) == math.inf:
        return text[-1]
    return text[len(text) // 2] + (f" ({text[0]}–{text[-1]})" if text[0] != text[-1] else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=80, help="number of steps at which a run ends")
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    options = parser.parse_args()
    split, lines = open_store(options.store)["train"], [HEADER]
    for name, changes in VARIANTS.items():
        cells = [cell(split, activation, changes, options) for activation in ("tanh", "relu")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr)
    publish("\n".join(lines), options.write, "ablation")


if __name__ == "__main__":
    main()
