"""Train one network on speech by Hessian-free methods and by PyTorch's Adam, in equal time, and tabulate the results.

    hfnumba data build festvox-ru --source festvox --out festvox-ru.zarr
    python benchmarks/speech.py festvox-ru.zarr --runs runs/speech [--piece-s 120] [--write docs/data.md]

Each method has three settings. First each setting trains for --select-s seconds on an eighth of the training
utterances, and is evaluated on another sixteenth; the held-out utterances of the store (its test split) are not used
for this. Then the best setting of each method trains for --minutes on all training utterances. All runs have the same
network (tanh), the same initial parameters and the same number of threads. Needs PyTorch (pip install torch).

The command may be interrupted and repeated: every run continues from its last checkpoint. With --piece-s it stops after
about this number of seconds, or one iteration later, with exit status 75 as long as runs are incomplete.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pages import insert

from hfnumba import Network, open_store
from hfnumba.engine import SplitObjective
from hfnumba.ingest import write_frames
from hfnumba.processors import available_processors

HIDDEN = (512, 512, 512)
BATCH = 512
TRAIN_SHARE, EVALUATION_SHARE = 8, 16
"""Settings are tried on the first eighth of the training partitions and evaluated on the last sixteenth."""
ALL_ROWS = {"line-rows": "all"}
SETTINGS = {
    "gn-cg": (ALL_ROWS, {"line-rows": 4096}, {"line-rows": 16384, "curvature-rows": 16384}),
    "hf-bicgstab": (ALL_ROWS, {"line-rows": 4096}, {"line-rows": 16384, "curvature-rows": 16384}),
    "adam": ({"learning-rate": 0.0003}, {"learning-rate": 0.001}, {"learning-rate": 0.003}),
}
NAMES = {"gn-cg": "`gn-cg`", "hf-bicgstab": "`hf-bicgstab`", "adam": "PyTorch Adam"}
MORE_TO_DO = 75


@dataclass(frozen=True)
class Run:
    """Run of a method with a setting on a store, for a number of seconds of training."""

    folder: Path
    store: Path
    method: str
    setting: dict
    seconds: float

    @property
    def lines(self) -> list[dict]:
        """Lines of the ledger."""
        ledger = self.folder / "ledger.jsonl"
        return [json.loads(text) for text in ledger.read_text().splitlines()] if ledger.exists() else []

    @property
    def left_s(self) -> float:
        """Remaining seconds of training."""
        return self.seconds - max((line["elapsed_s"] for line in self.lines), default=0.0)

    def last(self, *, seconds: float = np.inf, passes: float = np.inf) -> dict:
        """Last iteration that ended within both limits."""
        within = [line for line in self.lines if line["elapsed_s"] <= seconds and line["epoch"] <= passes]
        if not within:
            raise SystemExit(f"error: {self.folder}: no iteration ended within {seconds:g} s; give more seconds")
        return within[-1]


class UnfinishedError(Exception):
    """The time limit of this call is reached."""


def complete(run: Run, threads: int, deadline: float) -> None:
    """Train until the run has had its seconds; raise when the deadline has passed."""
    while run.left_s > 0:
        if time.monotonic() >= deadline:
            raise UnfinishedError
        done = len(run.lines)
        print(f"{run.folder}: {run.left_s:.0f} s of training left", file=sys.stderr)
        (adam if run.method == "adam" else hessian_free)(run, threads, deadline)
        if len(run.lines) == done:
            return  # the optimiser has stopped


def hessian_free(run: Run, threads: int, deadline: float) -> None:
    """Continue a run by the command line until the deadline."""
    piece = min(run.left_s, max(1.0, deadline - time.monotonic()))
    words = [
        sys.executable,
        "-m",
        "hfnumba",
        "train",
        run.store,
        "--hidden",
        ",".join(map(str, HIDDEN)),
        "--method",
        run.method,
        "--threads",
        threads,
        "--preconditioner",
        "none",
    ]
    words += [word for name, value in run.setting.items() for word in (f"--{name}", value)]
    words += ["--max-iterations", 10**6, "--run", run.folder, "--resume", "--time-limit-s", piece]
    if subprocess.run(list(map(str, words)), check=False).returncode:
        raise SystemExit(f"error: {run.folder} failed")


def adam(run: Run, threads: int, deadline: float) -> None:
    """Run epochs of PyTorch's Adam, each with a checkpoint that includes the ledger; only its steps are timed."""
    torch.set_num_threads(threads)
    run.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = run.folder / "state.pt"
    store = open_store(run.store)
    network = Network([store["train"].n_features, *HIDDEN, store["train"].n_outputs])
    model, theta = _module(network)
    optimiser = torch.optim.Adam(model.parameters(), lr=run.setting["learning-rate"])
    lines: list[dict] = []
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        lines = saved["lines"]
    rows = [store["train"].load(j) for j in range(store["train"].n_partitions)]
    X, y = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*rows, strict=True))
    del rows
    y = y.long()
    with SplitObjective(network, store["train"]) as train_set, SplitObjective(network, store["test"]) as test_set:
        while True:
            line = {"iteration": len(lines), "epoch": float(len(lines)), "elapsed_s": 0.0}
            if lines:
                started = time.monotonic()
                _epoch(model, optimiser, X, y, seed=len(lines))
                line["elapsed_s"] = lines[-1]["elapsed_s"] + time.monotonic() - started
            _copy_parameters(network, model, theta)
            # Both kinds of run are evaluated by the same code.
            for name, objective in (("", train_set), ("test_", test_set)):
                line[f"{name}loss"], line[f"{name}error"] = map(float, objective.value_and_error(theta))
            lines.append(line)
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "lines": lines}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            (run.folder / "ledger.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines))
            print("adam", run.setting["learning-rate"], line, file=sys.stderr)
            if line["elapsed_s"] >= run.seconds or time.monotonic() >= deadline:
                return


def _epoch(model: torch.nn.Module, optimiser: torch.optim.Optimizer, X: torch.Tensor, y: torch.Tensor, seed: int):
    """Make one pass over all rows in an order drawn by the seed."""
    for chosen in torch.randperm(len(X), generator=torch.Generator().manual_seed(seed)).split(BATCH):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(X[chosen]), y[chosen]).backward()
        optimiser.step()


