"""Rounds to a training error with one setting for all networks: kfac with several minibatches, and gn-cg.

    hfnumba data build mnist --rows 15000 --out mnist15.zarr
    python benchmarks/networks.py mnist15.zarr [--write docs/methods.md]

Networks have 1 to 6 hidden layers of 200 tanh, relu or sigmoid units. Everything is counted, nothing is timed. With
--write the table replaces the text between the markers of that file.
"""

import argparse
import math
import statistics
import sys
from itertools import product
from pathlib import Path

from pages import publish

from hfnumba import Network, optimizer
from hfnumba.bench.quality.data import Request, of_recipe
from hfnumba.bench.quality.meter import CountedObjective, Meter
from hfnumba.errors import NumericalError
from hfnumba.optim.methods import settings_of
from hfnumba.progress import SILENT

WIDTH, ERROR = 200, 0.01
DEPTHS = (1, 2, 3, 6)
ACTIVATIONS = ("tanh", "relu", "sigmoid")
BATCHES = {"1,024 rows": {"batch_rows": 1024}, "the default of 6,144 rows": {}, "all rows": {"batch_rows": 10**9}}
"""Settings of kfac; a minibatch of more than half of the rows is all of them."""


def outcome(data, network, run, seed, limit):
    """Return the rounds to the training error, infinity if it is not reached, and the least error of the run."""
    method, settings = run
    every = {"record_every": 1} if "record_every" in settings_of(method) else {}
    meter, least = Meter(), math.inf
    with CountedObjective(network, data.X, data.y, meter) as objective:
        meter.start()
        try:
            for it in optimizer(method, seed=seed, **every, **settings).iterate(objective, network.initialize(seed)):
                cost, least = meter.cost(), min(least, it.error)
                if not math.isfinite(it.loss):
                    raise NumericalError("the loss is not finite")
                if it.error <= ERROR:
                    return cost.rounds, least
                if cost.rows > limit * len(data.X):
                    break
        except NumericalError as error:
            print(f"{network}, {method}, {settings}, seed {seed}: {error}", file=sys.stderr)
            return math.nan, least
    return math.inf, least


def cell(data, network, run, options):
    """Format the median rounds of the seeds; where the error is not reached, the median of the least errors."""
    found = [outcome(data, network, run, seed, options.passes) for seed in range(options.seeds)]
    rounds, errors = zip(*found, strict=True)
    if any(map(math.isnan, rounds)):
        return "fails"
    middle = statistics.median(rounds)
    return f"{middle:,.0f}" if math.isfinite(middle) else f"not reached ({statistics.median(errors):.1%})"


def table(data, options):
    """Return the rows of all networks."""
    lines = [
        "| hidden layers | activation | " + " | ".join(f"`kfac`, {name}" for name in BATCHES) + " | `gn-cg` |",
        "| --- " * (len(BATCHES) + 3) + "|",
    ]
    for depth, activation in product(DEPTHS, ACTIVATIONS):
        sizes = (data.X.shape[1], *[WIDTH] * depth, data.n_outputs)
        network = Network(sizes, activation, "softmax_cross_entropy")
        runs = [*[("kfac", settings) for settings in BATCHES.values()], ("gn-cg", {})]
        cells = [cell(data, network, run, options) for run in runs]
        lines.append(f"| {depth} | {activation} | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="a store with classes and a split test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=60, help="number of passes over the rows at which a run ends")
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers")
    options = parser.parse_args()
    publish(table(of_recipe("mnist", Request(options.store, False, SILENT)), options), options.write, "networks")


if __name__ == "__main__":
    main()
