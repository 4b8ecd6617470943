"""Kernels against sgemm and peers, and their memory against JAX's, into the docs.

    hfnumba bench kernels --json > kernels.jsonl
    python benchmarks/kernels.py kernels.jsonl --write docs/kernels.md

The first command measures; this one measures memory, which takes a minute, and puts both into tables. Memory is the
highest resident size of a process of its own (Linux), without that of the same process before it had data.
"""

import argparse
import collections
import json
import subprocess
import sys
from pathlib import Path

from pages import insert

from hfnumba.bench.kernels import EVALUATIONS, NETWORKS, Row
from hfnumba.bench.peers import installed
from hfnumba.figures.summary import markdown

MEMORY = {"A": 60000, "B": 60000, "C": 16384}
LIBRARIES = ("hfnumba", "jax")


def rate_table(rows: list[Row], peers: list[str]) -> str:
    """Share of sgemm's peak, and for each peer how many times its time is ours, as `gradient / Hv / Gv / loss`."""
    cells: dict[tuple[str, int, str], dict[str, Row]] = collections.defaultdict(dict)
    for row in rows:
        cells[row.network, row.rows, row.activation][row.evaluation] = row
    order = [*EVALUATIONS[1:], EVALUATIONS[0]]
    lines = []
    for (network, n_rows, activation), cell in sorted(cells.items()):
        line = ["-".join(map(str, NETWORKS[network])), f"{n_rows:,}", activation]
        line.append(" / ".join(f"{cell[key].of_peak:.2f}" for key in order))
        line += [" / ".join(f"{cell[key].ratios[peer]:.2f}" for key in order) for peer in peers]
        lines.append(line)
    return markdown(["network", "rows", "activation", "of sgemm's peak", *(f"{peer}'s time" for peer in peers)], lines)


def memory_table() -> str:
    """MB by library and evaluation."""
    libraries = [name for name in LIBRARIES if name == "hfnumba" or installed((name,))]
    lines = []
    for network, rows in MEMORY.items():
        for evaluation in EVALUATIONS:
            used = [f"{peak(library, network, rows, evaluation) / 1e6:,.0f}" for library in libraries]
            lines.append(["-".join(map(str, NETWORKS[network])), f"{rows:,}", evaluation, *used])
    return markdown(["network", "rows", "evaluation", *(f"{name}, MB" for name in libraries)], lines)


def peak(*job: object) -> int:
    """Bytes that a process of its own needs for one evaluation."""
    command = [sys.executable, __file__, "--child", *map(str, job)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def child(library: str, network: str, rows: int, evaluation: str) -> None:
    """Evaluate three times and print how much memory was added at most."""
    from hfnumba.bench.kernels import our_evaluations, random_problem
    from hfnumba.bench.peers import PEERS
    from hfnumba.network import Network
    from hfnumba.processors import available_processors

    def evaluations(problem):
        if library == "hfnumba":
            return our_evaluations(problem, available_processors())
        return PEERS[library](problem)

    description = Network(NETWORKS[network], "tanh")
    # Code is loaded and compiled, and threads have started, before the data come.
    evaluations(random_problem(description, 16))[evaluation]()()
    before = resident("VmRSS")
    call = evaluations(random_problem(description, rows))[evaluation]()
    for _ in range(3):
        call()
    print(resident("VmHWM") - before)


def resident(what: str) -> int:
    """Bytes of this process that are in memory (VmRSS), or were at most (VmHWM)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[what].split()[0])


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        library, network, rows, evaluation = sys.argv[2:]
        child(library, network, int(rows), evaluation)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rates", type=Path, help="what `hfnumba bench kernels --json` printed")
    parser.add_argument("--write", type=Path, help="a Markdown file with markers named `rates` and `memory`")
    given = parser.parse_args()
    rows = [Row(**json.loads(line)) for line in given.rates.read_text().splitlines()]
    peers = [peer for peer in ("jax", "torch") if all(peer in row.ratios for row in rows)]
    tables = {"rates": rate_table(rows, peers), "memory": memory_table()}
    print(*tables.values(), sep="\n\n")
    if given.write is not None:
        for name, table in tables.items():
            insert(given.write, name, table)


if __name__ == "__main__":
    main()