def _module(network: Network) -> tuple[torch.nn.Module, np.ndarray]:
    """Network as a PyTorch module with the initial parameters of hfnumba, and these parameters as theta."""
    theta = network.initialize(seed=0)
    parts: list[torch.nn.Module] = []
    for layer in network.layers(theta):
        linear = torch.nn.Linear(*layer.weights.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.weights.T.copy()))
            linear.bias.copy_(torch.from_numpy(layer.biases))
        parts += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*parts[:-1]), theta


def _copy_parameters(network: Network, model: torch.nn.Module, theta: np.ndarray) -> None:
    linears = [part for part in model if isinstance(part, torch.nn.Linear)]
    for layer, linear in zip(network.layers(theta), linears, strict=True):
        layer.weights[:] = linear.weight.detach().numpy().T
        layer.biases[:] = linear.bias.detach().numpy()


def selection_store(store: Path, out: Path) -> Path:
    """Write a store of training utterances only, some of them as the test split, to evaluate settings."""
    if (out / "manifest.json").exists():
        return out
    split = open_store(store)["train"]
    n = split.n_partitions
    partitions = {"train": range(max(1, n // TRAIN_SHARE)), "test": range(n - max(1, n // EVALUATION_SHARE), n)}
    utterances: dict[str, list] = {}
    for name, chosen in partitions.items():
        own = utterances[name] = []
        for rows in map(split.load_compact, chosen):
            firsts = np.flatnonzero(rows["start"])[1:]
            own += zip(np.split(rows["X"], firsts), np.split(rows["y"], firsts), strict=True)
    context, n_classes = split.layout.context, split.n_classes
    write_frames(out, utterances, context=context, standardise=False, n_classes=n_classes, name="selection")
    return out


def selection_runs(options: argparse.Namespace) -> dict[str, tuple[Run, ...]]:
    """Runs that select among the settings of each method."""
    small = options.runs / "selection.zarr"
    return {
        method: tuple(
            Run(options.runs / f"select-{method}-{i}", small, method, setting, options.select_s)
            for i, setting in enumerate(settings)
        )
        for method, settings in SETTINGS.items()
    }


def chosen(options: argparse.Namespace, runs: tuple[Run, ...]) -> Run:
    """Run on the whole store with the best setting."""
    best = min(runs, key=lambda run: run.last(seconds=run.seconds)["test_error"])
    return Run(options.runs / best.method, options.store, best.method, best.setting, 60 * options.minutes)


def setting_text(setting: dict) -> str:
    """Format a setting."""
    return ", ".join(f"{name.replace('-', ' ')} {value}" for name, value in setting.items()) or "defaults"


def table(finals: list[Run]) -> str:
    """Table of the results of each method within equal seconds, and within equal passes."""
    seconds = min(run.seconds for run in finals)
    passes = min(run.last(seconds=seconds)["epoch"] for run in finals)
    rows = [
        "| within | method | setting | iterations | passes | seconds | training loss | accuracy, training frames "
        "| accuracy, held-out utterances |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for text, limits in ((f"{seconds:.0f} s", {}), (f"{passes:.1f} passes", {"passes": passes})):
        for run in finals:
            line = run.last(seconds=seconds, **limits)
            figures = (
                f"{line['iteration']}",
                f"{line['epoch']:.1f}",
                f"{line['elapsed_s']:.0f}",
                f"{line['loss']:.3f}",
                f"{100 * (1 - line['error']):.2f} %",
                f"{100 * (1 - line['test_error']):.2f} %",
            )
            rows.append(f"| {text} | {NAMES[run.method]} | {setting_text(run.setting)} | " + " | ".join(figures) + " |")
    return "\n".join(rows)


def selection_table(runs: dict[str, tuple[Run, ...]]) -> str:
    """Table of the settings, evaluated on training utterances that they were not trained on."""
    rows = ["| method | setting | seconds | passes | accuracy, unseen training utterances |", "| --- |" + " --- |" * 4]
    for method, own in runs.items():
        for run in own:
            line = run.last(seconds=run.seconds)
            accuracy = f"{100 * (1 - line['test_error']):.2f} %"
            figures = f"{setting_text(run.setting)} | {line['elapsed_s']:.0f} | {line['epoch']:.1f} | {accuracy}"
            rows.append(f"| {NAMES[method]} | {figures} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/speech"))
    parser.add_argument("--minutes", type=float, default=7.0, help="minutes of training of each method (default: 7)")
    parser.add_argument(
        "--select-s", type=float, default=45.0, help="seconds of training of each setting (default: 45)"
    )
    parser.add_argument("--threads", type=int, default=available_processors())
    parser.add_argument("--piece-s", type=float, default=np.inf)
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers speech and speech-settings")
    options = parser.parse_args()
    deadline = time.monotonic() + options.piece_s
    selection_store(options.store, options.runs / "selection.zarr")
    settings = selection_runs(options)
    try:
        for runs in settings.values():
            for run in runs:
                complete(run, options.threads, deadline)
        finals = [chosen(options, runs) for runs in settings.values()]
        for run in finals:
            complete(run, options.threads, deadline)
    except UnfinishedError:
        print("not complete yet: repeat the same command", file=sys.stderr)
        sys.exit(MORE_TO_DO)
    tables = {"speech-settings": selection_table(settings), "speech": table(finals)}
    print(*tables.values(), sep="\n\n")
    for name, text in tables.items() if options.write is not None else ():
        insert(options.write, name, text, options.runs.glob("**/ledger.jsonl"))


if __name__ == "__main__":
    main()
