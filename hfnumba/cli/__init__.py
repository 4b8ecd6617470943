"""Command line; each command is a module of its own, which is imported when the command is used."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import click

from hfnumba.cli.common import FAILED, INTERRUPTED, WRONG_USE, Failure, verbose_option
from hfnumba.cli.streams import protect_streams
from hfnumba.errors import HfnumbaError, UsageError, sentence
from hfnumba.stop import block_signals, end_as_by_ctrl_c


class _Entry(NamedTuple):
    """Module and name of a command, and its line in the list of commands."""

    module: str
    name: str
    summary: str


_COMMANDS = {
    "demo": _Entry("hfnumba.cli.demo", "demo", "Train on the digits that come with scikit-learn; start here."),
    "data": _Entry("hfnumba.cli.data", "data", "Build, describe and verify stores."),
    "train": _Entry("hfnumba.cli.train", "train", "Train a network on a store, or continue a run."),
    "evaluate": _Entry("hfnumba.cli.evaluate", "evaluate", "Measure loss and error of a run on a split."),
    "predict": _Entry("hfnumba.cli.predict", "predict", "Predict the rows of a file or a store with a run."),
    "spectrum": _Entry(
        "hfnumba.cli.spectrum", "spectrum", "Estimate eigenvalues of a run's Hessian or Gauss–Newton matrix."
    ),
    "export": _Entry("hfnumba.cli.export", "export", "Export a run's network for other libraries."),
    "plot": _Entry("hfnumba.cli.plot", "plot", "Plot loss and error of runs."),
    "runs": _Entry("hfnumba.cli.runs", "runs", "List the runs in a directory."),
    "watch": _Entry("hfnumba.cli.watch", "watch", "Watch a run while another process trains it."),
    "report": _Entry("hfnumba.cli.report", "report", "Write a report on a run as an HTML page."),
    "explain": _Entry("hfnumba.cli.explain", "explain", "Explain what went well or badly in a run."),
    "figure": _Entry("hfnumba.cli.figure", "figure", "Make a figure of the paper from your own runs."),
    "check": _Entry("hfnumba.cli.check", "check", "Check kernels, threads, derivatives, disk, a store, a cluster."),
    "cluster-scripts": _Entry(
        "hfnumba.cli.cluster_scripts", "cluster_scripts", "Write launch scripts for MPI, Slurm, PBS and Kubernetes."
    ),
    "bench": _Entry("hfnumba.cli.bench", "bench", "Measure speed against this machine's limits and other libraries."),
}


class Commands(click.Group):
    """Group of commands that are imported on use; their errors become one line and an exit status."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        """Run the command line; with ``--cluster mpi`` or ``slurm``, in one of the processes of the job."""
        from hfnumba.cli.ranks import launcher, refuse_many, run

        if args is None:
            protect_streams()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # Paths that are not UTF-8 are printed as they are.
                stream.reconfigure(errors="surrogateescape")
        words = list(sys.argv[1:] if args is None else args)
        if args is None and words[:1] == ["train"]:
            block_signals()
        if args is None and words[:1] != ["train"]:
            end_as_by_ctrl_c()
        kind = launcher(words)
        if kind is not None:
            run(kind, lambda: super(Commands, self).main(args, *more, **extra))
        refuse_many(words)
        return super().main(args, *more, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        entry = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(entry.module), entry.name)
        for one in command.commands.values() if isinstance(command, click.Group) else (command,):
            if not any(parameter.name == "verbose" for parameter in one.params):
                one.params.append(verbose_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; an unknown one is refused with the nearest names."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=_COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt:
            raise Failure("interrupted", INTERRUPTED) from None
        except HfnumbaError as error:
            if _debugging():
                raise
            raise Failure(str(error), WRONG_USE if isinstance(error, UsageError) else FAILED) from error
        except Exception as error:
            # click handles a closed pipe quietly.
            if _debugging() or (isinstance(error, OSError) and error.errno == errno.EPIPE):
                raise
            raise Failure(_unexpected(error), FAILED) from error


def _debugging() -> bool:
    return os.environ.get("HFNUMBA_DEBUG", "") not in ("", "0")


def _unexpected(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename or 'unknown file'}); free some space and try again"
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({error}); use more worker processes on more machines, or fewer rows"
    return f"{type(error).__name__}: {sentence(error)} (set HFNUMBA_DEBUG=1 for the traceback)"


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hfnumba", message="%(prog)s %(version)s")
def main() -> None:
    """Distributed Hessian-free optimization for fully connected neural networks.

    Exit status: 0 done, 1 failed, 2 wrong use, 75 stopped at a checkpoint (continue with --resume).
    """
