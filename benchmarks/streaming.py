"""Training on stores four times larger than the memory budget, compared with the same run in memory.

    HFNUMBA_DATA=... python benchmarks/streaming.py [--pairs 2] [--kind bytes] [--workers 0] [--write docs/data.md]

Each run makes one Hessian-free iteration, in a separate process with two threads or (--workers 2) on two processes of
one thread, and reports its time and the largest resident memory of a process with rows. Growth is counted from the
memory of that process after its kernels are compiled and one partition was read and freed. With --write the lines
replace those of the same kinds in the table between the two markers of that file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pages import insert, marked

from hfnumba.ingest import build, write_frames, write_store
from hfnumba.store import Split, open_store

HIDDEN = {"bytes": (400,), "float32": (256, 256), "frames": (256, 256)}
COLUMNS = {
    "kind": "rows",
    "where": "on",
    "store_mib": "MiB",
    "budget_mib": "budget",
    "growth_mib": "growth",
    "growth_of_budget": "of the budget",
    "peak_mib": "peak",
    "in_memory_growth_mib": "growth in memory",
    "speed": "speed of in memory",
    "speeds": "from, to",
}
ITERATIONS, PAIRS, LARGER = 1, 2, 4
# For bytes and float32: with the larger default partitions, the buffers of a thread and the vectors would not fit into
# half the budget.
N_PARTITIONS = 64
_PAGE = 4096


def make(kind: str, out: Path, mib: int) -> None:
    """Write a store of about ``mib`` MiB as loaded: rows of MNIST drawn repeatedly, rows of 360 numbers, or frames."""
    rng = np.random.default_rng(0)
    if kind == "bytes":
        mnist = build("mnist", Path(os.environ["HFNUMBA_DATA"]) / "mnist", out.with_name("mnist.zarr"))["train"]
        n = mib * 2**20 // 784
        images, labels = (np.concatenate(arrays) for arrays in zip(*map(mnist.load, range(16)), strict=True))
        drawn = rng.integers(0, len(images), n)
        write_store(out, {"train": (images[drawn], labels[drawn])}, scale=1 / 255, n_partitions=N_PARTITIONS)
    elif kind == "float32":
        n = mib * 2**20 // 1440
        X, y = rng.standard_normal((n, 360), np.float32), rng.integers(0, 100, n)
        write_store(out, {"train": (X, y)}, n_partitions=N_PARTITIONS)
    else:
        n = mib * 2**20 // 1440
        frames = [rng.standard_normal((500, 40), np.float32) for _ in range(n // 500)]
        write_frames(out, {"train": [(X, rng.integers(0, 100, 500)) for X in frames]}, context=4)


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


@contextmanager
def peak_memory(pids: list[int]) -> Iterator[dict[int, int]]:
    """Measure the largest resident memory of some processes in this context."""
    peaks, ended = {pid: resident(pid) for pid in pids}, threading.Event()

    def poll() -> None:
        while not ended.wait(0.01):
            for pid, peak in peaks.items():
                peaks[pid] = max(peak, resident(pid))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def ready(split: Split) -> int:
    """Import and compile everything, so that it is not counted as memory of a store; return the process id."""
    from hfnumba.kernels.cache import warm_up

    warm_up()
    split.load(split.n_partitions - 1)
    return os.getpid()


def one_run(path: str, kind: str, memory: int | None, workers: int) -> dict[str, float]:
    """Make some iterations in this process or on its workers."""
    from hfnumba.engine import DaskObjective, SplitObjective
    from hfnumba.launch import local
    from hfnumba.network import Network
    from hfnumba.optim.methods import optimizer

    split = open_store(path)["train"]
    network, times = Network((split.n_features, *HIDDEN[kind], split.n_outputs)), []
    with ExitStack() as stack:
        client = stack.enter_context(local(workers)) if workers else None
        pids = list(client.run(ready, split).values()) if client else [ready(split)]
        before = {pid: resident(pid) for pid in pids}
        peaks = stack.enter_context(peak_memory(pids))
        objective = stack.enter_context(
            DaskObjective(network, split, client, memory=memory)
            if client
            else SplitObjective(network, split, memory=memory)
        )
        method = optimizer("hf-bicgstab", curvature_rows=4096, max_iterations=ITERATIONS)
        start = time.perf_counter()
        for _ in method.iterate(objective, network.initialize(0)):
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
    growth = max(peaks[pid] - before[pid] for pid in pids)
    # The first line of the ledger is the start: reading and the initial gradient.
    return {
        "seconds": statistics.mean(times[1:]), "start_s": times[0], "growth": growth, "peak": max(peaks.values())
    }  # fmt: skip


def compared(out: Path, kind: str, workers: int, mib: int, pairs: int) -> dict[str, Any]:
    """Make one line of the table: runs with the budget and in memory, in turn."""
    budget = mib * 2**20 // LARGER // max(1, workers)
    runs: dict[int, list[dict[str, float]]] = {0: [], budget: []}
    for _ in range(pairs):
        for memory, found in runs.items():
            command = [sys.executable, __file__, "--one", str(out), kind, str(memory), str(workers)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            found.append(json.loads(done.stdout))
    ratios = [whole["seconds"] / limited["seconds"] for whole, limited in zip(*runs.values(), strict=True)]
    growth, peak = (max(run[key] for run in runs[budget]) for key in ("growth", "peak"))
    return {
        "kind": kind, "where": f"{workers} workers" if workers else "2 threads",
        "store_mib": mib, "budget_mib": budget // 2**20,
        "growth_mib": round(growth / 2**20), "growth_of_budget": round(growth / budget, 2),
        "peak_mib": round(peak / 2**20),
        "in_memory_growth_mib": round(max(run["growth"] for run in runs[0]) / 2**20),
        "seconds": round(statistics.median(run["seconds"] for run in runs[budget]), 2),
        "speed": round(statistics.median(ratios), 2), "speeds": f"{min(ratios):.2f} to {max(ratios):.2f}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512, help="size of the store as loaded")
    parser.add_argument("--kind", choices=HIDDEN, action="append")
    parser.add_argument("--workers", type=int, action="append", help="0: two threads of one process; default: 0 and 2")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        path, kind, memory, workers = given.one
        print(json.dumps(one_run(path, kind, int(memory) or None, int(workers))))
        return
    if "bytes" in (given.kind or HIDDEN) and "HFNUMBA_DATA" not in os.environ:
        sys.exit("set HFNUMBA_DATA to the folder that holds mnist/")
    lines = []
    for kind in given.kind or HIDDEN:
        with tempfile.TemporaryDirectory(prefix="hfnumba-") as folder:
            out = Path(folder) / "s.zarr"
            program = f"import streaming, pathlib; streaming.make({kind!r}, pathlib.Path({str(out)!r}), {given.mib})"
            subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, check=True)
            for workers in given.workers or (0, 2):
                line = compared(out, kind, workers, given.mib, given.pairs)
                print(json.dumps(line) if given.json else "  ".join(f"{key} {value}" for key, value in line.items()))
                sys.stdout.flush()
                lines.append(line)
    if given.write:
        write(given.write, lines)


def write(page: Path, lines: list[dict[str, Any]]) -> None:
    """Replace lines of the same kinds in the table of a page."""
    head = f"| {' | '.join(COLUMNS.values())} |"
    before = marked(page, "streaming").splitlines()
    found = {tuple(row.split("|")[1:3]): row for row in before[2:]} if before[0] == head else {}
    for line in lines:
        row = f"| {' | '.join(str(line[key]) for key in COLUMNS)} |"
        found[tuple(row.split("|")[1:3])] = row
    order = [f" {kind} " for kind in HIDDEN]
    rows = sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
    insert(page, "streaming", "\n".join([head, "| --- " * len(COLUMNS) + "|", *(row for _, row in rows)]))


if __name__ == "__main__":
    main()
