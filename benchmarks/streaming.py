"""Training on stores four times larger than the memory budget, beside the same run in memory.

    HFNUMBA_DATA=... python benchmarks/streaming.py [--pairs 2] [--write docs/data.md]

Each run is a process of its own, which makes a Hessian-free iteration and reports its time and the largest resident
memory. Growth is counted from the process as it stands when its kernels are compiled and it has read and dropped one
partition. With --write the lines replace those
of the same kinds in the table between the two markers of that file.
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
from pathlib import Path

import numpy as np
from pages import insert, marked

HIDDEN = {"bytes": (400,), "float32": (256, 256), "frames": (256, 256)}
COLUMNS = {
    "kind": "rows",
    "store_mib": "MiB",
    "budget_mib": "budget",
    "growth_mib": "growth",
    "growth_of_budget": "of the budget",
    "peak_mib": "peak",
    "in_memory_growth_mib": "growth in memory",
    "speed": "speed of in memory",
}
ITERATIONS, PAIRS, LARGER = 1, 2, 4
_PAGE = 4096


def make(kind: str, out: Path, mib: int) -> None:
    """A store of about so many MiB as loaded: MNIST's rows again and again, frames of 360 numbers, or spliced ones."""
    from hfnumba.data import write_frames, write_store

    rng = np.random.default_rng(0)
    if kind == "bytes":
        from hfnumba.data import build

        data = os.environ.get("HFNUMBA_DATA")
        if data is None:
            sys.exit("set HFNUMBA_DATA to the folder that holds mnist/")
        mnist, n = build("mnist", Path(data) / "mnist", out.with_name("mnist.zarr"))["train"], mib * 2**20 // 784
        images, labels = (np.concatenate(part) for part in zip(*map(mnist.load, range(16)), strict=True))
        drawn = rng.integers(0, len(images), n)
        write_store(out, {"train": (images[drawn], labels[drawn])}, scale=1 / 255)
    elif kind == "float32":
        n = mib * 2**20 // 1440
        write_store(out, {"train": (rng.standard_normal((n, 360), np.float32), rng.integers(0, 100, n))})
    else:
        n = mib * 2**20 // 1440
        parts = [rng.standard_normal((500, 40), np.float32) for _ in range(n // 500)]
        write_frames(out, {"train": [(X, rng.integers(0, 100, 500)) for X in parts]}, context=4)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def one_run(path: str, kind: str, memory: int | None) -> dict[str, float]:
    """Some iterations in this process."""
    from hfnumba.data import open_store
    from hfnumba.engine import SplitObjective
    from hfnumba.kernels.cache import warm_up
    from hfnumba.network import Network
    from hfnumba.optim.methods import optimizer

    split = open_store(path)["train"]
    network = Network((split.n_features, *HIDDEN[kind], split.n_outputs))
    warm_up()
    # Libraries that are imported when they are first needed are no part of what a store takes.
    split.load(split.n_partitions - 1)
    peak, ended = [resident()], threading.Event()
    before = peak[0]

    def watch() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    times = []
    with SplitObjective(network, split, memory=memory) as objective:
        method = optimizer("hf-bicgstab", curvature_rows=4096, max_iterations=ITERATIONS)
        start = time.perf_counter()
        for _ in method.iterate(objective, network.initialize(0)):
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
    ended.set()
    watcher.join()
    # The first line of the ledger is the start: reading and the first gradient.
    return {"seconds": statistics.mean(times[1:]), "start_s": times[0], "growth": peak[0] - before, "peak": peak[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512, help="size of the store as loaded")
    parser.add_argument("--kind", choices=HIDDEN, action="append")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        path, kind, memory = given.one
        print(json.dumps(one_run(path, kind, int(memory) or None)))
        return
    budget, lines = given.mib * 2**20 // LARGER, []
    for kind in given.kind or HIDDEN:
        with tempfile.TemporaryDirectory(prefix="hfnumba-") as folder:
            out = Path(folder) / "s.zarr"
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    f"import streaming, pathlib; streaming.make({kind!r}, pathlib.Path({str(out)!r}), {given.mib})",
                ],
                cwd=Path(__file__).parent,
                check=True,
            )
            runs: dict[int, list[dict[str, float]]] = {0: [], budget: []}
            for _ in range(given.pairs):
                for memory, found in runs.items():
                    command = [sys.executable, __file__, "--one", str(out), kind, str(memory)]
                    found.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        speed = statistics.median(
            whole["seconds"] / part["seconds"] for whole, part in zip(*runs.values(), strict=True)
        )
        growth, peak = (max(run[key] for run in runs[budget]) for key in ("growth", "peak"))
        whole = max(run["growth"] for run in runs[0])
        line = {
            "kind": kind, "store_mib": given.mib, "budget_mib": budget // 2**20,
            "growth_mib": round(growth / 2**20), "growth_of_budget": round(growth / budget, 2),
            "peak_mib": round(peak / 2**20), "in_memory_growth_mib": round(whole / 2**20),
            "seconds": round(statistics.median(run["seconds"] for run in runs[budget]), 2), "speed": round(speed, 3),
        }  # fmt: skip
        print(
            json.dumps(line) if given.json else "  ".join(f"{key} {value}" for key, value in line.items()), flush=True
        )
        lines.append(line)
    if given.write:
        before = marked(given.write, "streaming").splitlines()[2:]
        rows = {row.split()[1]: row for row in before}
        rows |= {line["kind"]: f"| {' | '.join(str(line[key]) for key in COLUMNS)} |" for line in lines}
        table = "\n".join([f"| {' | '.join(COLUMNS.values())} |", "| --- " * len(COLUMNS) + "|", *rows.values()])
        insert(given.write, "streaming", table)


if __name__ == "__main__":
    main()
