"""Tables of kernels for the docs: against sgemm and peers, by number of threads, and memory against JAX.

    hfnumba bench kernels --json > kernels.jsonl
    python benchmarks/kernels.py kernels.jsonl --write docs/kernels.md

The first command measures the rates; this one measures threads and memory, which takes two minutes, and makes all
tables. Memory is the peak resident size of a separate process (Linux), minus that of the process before it had data.
"""

import argparse
import collections
import json
import statistics
import subprocess
import sys
from pathlib import Path

from pages import insert

from hfnumba.bench.kernels import EVALUATIONS, NETWORKS, Row, measure, our_evaluations, random_problem, setting
from hfnumba.bench.peers import installed
from hfnumba.figures.summary import markdown
from hfnumba.network import Network
from hfnumba.processors import available_processors

MEMORY = {"A": 60000, "B": 60000, "C": 16384}
LIBRARIES = ("hfnumba", "jax")
THREADS_ROWS, THREADS_SECONDS = 4096, 12.0


def rate_table(rows: list[Row], peers: list[str]) -> str:
    """Table of shares of sgemm's peak, and of times of peers divided by ours, as `gradient / Hv / Gv / loss`."""
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


def summary_table(rows: list[Row], peers: list[str]) -> str:
    """Table by evaluation and number of rows: share of the peak, and times of peers divided by ours.

    The first peer column has the fastest of the libraries with all evaluations; libraries with products only follow.
    """
    groups: dict[tuple[str, str], list[Row]] = collections.defaultdict(list)
    for row in rows:
        groups["16,384 and more" if row.rows > 4096 else f"{row.rows:,}", row.evaluation].append(row)
    others = sorted({peer for row in rows for peer in row.ratios} - set(peers))
    lines = []
    for (n_rows, evaluation), group in groups.items():
        figures = [[row.of_peak for row in group]]
        if peers:
            figures.append([min(row.ratios[peer] for peer in peers) for row in group])
        figures += [[row.ratios[peer] for row in group if peer in row.ratios] for peer in others]
        lines.append([n_rows, evaluation, *map(spread, figures)])
    lines.sort(key=lambda line: int(line[0].split()[0].replace(",", "")))
    fastest = [f"{' or '.join(peers)}, the faster: its time"] if peers else []
    beside = [f"{peer}'s time" for peer in others]
    return markdown(["rows", "evaluation", "of sgemm's peak", *fastest, *beside], lines)


def spread(figures: list[float]) -> str:
    """Format median and range; empty without figures."""
    return f"{statistics.median(figures):.2f} ({min(figures):.2f} to {max(figures):.2f})" if figures else ""


def threads_table() -> str:
    """Table of times of one thread divided by those of all threads, measured in turn in one process."""
    many = available_processors()
    lines = []
    for sizes in NETWORKS.values():
        problem = random_problem(Network(sizes, "tanh"), THREADS_ROWS)
        jobs = {f"{key} {n}": prepare() for n in (1, many) for key, prepare in our_evaluations(problem, n).items()}
        seconds = measure(jobs, THREADS_SECONDS)
        ratios = [f"{seconds[f'{key} 1'] / seconds[f'{key} {many}']:.2f}" for key in EVALUATIONS]
        lines.append(["-".join(map(str, sizes)), f"{THREADS_ROWS:,}", *ratios])
    return markdown(["network", "rows", *(f"{key}, 1 thread : {many}" for key in EVALUATIONS)], lines)


def memory_table() -> str:
    """Table of MB by library and evaluation."""
    libraries = [name for name in LIBRARIES if name == "hfnumba" or installed((name,))]
    lines = []
    for network, rows in MEMORY.items():
        for evaluation in EVALUATIONS:
            used = [f"{peak(library, network, rows, evaluation) / 1e6:,.0f}" for library in libraries]
            lines.append(["-".join(map(str, NETWORKS[network])), f"{rows:,}", evaluation, *used])
    return markdown(["network", "rows", "evaluation", *(f"{name}, MB" for name in libraries)], lines)


def peak(*job: object) -> int:
    """Bytes that a separate process needs for one evaluation."""
    command = [sys.executable, __file__, "--child", *map(str, job)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def child(library: str, network: str, rows: int, evaluation: str) -> None:
    """Evaluate three times, and print the peak of additional memory."""
    from hfnumba.bench.peers import PEERS

    def evaluations(problem):
        if library == "hfnumba":
            return our_evaluations(problem, available_processors())
        return PEERS[library](problem)

    network_of = Network(NETWORKS[network], "tanh")
    # First with few rows: code is loaded and compiled, and threads start.
    evaluations(random_problem(network_of, 16))[evaluation]()()
    before = resident("VmRSS")
    call = evaluations(random_problem(network_of, rows))[evaluation]()
    for _ in range(3):
        call()
    print(resident("VmHWM") - before)


def resident(what: str) -> int:
    """Resident bytes of this process: current (VmRSS) or peak (VmHWM)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[what].split()[0])


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        library, network, rows, evaluation = sys.argv[2:]
        child(library, network, int(rows), evaluation)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rates", type=Path, help="what `hfnumba bench kernels --json` printed")
    parser.add_argument(
        "--write",
        type=Path,
        help="a Markdown file with markers named `setting`, `rates`, `summary`, `threads` and `memory`",
    )
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.rates.read_text().splitlines()]
    rows = [
        Row(**{key: value for key, value in line.items() if key != "sizes"})
        for line in lines
        if line["evaluation"] in EVALUATIONS
    ]
    peers = [peer for peer in ("jax", "torch") if all(peer in row.ratios for row in rows)]
    tables = {
        "setting": f"Measured with {setting(None, tuple(sorted(set().union(*(row.ratios for row in rows)))))}.",
        "rates": rate_table(rows, peers),
        "summary": summary_table(rows, peers),
        "threads": threads_table(),
        "memory": memory_table(),
    }
    print(*tables.values(), sep="\n\n")
    if given.write is not None:
        for name, table in tables.items():
            results = () if name in ("threads", "memory") else (given.rates,)
            insert(given.write, name, table, results)


if __name__ == "__main__":
    main()
