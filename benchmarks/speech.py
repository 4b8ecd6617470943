"""Train one network on speech by Hessian-free methods and by PyTorch's Adam, and tabulate what each reached.

    hfnumba data build festvox-ru --source festvox --out festvox-ru.zarr
    python benchmarks/speech.py festvox-ru.zarr --runs runs/speech [--time-limit-s 140] [--write docs/data.md]

All runs have the same store, splits, standardisation, network (tanh) and first parameters. Each run is continued where
it stopped; with --time-limit-s every run takes one piece of about that many seconds, so the command can be repeated
until all are complete. The table is made of the ledgers, complete or not. Without PyTorch, Adam is left out.
With --adam-only or --table-only only that is done, for instance by a Python that has PyTorch.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from pages import insert

from hfnumba import Network, open_store
from hfnumba.engine import SplitObjective

HIDDEN = (512, 512, 512)
METHODS = {
    "gn-cg": ("--curvature-rows", "8192"),
    "hf-bicgstab": ("--curvature-rows", "8192", "--damping", "0.01"),
}
BATCH = 512
HEADER = (
    "| method | iterations | frame accuracy, held-out utterances | held-out loss | training loss | passes | rounds |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def train(options: argparse.Namespace, method: str) -> None:
    """A run, or a piece of it, by the command line."""
    command = ["hfnumba", "train", options.store, "--hidden", ",".join(map(str, HIDDEN)), "--method", method]
    command += [*METHODS[method], "--max-iterations", options.iterations, "--run", options.runs / method, "--resume"]
    if options.time_limit_s is not None:
        command += ["--time-limit-s", options.time_limit_s]
    print("$", *command, file=sys.stderr)
    subprocess.run([str(word) for word in command], check=True)


def adam(options: argparse.Namespace, rate: float) -> None:
    """Epochs of PyTorch's Adam from the same first parameters, with a checkpoint and a ledger line after each."""
    import torch

    run = options.runs / f"adam-{rate:g}"
    run.mkdir(parents=True, exist_ok=True)
    ledger, checkpoint = run / "ledger.jsonl", run / "state.pt"
    store = open_store(options.store)
    network = Network([store["train"].n_features, *HIDDEN, store["train"].n_outputs])
    model, theta = _module(torch, network)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    done = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        done = saved["epoch"]
    if done >= options.epochs:
        return
    started = time.monotonic()
    rows = [store["train"].load(j) for j in range(store["train"].n_partitions)]
    X, y = (torch.from_numpy(np.concatenate(held)) for held in zip(*rows, strict=True))
    del rows
    with SplitObjective(network, store["train"]) as train_set, SplitObjective(network, store["test"]) as test_set:
        for epoch in range(done + 1, options.epochs + 1):
            order = torch.randperm(len(X), generator=torch.Generator().manual_seed(epoch))
            for chosen in order.split(BATCH):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(X[chosen]), y[chosen].long()).backward()
                optimiser.step()
            _copy_parameters(network, model, theta)
            # Both kinds of run are judged by the same code.
            trained, tested = train_set.value_and_error(theta), test_set.value_and_error(theta)
            line = {"iteration": epoch, "epoch": 2 * epoch, "rounds": epoch * -(-len(X) // BATCH)}
            line |= dict(zip(("loss", "error", "test_loss", "test_error"), (*trained, *tested), strict=True))
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            with ledger.open("a") as file:
                file.write(json.dumps(line) + "\n")
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            print(f"adam {rate:g}", line, file=sys.stderr)
            if options.time_limit_s is not None and time.monotonic() - started > options.time_limit_s:
                return


def _module(torch, network):
    """The network as a PyTorch module with the first parameters that hfnumba gives it, and those as theta."""
    theta = network.initialize(seed=0)
    parts = []
    for layer in network.layers(theta):
        linear = torch.nn.Linear(*layer.weights.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.weights.T.copy()))
            linear.bias.copy_(torch.from_numpy(layer.biases))
        parts += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*parts[:-1]), theta


def _copy_parameters(network, model, theta) -> None:
    linears = [part for part in model if hasattr(part, "weight")]
    for layer, linear in zip(network.layers(theta), linears, strict=True):
        layer.weights[:] = linear.weight.detach().numpy().T
        layer.biases[:] = linear.bias.detach().numpy()


def row(run: Path, name: str) -> str:
    """The iteration of a run's ledger with the lowest held-out error as a row of the table."""
    lines = [json.loads(text) for text in (run / "ledger.jsonl").read_text().splitlines()]
    best = min(lines, key=lambda line: line["test_error"])
    figures = (
        f"{best['iteration']} of {lines[-1]['iteration']}",
        f"{100 * (1 - best['test_error']):.2f} %",
        f"{best['test_loss']:.3f}",
        f"{best['loss']:.3f}",
        f"{best['epoch']:.0f}",
        f"{best['rounds']:,}",
    )
    return f"| {name} | " + " | ".join(figures) + " |"


def table(options: argparse.Namespace) -> str:
    """All runs there are."""
    names = {options.runs / method: f"`{method}`" for method in METHODS}
    names |= {run: f"PyTorch Adam, rate {run.name[5:]}" for run in sorted(options.runs.glob("adam-*"))}
    return "\n".join((HEADER, *(row(run, name) for run, name in names.items() if (run / "ledger.jsonl").exists())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/speech"))
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3])
    parser.add_argument("--time-limit-s", type=float)
    parser.add_argument("--adam-only", action="store_true")
    parser.add_argument("--table-only", action="store_true")
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    options = parser.parse_args()
    if not options.table_only:
        for method in () if options.adam_only else METHODS:
            train(options, method)
        try:
            import torch  # noqa: F401
        except ImportError:
            print("PyTorch is not installed, so Adam is left out: pip install torch", file=sys.stderr)
        else:
            for rate in options.rates:
                adam(options, rate)
    held = table(options)
    print(held)
    if options.write is not None:
        insert(options.write, "speech", held)


if __name__ == "__main__":
    main()
