"""Numbers of docs/reproduction.md, and tables of its figures, from ledgers.

    python benchmarks/reproduction.py mnist.zarr --out figures [--write docs/reproduction.md]

The store is all of MNIST. Complete runs are not repeated, and the same command continues an interrupted one. With
--write, the tables replace the text between the markers of their names; so do the tables of `hfnumba figure` that
exist in the folder.
"""

import argparse
import sys
from pathlib import Path

import claims
from communication import (
    Counts,
    break_even,
    counts_of,
    disagreements,
    model_parallel,
    planned,
    rows_of,
)
from experiments import (
    DEFAULTS,
    GRIDS,
    SADDLE,
    SAMPLES,
    SMALL,
    TEXT,
    TINY,
    WHOLE,
    first_order,
    name,
)
from pages import insert

from hfnumba.cli.progress import PlainReporter
from hfnumba.errors import HfnumbaError
from hfnumba.figures.experiment import Laboratory
from hfnumba.figures.material import material
from hfnumba.figures.options import FigureOptions
from hfnumba.figures.saddle import until_left
from hfnumba.figures.summary import ERRORS, Series, best_of, carry_out, markdown, reaches, results, spread
from hfnumba.network import Network
from hfnumba.optim.methods import optimizer
from hfnumba.run.method_settings import optimizer_settings
from hfnumba.store import Store, open_store

FIGURES = ("one", "three", "saddle")
OTHER_NETWORKS = ((784, 400, 10), (784, 400, 150, 10), (360, 512, 512, 512, 1973))


def grids(lab: Laboratory, seeds: list[int]) -> tuple[dict[tuple[str, int], Series], str]:
    """Runs with the best learning rate of each size of a minibatch, and a table of all rates with the first seed."""
    best, rows = {}, []
    for method, (sizes, rates) in GRIDS.items():
        for size in sizes:
            tried = [first_order(method, size, rate)[1].but(seed=seeds[0]) for rate in rates]
            chosen = best_of(lab, tried, ERRORS[-1]).settings.learning_rate
            label, experiment = first_order(method, size, chosen)
            best[method, size] = carry_out(lab, label, experiment, seeds)
            cells = []
            for rate, lines in zip(rates, lab.ledgers(tried), strict=True):
                line = reaches(lines, ERRORS[-1])
                reached = "not reached" if line is None else f"{line['rounds']:,} in {line['iteration']}"
                cells.append(f"{rate:g}: " + (f"**{reached}**" if rate == chosen else reached))
            rows.append([f"`{method}`", f"{size:,}", "; ".join(cells)])
    header = ["method", "rows of a minibatch", f"learning rate: rounds, and epochs, to {ERRORS[-1]:.0%}"]
    return best, markdown(header, rows)


def by_sample(found: claims.Found) -> str:
    """Table of iterations to an error by rows of the curvature sample, for both readings."""
    header = ["hf-bicgstab", "iterations to", *(f"{rows} rows" for rows in SAMPLES), "512 : 4096"]
    rows = []
    for reading in (TEXT, DEFAULTS):
        for error in ERRORS[:2]:
            runs = {size: found.series[name("hf-bicgstab", reading, size)] for size in SAMPLES}
            cells = [spread(run.to_error(error, "iteration")) for run in runs.values()]
            small, large = (found.cost(runs[size].name, "iteration", error) for size in (512, 4096))
            ratio = f"{small / large:.2f}" if small < float("inf") else "–"
            rows.append([reading, f"{error:.0%}", *cells, ratio])
    return markdown(header, rows)


