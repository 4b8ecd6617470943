"""Commands started in several ranks: one rank runs the command, and all end with its exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, NoReturn

from hfnumba.cli.common import FAILED, WRONG_USE, Failure
from hfnumba.errors import HfnumbaError, UsageError

if TYPE_CHECKING:
    from hfnumba.launch.job import Kind
    from hfnumba.launch.ranks import Ranks

_FOR_CLUSTERS = {
    "train": "train",
    "predict": "predict",
    "spectrum": "compute the spectrum",
    "figure": "make the figure",
}
"""Commands that take a cluster and compute for long, and what they do."""


def launcher(words: Sequence[str]) -> Kind | None:
    """Kind of cluster that the ranks shall form; found before parsing, because only one rank parses."""
    from hfnumba.launch.job import KINDS

    found = None
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if name == "--cluster":
            found = value if equals else following
    return next((kind for kind in KINDS if kind == found), None)


def refuse_many(words: Sequence[str]) -> None:
    """Refuse a command that each rank of ``mpirun`` would run separately, with one message for all."""
    from hfnumba.launch.mpi import announced

    rank, size = announced()
    if size == 1 or not set(words[:1]) & _FOR_CLUSTERS.keys():
        return
    _refuse(
        UsageError(
            f"mpirun started {size} processes, each of which would {_FOR_CLUSTERS[words[0]]} separately; "
            "add --cluster mpi to the command line (it has no effect in a settings file)"
        ),
        rank,
    )


def run(kind: Kind, command: Callable[[], object]) -> NoReturn:
    """Run a command in the client, and serve in every other rank; exit with the status of the command."""
    from hfnumba.launch.job import announced_rank, join

    try:
        ranks, cluster = join(kind)
    except HfnumbaError as error:
        _refuse(error, announced_rank(kind))
    if cluster is None:
        _serve(ranks)
    status = FAILED
    try:
        command()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else FAILED if end.code else 0
    finally:
        cluster.end(status)
    sys.exit(status)


def _serve(ranks: Ranks) -> NoReturn:
    from hfnumba.launch.job import serve

    try:
        status = serve(ranks)
    except Exception as error:
        # Printed here, because the client may never receive it.
        Failure(f"rank {ranks.rank}: {type(error).__name__}: {' '.join(str(error).split())}", FAILED).show()
        ranks.abort(FAILED)
    sys.exit(status)


def _refuse(error: HfnumbaError, rank: int) -> NoReturn:
    """Print the error in rank 0 only; all ranks call this. The launcher takes the exit status of rank 0.

    The others exit with 0, because Open MPI kills all ranks when the first one exits with another status.
    """
    if rank != 0:
        sys.exit(0)
    Failure(str(error), FAILED).show()
    sys.exit(WRONG_USE if isinstance(error, UsageError) else FAILED)
