"""`hfnumba train`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hfnumba.cli import INTERRUPTED, RESUMABLE, Failure
from hfnumba.errors import UsageError

if TYPE_CHECKING:
    from hfnumba.run import Outcome, RunDirectory

AnyPath = click.Path(path_type=Path)


class Widths(click.ParamType[tuple[int, ...]]):
    """Whole numbers separated by commas."""

    name = "N,N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse ``400,150``; nothing at all means no hidden layer."""
        if not isinstance(value, str):
            return value
        try:
            return tuple(int(part) for part in value.split(",")) if value.strip() else ()
        except ValueError:
            self.fail(f"expected whole numbers separated by commas, such as 400,150, got {value!r}", param, ctx)


class ClassWeights(click.ParamType[Any]):
    """``balanced``, numbers separated by commas, or a file of numbers."""

    name = "balanced|W,W,…|FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse ``1,2.5``; anything that is no list of numbers is the path of a file with one number a class."""
        if not isinstance(value, str) or value == "balanced":
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            path = Path(value)
        try:
            return tuple(float(word) for word in path.read_text("utf-8").split())
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self.fail(
                f"expected balanced, numbers separated by commas, or a file of numbers, got {value!r} ({why})",
                param,
                ctx,
            )


def _setting(flag: str, kind: Any, text: str, metavar: str | None = None) -> Callable[[Any], Any]:
    """Declare a flag of a setting; None means it was not given, so that a settings file can say it."""
    return click.option(flag, type=kind, default=None, help=text, metavar=metavar)


_SETTINGS = (
    _setting("--hidden", Widths(), "Widths of the hidden layers, such as 400,150. Needed for a new run."),
    _setting("--activation", str, "tanh, sigmoid, relu, softplus or identity.  [default: tanh]"),
    _setting("--init", str, "glorot, he, sparse or tiny.  [default: glorot]"),
    _setting(
        "--loss",
        str,
        "softmax_cross_entropy, sigmoid_cross_entropy or squared_error.  [default: by the store's task]",
    ),
    _setting(
        "--method",
        str,
        "hf-bicgstab, hf-cg, gn-cg, hybrid-cg, hf-minres, hf-steihaug, hf-lanczos, lbfgs, sgd, momentum, asgd, mvasgd "
        "or adam.  [default: hf-bicgstab]",
    ),
    _setting("--curvature-rows", int, "Rows in total that curvature is sampled on.  [default: 4096]"),
    _setting("--damping", float, "First damping of a Hessian-free method.  [default: 0.1]"),
    _setting("--radius", float, "First trust radius of hf-steihaug.  [default: 1]"),
    _setting("--krylov-iterations", int, "Solver iterations in each step.  [default: about 10 products]"),
    _setting("--warm-start", float, "Decay of the warm start; 0 for none.  [default: 0.95]"),
    _setting("--keep", float, "Iterates 1, KEEP, KEEP², … of a solve compete.  [default: 1.3]", "KEEP"),
    _setting("--preconditioner", str, "none, or fisher: Martens' diagonal one, of a CG-like method.  [default: none]"),
    _setting("--candidates", str, "Which iterates of a solve compete: kept or last.  [default: kept]"),
    _setting("--line-search", str, "lowest or backtracking.  [default: lowest]"),
    _setting("--line-rows", int, "Rows in total that step lengths are priced on.  [default: all]"),
    click.option("--paper", is_flag=True, default=None, help="Take what is not given as the paper has it."),
    _setting("--learning-rate", float, "Of a stochastic method.  [default: 0.1; momentum 0.03, adam 0.001]"),
    _setting("--batch-rows", int, "Rows of a minibatch of a stochastic method, over all partitions.  [default: 64]"),
    _setting("--momentum", float, "Of a stochastic method.  [default: 0; momentum and adam 0.9]"),
    _setting("--history", int, "Steps that lbfgs remembers.  [default: 10]"),
    _setting("--l2", float, "Penalty l2/2 · ‖weights‖².  [default: 0]"),
    _setting(
        "--class-weights",
        ClassWeights(),
        "What each class weighs in the loss: balanced (by the rows it has), or a number for each.  [default: none]",
    ),
    _setting("--seed", int, "Of the first parameters and of all samples.  [default: 0]"),
    _setting("--max-iterations", int, "Outer iterations (epochs of a stochastic method) in total.  [default: 30]"),
    _setting("--target-error", float, "Stop once the training error is at most this share."),
    _setting("--time-limit-s", float, "Stop after the iteration in which this time has passed.", "SECONDS"),
    _setting(
        "--cluster",
        str,
        "none, local, local:N, tcp://HOST:PORT, tls://HOST:PORT, mpi (of mpirun) or slurm (of srun).  [default: none]",
        "WHERE",
    ),
    _setting("--threads", int, "Threads of this process (default: one per processor), or per worker (1)."),
    _setting(
        "--worker-timeout-s",
        float,
        "A worker that is silent for so long during a round is replaced, and others redo its share.  [default: 60]",
        "SECONDS",
    ),
    _setting("--fan-in", int, "Workers that the client, and each that passes rounds on, talk to.  [default: 8]"),
    _setting("--memory", str, "Of each worker, for rows and primal passes: 2GiB.  [default: 60 % of it]", "SIZE"),
)


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


