"""Effect of preconditioners: rounds and passes to a training error with each and without one, from ledgers.

    hfnumba data build mnist --rows 15000 --out mnist15.zarr
    hfnumba data build digits --out digits.zarr
    python benchmarks/preconditioner.py digits.zarr mnist15.zarr [--write docs/preconditioner.md]

Complete runs are not repeated, and interrupted ones are continued. With --write the table replaces the text between
the two markers of that file.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path

from pages import insert

from hfnumba.optim.second_order import SECOND_ORDER_METHODS

METHODS = tuple(SECOND_ORDER_METHODS)
HIDDEN = "400,150"
DAMPINGS = {"none": 0.1, "fisher": 0.001, "kfac": 0.01}
"""Preconditioners, and a first damping that suits each."""
ERRORS = (0.04, 0.02, 0.01)
HEADER = (
    "| data | method | preconditioner | 4 % | 2 % | 1 % | passes to 1 % | loss at the end |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def train(options, cell, seed):
    """Make one run by the command line, continuing an interrupted one, and return its ledger."""
    store, method, preconditioner = cell
    run = options.runs / f"{store.stem}-{method}-{preconditioner}-{seed}"
    command = [sys.executable, "-m", "hfnumba", "train", store, "--hidden", HIDDEN, "--method", method]
    command += ["--seed", seed, "--preconditioner", preconditioner, "--curvature-rows", options.curvature_rows]
    if method != "hf-steihaug":  # It has a trust radius in place of damping.
        command += ["--damping", DAMPINGS[preconditioner]]
    command += ["--max-iterations", options.iterations, "--target-error", ERRORS[-1], "--run", run, "--resume"]
    ledger = run / "ledger.jsonl"
    lines = read(ledger) if ledger.exists() else []
    if not lines or (lines[-1]["error"] > ERRORS[-1] and lines[-1]["iteration"] < options.iterations):
        print("$", *command, file=sys.stderr)
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        lines = read(ledger)
    return lines


def read(ledger):
    return [json.loads(line) for line in ledger.read_text().splitlines()]


def reached(ledgers, error):
    """Return the first line of each ledger with an error, or None if some have none."""
    firsts = [next((line for line in ledger if line["error"] <= error), None) for ledger in ledgers]
    return None if None in firsts else firsts


def rounds(ledgers, error):
    """Format median rounds, with their range, and iterations to an error."""
    firsts = reached(ledgers, error)
    if firsts is None:
        return "not by all"
    numbers = [line["rounds"] for line in firsts]
    iterations = statistics.median(line["iteration"] for line in firsts)
    return f"{statistics.median(numbers):g} ({min(numbers)}–{max(numbers)}); {iterations:g} it."


def rows(options):
    for cell in itertools.product(options.stores, METHODS, options.preconditioners):
        ledgers = [train(options, cell, seed) for seed in range(options.seeds)]
        firsts = reached(ledgers, ERRORS[-1])
        passes = "–" if firsts is None else f"{statistics.median(line['epoch'] for line in firsts):.0f}"
        loss = statistics.median(ledger[-1]["loss"] for ledger in ledgers)
        store, method, preconditioner = cell
        names = (store.stem.partition("-")[0], f"`{method}`", preconditioner)
        figures = [rounds(ledgers, error) for error in ERRORS]
        yield "| " + " | ".join(map(str, (*names, *figures, passes, f"{loss:.4f}"))) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs/preconditioner"))
    parser.add_argument("--preconditioners", nargs="+", default=list(DAMPINGS), choices=list(DAMPINGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--curvature-rows", type=int, default=2048)
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    options = parser.parse_args()
    table = "\n".join((HEADER, *rows(options)))
    print(table)
    if options.write is not None:
        insert(options.write, "preconditioner", table, options.runs.glob("*/ledger.jsonl"))


if __name__ == "__main__":
    main()
