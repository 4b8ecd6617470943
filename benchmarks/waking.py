"""Effect of excluding the other threads of a round from the processor of the calling thread (docs/kernels.md).

    python benchmarks/waking.py [--pause-ms 20] [--rounds 60] [--write docs/kernels.md]

A round is one equal matrix product on each of two threads, after a pause in which the processors become idle. Rounds
with and without take turns, in separate processes, because a moved thread stays on its processor for a while.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from pages import insert

from hfnumba import threads
from hfnumba.figures.summary import markdown
from hfnumba.kernels.blas import limit_blas_threads

SIZE, PAIRS = 768, 5


def child(apart: bool, pause_s: float, rounds: int) -> None:
    """Print the median milliseconds of a round, and of one product alone."""
    if not apart:
        threads.avoid_processor = lambda *_: None
    limit_blas_threads()
    rng = np.random.default_rng(0)
    operands = [rng.standard_normal((SIZE, SIZE), np.float32) for _ in range(2)]
    outs = [np.empty_like(operand) for operand in operands]
    tasks = [lambda i=i: np.matmul(operands[i], operands[i], out=outs[i]) for i in range(2)]
    team = threads.Team(2)
    together, alone = [], []
    for _ in range(rounds):
        for work, taken in ((tasks, together), (tasks[:1], alone)):
            time.sleep(pause_s)
            start = time.perf_counter()
            team.run(work)
            taken.append(time.perf_counter() - start)
    print(1e3 * statistics.median(together), 1e3 * statistics.median(alone))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2] == "apart", float(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pause-ms", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--write", type=Path, help="a Markdown file with a marker named `waking`")
    given = parser.parse_args()
    found: dict[str, list[list[float]]] = {"apart": [], "anywhere": []}
    for _ in range(PAIRS):
        for how, medians in found.items():
            command = [sys.executable, __file__, "--child", how, str(given.pause_ms / 1e3), str(given.rounds)]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            medians.append([float(word) for word in printed.split()])
    names = {"apart": "excluded from the caller's processor", "anywhere": "placed by the system"}
    rows = []
    for how, medians in found.items():
        together, alone = (statistics.median(column) for column in zip(*medians, strict=True))
        rows.append([names[how], f"{together:.1f}", f"{alone:.1f}", f"{together / alone:.2f}"])
    header = ["the second thread is", "both threads, ms", "one alone, ms", "ratio"]
    table = markdown(header, rows)
    print(table)
    if given.write is not None:
        insert(given.write, "waking", table)


if __name__ == "__main__":
    main()