def communication(store: Store, found: claims.Found) -> str:
    """Table of rounds and bytes of some runs, counted and by formula, and how many ledger lines agree."""
    n_rows, features, outputs = store["train"].n_rows, store["train"].n_features, store["train"].n_outputs
    names = [name("hf-bicgstab", TEXT), name("hf-bicgstab", DEFAULTS), name("gn-cg", TEXT), "lbfgs", claims.SGD]
    names += [found.best("momentum"), found.best("adam")]
    header = ["to 1 %", "iterations (epochs)", "rounds: counted", "by formula", "MB: counted", "by formula"]
    header += ["model parallelism: waits", "MB"]
    rows, n_lines, n_wrong, n_runs = [], 0, 0, 0
    for label, series in found.series.items():
        cells: list[list[float]] = []
        for experiment, lines in zip(series.experiments, series.ledgers, strict=True):
            settings = experiment.settings
            made = optimizer(settings.method, **optimizer_settings(settings))
            network = Network((features, *settings.hidden, outputs), settings.activation, "softmax_cross_entropy")
            counts = counts_of(made, lines, n_rows, network.n_params)
            n_wrong += len(disagreements(lines, counts, network.n_params))
            n_lines, n_runs = n_lines + len(lines), n_runs + 1
            expected = planned(made, lines[-1]["iteration"], n_rows) if label in names else Counts()
            waits, nbytes = model_parallel(sum(counts, Counts()), network.sizes, rows_of(made, n_rows))
            last = lines[-1]
            data = (last["rounds"], expected.rounds, last["nbytes"] / 1e6, expected.nbytes(network.n_params) / 1e6)
            cells.append([last["iteration"], *data, waits, nbytes / 1e6])
        if label in names:
            rows.append([label, *(spread(list(column)) for column in zip(*cells, strict=True))])
    return "\n\n".join((markdown(header, rows), _agreement(n_lines, n_wrong, n_runs), _break_even()))


def _agreement(n_lines: int, n_wrong: int, n_runs: int) -> str:
    return (
        f"From the operations in each line of a ledger, the closed form gives the counted rounds and bytes in "
        f"{n_lines - n_wrong:,} of {n_lines:,} lines of {n_runs} runs."
    )


def _break_even() -> str:
    cells = [
        ["-".join(map(str, sizes)), f"{(n := Network(sizes).n_params):,}", f"{break_even(sizes, n):,.0f}"]
        for sizes in OTHER_NETWORKS
    ]
    return markdown(["network", "parameters", "rows above which data parallelism moves fewer bytes"], cells)


def tables(options: argparse.Namespace) -> dict[str, str]:
    """Make the missing runs, and return all tables, including those of figures that exist."""
    reporter = PlainReporter()
    small = material(FigureOptions(options.store, options.out), reporter)
    lab = Laboratory(small, options.out / "runs", options.cluster, reporter)
    runs = {label: carry_out(lab, label, experiment, options.seeds) for label, experiment in SMALL.items()}
    best, tried = grids(lab, options.seeds)
    runs |= {series.name: series for series in best.values()}
    plateau = {label: carry_out(lab, label, experiment, options.seeds) for label, experiment in SADDLE.items()}
    label = "momentum, tiny start"
    plateau[label] = until_left(lab, label, TINY.but(method="momentum"), options.seeds)
    found = claims.Found(runs | plateau, {key: series.name for key, series in best.items()})
    everything = Laboratory(open_store(options.store), options.out / "runs-all-rows", options.cluster, reporter)
    whole = [carry_out(everything, label, experiment, options.seeds) for label, experiment in WHOLE.items()]
    made = {
        "claims": claims.table(found, options.scaling),
        "changes": claims.changes(found),
        "samples": by_sample(found),
        "grids": tried,
        "communication": communication(small, found),
        "runs": results([*runs.values(), *whole]),
    }
    for figure in FIGURES:
        path = options.out / f"{figure}.md"
        if path.exists():
            made[figure] = path.read_text().split("\n\n")[0]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--scaling", type=Path, default=Path("docs/figures/two.json"), help="numbers of figure 2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cluster", default="none")
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers")
    options = parser.parse_args()
    try:
        made = tables(options)
    except HfnumbaError as error:
        sys.exit(f"error: {error}")
    print("\n\n".join(made.values()))
    if options.write is not None:
        for marker, table in made.items():
            insert(options.write, marker, table, options.out.glob("runs*/**/ledger.jsonl"))


if __name__ == "__main__":
    main()
