"""Train by every method, and tabulate results and costs from the ledgers.

    python benchmarks/methods.py mnist.zarr --runs runs/methods [--write README.md]

Complete runs are not repeated. With --write the table replaces the text between the two markers of that file.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from pages import insert

METHODS = ("sgd", "hf-cg", "gn-cg", "hybrid-cg", "hf-bicgstab")
HIDDEN = ("400", "400,150")
HEADER = (
    "| network | method | training loss | training error | test error | passes | rounds | MB per worker |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def train(options: argparse.Namespace, hidden: str, method: str, run: Path) -> None:
    """Make one run by the command line; an interrupted one is continued."""
    command = [sys.executable, "-m", "hfnumba", "train", options.store, "--hidden", hidden, "--method", method]
    command += ["--max-iterations", options.iterations]
    if method != "sgd":
        # As the paper has them: no preconditioner, and step lengths evaluated on all rows.
        command += ["--curvature-rows", 4096, "--preconditioner", "none", "--line-rows", "all"]
    command += ["--cluster", options.cluster, "--run", run, "--resume"]
    print("$", *command, file=sys.stderr)
    subprocess.run([str(word) for word in command], check=True)


def row(hidden: str, method: str, run: Path) -> str:
    """Format the last line of the ledger of a run as a row of the table."""
    last = json.loads((run / "ledger.jsonl").read_text().splitlines()[-1])
    figures = (
        f"{last['loss']:.4f}",
        f"{100 * last['error']:.2f} %",
        f"{100 * last['test_error']:.2f} %",
        f"{last['epoch']:.0f}",
        f"{last['rounds']:,}",
        f"{last['nbytes'] / 1e6:,.0f}",
    )
    return f"| 784-{hidden.replace(',', '-')}-10 | `{method}` | " + " | ".join(figures) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"))
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--cluster", default="local:2")
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    options = parser.parse_args()
    rows = []
    for hidden in HIDDEN:
        for method in METHODS:
            run = options.runs / f"{hidden.replace(',', '-')}-{method}"
            train(options, hidden, method, run)
            rows.append(row(hidden, method, run))
    table = "\n".join((HEADER, *rows))
    print(table)
    if options.write is not None:
        insert(options.write, "methods", table, options.runs.glob("*/ledger.jsonl"))


if __name__ == "__main__":
    main()
