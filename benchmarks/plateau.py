"""Iterations and rounds until a Hessian-free method leaves the plateau around zero weights, by preconditioner.

    hfnumba data build mnist --rows 15000 --out mnist15.zarr
    python benchmarks/plateau.py mnist15.zarr [--write docs/preconditioner.md]

784-400-150-10, tanh, all initial weights normal with standard deviation 0.001, 2,048 curvature rows. A run has left the
plateau when its loss is below 95 % of that at the start. Everything is counted, nothing is timed. With --write the
table replaces the text between the markers of that file.
"""

import argparse
import sys
from pathlib import Path

from pages import publish

from hfnumba import ArrayObjective, Network, optimizer
from hfnumba.bench.quality.data import Request, of_recipe
from hfnumba.figures.summary import spread
from hfnumba.progress import SILENT

METHODS = ("hf-bicgstab", "gn-cg", "hf-cg", "hybrid-cg", "hf-minres", "hf-steihaug", "hf-lanczos")
PRECONDITIONERS = ("none", "kfac")
LEFT, CURVATURE_ROWS, ITERATIONS = 0.95, 2048, 40


def left(objective, method, preconditioner, seed):
    """Return iterations and rounds on the plateau; None for both if the run stays there."""
    settings = {"preconditioner": preconditioner, "curvature_rows": CURVATURE_ROWS, "max_iterations": ITERATIONS}
    iterations = optimizer(method, seed=seed, **settings).iterate(objective, objective.network.initialize(seed, "tiny"))
    first = next(iterations).loss
    return next(((it.iteration, it.rounds) for it in iterations if it.loss < LEFT * first), (None, None))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="a store with classes and a split test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers")
    options = parser.parse_args()
    data = of_recipe("mnist", Request(options.store, False, SILENT))
    network = Network((data.X.shape[1], 400, 150, data.n_outputs), "tanh", "softmax_cross_entropy")
    kinds = [f"{cost}, {name}" for name in PRECONDITIONERS for cost in ("iterations", "rounds")]
    lines = ["| method | " + " | ".join(kinds) + " |", "| --- " * (len(kinds) + 1) + "|"]
    with ArrayObjective(network, data.X, data.y) as objective:
        for method in METHODS:
            cells = []
            for name in PRECONDITIONERS:
                runs = [left(objective, method, name, seed) for seed in range(options.seeds)]
                cells += [spread(costs, "{:,.0f}".format) for costs in zip(*runs, strict=True)]
            lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
            print(lines[-1], file=sys.stderr)
    publish("\n".join(lines), options.write, "plateau")


if __name__ == "__main__":
    main()
