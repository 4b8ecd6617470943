"""Effect of Martens' preconditioner: rounds to reach a training error with and without it, from ledgers.

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

METHODS = ("hf-cg", "gn-cg", "hf-bicgstab")
HIDDEN = ("400,150",)
PRECONDITIONERS = ("none", "fisher")
ERRORS = (0.04, 0.02, 0.01)
DAMPINGS = (0.1, 0.001)
HEADER = (
    "| data | hidden layers | method | first damping | preconditioner | seeds | 4 % | 2 % | 1 % | loss at the end |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def train(options, cell, seed):
    """Make one run by the command line, continuing an interrupted one, and return its ledger."""
    store, hidden, method, damping, preconditioner = cell
    run = options.runs / f"{store.stem}-{hidden.replace(',', '-')}-{method}-{damping:g}-{preconditioner}-{seed}"
    command = [sys.executable, "-m", "hfnumba", "train", store, "--hidden", hidden, "--method", method]
    command += ["--seed", seed, "--damping", damping, "--preconditioner", preconditioner]
    command += ["--curvature-rows", options.curvature_rows]
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
    """Format median rounds (with their range) and iterations to an error, or the number of runs that reach it."""
    firsts = [line for ledger in ledgers if (line := next((x for x in ledger if x["error"] <= error), None))]
    if len(firsts) < len(ledgers):
        return f"{len(firsts)} of {len(ledgers)} runs reach it"
    rounds = [line["rounds"] for line in firsts]
    iterations = statistics.median(line["iteration"] for line in firsts)
    return f"{statistics.median(rounds):g} ({min(rounds)}–{max(rounds)}); {iterations:g} it."


def rows(options):
    for cell in itertools.product(options.stores, options.hidden, METHODS, options.damping, PRECONDITIONERS):
        ledgers = [train(options, cell, seed) for seed in range(options.seeds)]
        figures = [reached(ledgers, error) for error in ERRORS]
        loss = statistics.median(ledger[-1]["loss"] for ledger in ledgers)
        store, hidden, method, damping, preconditioner = cell
        name = store.stem.partition("-")[0]
        names = (name, hidden.replace(",", "-"), f"`{method}`", f"{damping:g}", preconditioner, options.seeds)
        yield "| " + " | ".join(map(str, (*names, *figures, f"{loss:.4f}"))) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs/preconditioner"))
    parser.add_argument("--hidden", nargs="+", default=HIDDEN, help="networks, in the form of hfnumba train")
    parser.add_argument("--damping", nargs="+", type=float, default=DAMPINGS, help="initial dampings")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--curvature-rows", type=int, default=2048)
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    options = parser.parse_args()
    table = "\n".join((HEADER, *rows(options)))
    print(table)
    if options.write is not None:
        insert(options.write, "preconditioner", table)


if __name__ == "__main__":
    main()
