"""`hfnumba train`."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hfnumba.cli.common import INTERRUPTED, RESUMABLE, AnyPath, Failure, json_option, print_json
from hfnumba.cli.settings import SettingsCommand, setting_options
from hfnumba.errors import UsageError, printable
from hfnumba.path_text import path_text
from hfnumba.run.settings import TrainSettings

if TYPE_CHECKING:
    from hfnumba.run import Outcome, RunDirectory


@click.command(cls=SettingsCommand, params=setting_options(), context_settings={"max_content_width": 120})
@click.argument("store", type=AnyPath)
@click.option("--run", type=AnyPath, help="Directory of the run.  [default: runs/STORE-METHOD-TIME]")
@click.option("--resume", is_flag=True, help="Continue the run in --run; only limits and placement may change.")
@click.option("--config", type=AnyPath, help="TOML file of settings; options of the command line take precedence.")
@click.option(
    "--trust-config",
    is_flag=True,
    help="Use the address of a cluster that only --config or the run to continue names; its processes can run code as "
    "you.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="With --cluster mpi or slurm: no encryption; anyone who can reach a port of a process can run code as you.",
)
@click.option("--tensorboard", is_flag=True, help="Write the numbers of each iteration also to RUN/tensorboard.")
@json_option
def train(
    *,
    store: Path,
    run: Path | None,
    resume: bool,
    config: Path | None,
    trust_config: bool,
    insecure: bool,
    tensorboard: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train a network on the split `train` of STORE.

    Each iteration leaves a checkpoint and a line in the ledger of the run. Ctrl-C, SIGTERM, SIGUSR1 and
    SIGHUP (unless nohup ignores it) stop after the current iteration with exit status 75; the same command with
    --run and --resume then continues, with the same bits as if it had never stopped.
    """
    from hfnumba.launch.job import without_encryption
    from hfnumba.run.config import read_config, refuse_address

    if insecure:
        without_encryption()
        click.echo("--insecure: the cluster is open; anyone who can reach its ports can run code as you", err=True)
    if resume and run is None:
        raise UsageError("--resume needs the directory of the run to continue; give it with --run")
    given = read_config(config) if config is not None else {}
    words = {name: value for name, value in flags.items() if value is not None}
    if config is not None and "cluster" not in words and not trust_config:
        refuse_address(given, config)
    given |= words
    path = run if run is not None else default_run(store, str(given.get("method", TrainSettings(hidden=()).method)))
    how: Any = {"resume": resume, "trust_config": trust_config, "tensorboard": tensorboard, "as_json": as_json}
    run_and_report(store, path, given, **how)


def default_run(store: Path, method: str) -> Path:
    """Return a directory that does not exist yet, named after store, method and time."""
    name = f"{store.resolve().stem}-{method}-{datetime.now():%Y%m%d-%H%M%S}"
    path = Path("runs") / name
    number = 2
    while path.exists():
        path, number = path.with_name(f"{name}-{number}"), number + 1
    return path


def run_and_report(
    store: Path,
    path: Path,
    given: dict[str, Any],
    *,
    resume: bool = False,
    trust_config: bool = False,
    tensorboard: bool = False,
    as_json: bool = False,
) -> Outcome:
    """Train, show progress, and print the next commands; exit with status 75 if a signal stopped the run.

    With ``as_json`` the run, the reason of its end, and its first and last line of the ledger go to stdout.
    """
    from hfnumba.cli.tables import best_by_validation, print_summary
    from hfnumba.cli.tensorboard import run_reporter
    from hfnumba.run import RunDirectory
    from hfnumba.run import train as train_run
    from hfnumba.run.ending import Ending

    directory = RunDirectory(path)
    try:
        with run_reporter(path, tensorboard) as reporter:
            outcome = train_run(store, directory, given, reporter, resume=resume, trust_config=trust_config)
    except KeyboardInterrupt:
        raise Failure(f"interrupted; {_how_to_resume(directory)}", INTERRUPTED) from None
    print_summary(outcome.lines)
    if as_json:
        print_json(_as_dict(path, outcome))
    if outcome.ending is Ending.SIGNAL:
        click.echo(f"Stopped; {_how_to_resume(directory)}", err=True)
        sys.exit(RESUMABLE)
    why = outcome.ending.value
    if outcome.ending is Ending.OPTIMIZER and outcome.lines:
        why = outcome.lines[-1]["note"] or why
    click.echo(f"Finished: {why}.", err=True)
    if (best := best_by_validation(outcome.lines)) is not None:
        click.echo(f"Predictions use iteration {best['iteration']}, which has the lowest validation loss.", err=True)
    _print_next(path, store)
    return outcome


def _print_next(path: Path, store: Path) -> None:
    run, data = shlex.quote(os.fspath(path)), shlex.quote(os.fspath(store))
    click.echo(f"The run is in {printable(os.fspath(path))}. Next:", err=True)
    for command in (f"hfnumba plot {run}", f"hfnumba evaluate {run} {data}"):
        click.echo(f"  {command}", err=True)


def _as_dict(path: Path, outcome: Outcome) -> dict[str, Any]:
    return {
        "run": path_text(path),
        "ending": outcome.ending.value,
        "resumable": outcome.ending.name == "SIGNAL",
        "start": outcome.lines[0] if outcome.lines else None,
        "end": outcome.lines[-1] if outcome.lines else None,
    }


def _how_to_resume(directory: RunDirectory) -> str:
    from hfnumba.checkpoint import iterations

    if not directory.config.exists():
        return "nothing was written yet, so start again"
    done = iterations(directory.checkpoints)
    since = f"after iteration {done[-1]}" if done else "from the start"
    return f"to continue {since}, give the same command with --run {shlex.quote(str(directory.path))} --resume"
