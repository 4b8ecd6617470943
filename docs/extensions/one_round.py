"""A program that records the calls of one round on two workers, and prints them as JSON.

It takes the functions to record as JSON: names by files. Client and workers are threads of this process, and
NUMBA_DISABLE_JIT=1 keeps kernels interpreted, so that it takes seconds: what is called, by whom and how often is the
same.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from distributed import Client

import hfnumba as hf

PACKAGE = Path(hf.__file__).resolve().parent
WORKER_FILES = ("engine/cluster/worker.py",)
N_WORKERS, N_PARTITIONS = 2, 4


@dataclass
class Step:
    """A function that a round calls: where it runs, and how often."""

    file: str
    name: str
    on_worker: bool
    n_calls: int = 0


class Recorder:
    """Counts the calls of the functions that are shown, in the order of their first calls."""

    def __init__(self, shown: dict[str, list[str]]) -> None:
        self.shown = shown
        self.steps: dict[tuple[str, str], Step] = {}
        self.frames: list[FrameType] = []

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Take note of an event of the interpreter."""
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(str(PACKAGE)):
            return
        file, name = path[len(str(PACKAGE)) + 1 :], frame.f_code.co_qualname
        # A coroutine that continues after waiting is a call for the interpreter, but not a new one.
        if name in self.shown.get(file, ()) and frame not in self.frames:
            self.frames.append(frame)
            on_worker = threading.current_thread().name.startswith("hfnumba-round") or file in WORKER_FILES
            self.steps.setdefault((file, name), Step(file, name, on_worker)).n_calls += 1


def main() -> None:
    """Record the second round: the first one also sends the problem and reads the rows."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((64, 3)).astype(np.float32), rng.integers(0, 2, 64)
    recorder = Recorder(json.loads(sys.argv[1]))
    with (
        tempfile.TemporaryDirectory() as folder,
        Client(processes=False, n_workers=N_WORKERS, threads_per_worker=1, dashboard_address=None) as client,
    ):
        store = Path(folder) / "rows.zarr"
        hf.write_store(store, {"train": rows}, n_partitions=N_PARTITIONS)
        net = hf.Network([3, 4, 2])
        objective = hf.DaskObjective(net, hf.open_store(store)["train"], client)
        theta = net.initialize(seed=0)
        objective.value_and_gradient(theta)
        before = objective.counters.rounds
        threading.setprofile_all_threads(recorder)
        objective.value_and_gradient(theta + np.float32(1))
        threading.setprofile_all_threads(None)
        n_rounds = objective.counters.rounds - before
        objective.close()
    missing = [name for file, names in recorder.shown.items() for name in names if (file, name) not in recorder.steps]
    if missing or n_rounds != 1:
        sys.exit(f"expected calls of all that is shown in one round; got {n_rounds} rounds without {missing}")
    sys.stdout.write(json.dumps([asdict(step) for step in recorder.steps.values()]))


if __name__ == "__main__":
    main()