@click.command()
@click.argument("store", type=AnyPath)
@_with_settings
@click.option("--run", type=AnyPath, help="Directory of the run.  [default: runs/STORE-METHOD-TIME]")
@click.option("--resume", is_flag=True, help="Continue the run in --run; only limits and placement may change.")
@click.option("--config", type=AnyPath, help="Settings in TOML; flags go before it.")
@click.option(
    "--insecure",
    is_flag=True,
    help="With --cluster mpi or slurm: no encryption; whoever reaches the ports of a process can run code as you.",
)
def train(store: Path, run: Path | None, resume: bool, config: Path | None, insecure: bool, **flags: Any) -> None:
    """Train a network on the split `train` of STORE.

    Each iteration leaves a checkpoint and a line in the ledger of the run. Ctrl-C, SIGTERM and SIGUSR1 stop
    after the current iteration with exit status 75; the same command with --run and --resume then continues,
    with the same bits as if it had never stopped.
    """
    from hfnumba.launch.job import without_encryption
    from hfnumba.run.settings import read_config

    if insecure:
        without_encryption()
        click.echo("--insecure: the cluster is open; whoever reaches its ports can run code as you", err=True)
    if resume and run is None:
        raise UsageError("--resume needs to know which run to continue; name its directory with --run")
    given = read_config(config) if config is not None else {}
    given |= {name: value for name, value in flags.items() if value is not None}
    path = run if run is not None else default_run(store, str(given.get("method", "hf-bicgstab")))
    run_and_report(store, path, given, resume)


def default_run(store: Path, method: str) -> Path:
    """Return a directory that does not exist yet, named after store, method and time."""
    name = f"{store.resolve().stem}-{method}-{datetime.now():%Y%m%d-%H%M%S}"
    path = Path("runs") / name
    number = 2
    while path.exists():
        path, number = path.with_name(f"{name}-{number}"), number + 1
    return path


def run_and_report(store: Path, path: Path, given: dict[str, Any], resume: bool = False) -> Outcome:
    """Train, show progress, and say what to do next; exit with status 75 if a signal stopped the run."""
    from hfnumba.cli.progress import stderr_reporter
    from hfnumba.cli.tables import print_summary
    from hfnumba.run import RunDirectory
    from hfnumba.run import train as train_run
    from hfnumba.run.training import Ending

    directory = RunDirectory(path)
    try:
        with stderr_reporter() as reporter:
            outcome = train_run(store, directory, given, reporter, resume=resume)
    except KeyboardInterrupt:
        raise Failure(f"interrupted; {_how_to_resume(directory)}", INTERRUPTED) from None
    print_summary(outcome.lines)
    if outcome.ending is Ending.SIGNAL:
        click.echo(f"Stopped; {_how_to_resume(directory)}", err=True)
        sys.exit(RESUMABLE)
    why = outcome.ending.value
    if outcome.ending is Ending.OPTIMIZER and outcome.lines:
        why = outcome.lines[-1]["note"] or why
    click.echo(f"Finished: {why}.", err=True)
    run, data = shlex.quote(os.fspath(path)), shlex.quote(os.fspath(store))
    click.echo(f"The run is in {path}. Next: hfnumba plot {run}; hfnumba evaluate {run} {data}", err=True)
    return outcome


def _how_to_resume(directory: RunDirectory) -> str:
    from hfnumba.checkpoint import iterations

    if not directory.config.exists():
        return "nothing was written yet, so start again"
    done = iterations(directory.checkpoints)
    since = f"after iteration {done[-1]}" if done else "from the start"
    return f"to continue {since}, give the same command with --run {shlex.quote(str(directory.path))} --resume"
