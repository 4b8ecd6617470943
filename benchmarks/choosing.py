"""What methods, and their settings, need to a training error: rounds, passes over the rows, and GFLOP.

    hfnumba data build digits --out digits.zarr
    hfnumba data build mnist --rows 15000 --out mnist15.zarr
    python benchmarks/choosing.py digits.zarr mnist15.zarr [--write docs/choosing.md]

Everything is counted, nothing is timed. With --write the tables replace the text between the markers of that file.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

from pages import publish

from hfnumba import ArrayObjective, Network, optimizer
from hfnumba.bench.quality.data import Request, of_recipe
from hfnumba.bench.quality.meter import CountedObjective, Meter
from hfnumba.errors import NumericalError
from hfnumba.optim.methods import METHODS, settings_of
from hfnumba.progress import SILENT

HIDDEN, ERROR = (200, 50), 0.01
SOLVED = {"damping": (0.0001, 0.001, 0.1, 1.0), "curvature_rows": (128, 512, 2048, 0)}
VARIANTS = {
    "hf-bicgstab": SOLVED | {"krylov_iterations": (1, 4, 8)},
    "gn-cg": SOLVED | {"krylov_iterations": (1, 2, 5, 10)},
    "kfac": {"damping": (0.0001, 0.01, 0.1, 1.0), "batch_rows": (256, 512, 1024, 2048, 4096, 0)},
}
"""Values of a setting besides its default; 0 stands for all rows; numbers of rows that are too many are left out."""
DEFAULT_ROWS = {"curvature_rows": 4096, "batch_rows": 6144}
"""Default numbers of rows; a minibatch of more than half of the rows is all of them."""
COLUMNS = "rounds | passes | GFLOP | test error |"


class Reached(NamedTuple):
    """Cost of a run up to the first record with the training error, and the error on test rows there."""

    rounds: int
    passes: float
    gflop: float
    test_error: float


def reached(data, method, settings, seed, limit):
    """Train until the training error is reached; return None if it is not within a number of passes."""
    network = Network((data.X.shape[1], *HIDDEN, data.n_outputs), "tanh", "softmax_cross_entropy")
    every = {"record_every": 1} if "record_every" in settings_of(method) else {}
    meter = Meter()
    with CountedObjective(network, data.X, data.y, meter) as objective:
        meter.start()
        try:
            for it in optimizer(method, seed=seed, **every, **settings).iterate(objective, network.initialize(seed)):
                cost = meter.cost()
                if it.error <= ERROR:
                    with ArrayObjective(network, data.X_test, data.y_test) as test:
                        error = test.value_and_error(it.state.theta)[1]
                    return Reached(cost.rounds, cost.rows / len(data.X), cost.operations / 1e9, error)
                if cost.rows > limit * len(data.X):
                    return None
        except NumericalError:
            pass
    return None


def cells(data, method, settings, options):
    """Format the medians over the seeds, with the range of the rounds."""
    runs = [reached(data, method, settings, seed, options.passes) for seed in range(options.seeds)]
    if None in runs:
        return f"not within {options.passes} passes | – | – | – |"
    rounds, passes, gflop, error = zip(*runs, strict=True)
    middle, least, most = statistics.median(rounds), min(rounds), max(rounds)
    text = f"{middle:,.0f}" + (f" ({least:,}–{most:,})" if least < most else "")
    middles = [statistics.median(numbers) for numbers in (passes, gflop, error)]
    return "{} | {:.0f} | {:.3g} | {:.1%} |".format(text, *middles)


def of_methods(problems, options):
    """Return the table of all methods with their default settings."""
    lines = [f"| data | method | {COLUMNS}", "| --- " * 6 + "|"]
    for name, data in problems.items():
        for method in METHODS:
            lines.append(f"| {name} | `{method}` | " + cells(data, method, {}, options))
            print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def of_settings(problems, options):
    """Return the table of methods with one setting changed at a time."""
    lines = [f"| data | method | setting | {COLUMNS}", "| --- " * 7 + "|"]
    for name, data in problems.items():
        for method, variants in VARIANTS.items():
            for text, settings in [("defaults", {}), *changes(variants, len(data.X))]:
                lines.append(f"| {name} | `{method}` | {text} | " + cells(data, method, settings, options))
                print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def changes(variants, n_rows):
    """Yield the text and the settings of each variant of a method on a number of rows."""
    for setting, values in variants.items():
        option, most = "--" + setting.replace("_", "-"), n_rows // 2 if setting == "batch_rows" else n_rows
        for value in values:
            if not setting.endswith("_rows"):
                yield f"`{option} {value:g}`", {setting: value}
            elif not value and most > DEFAULT_ROWS[setting]:  # Otherwise all rows are the default.
                yield f"`{option} {n_rows}` (all)", {setting: n_rows}
            elif 0 < value <= most:
                yield f"`{option} {value}`", {setting: value}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path, nargs="+", help="stores with classes and a split test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=200, help="number of passes over the rows at which a run ends")
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers of both tables")
    options = parser.parse_args()
    problems = {store.stem: of_recipe(store.stem, Request(store, False, SILENT)) for store in options.stores}
    publish(of_methods(problems, options), options.write, "methods")
    publish(of_settings(problems, options), options.write, "settings")


if __name__ == "__main__":
    main()
