"""A command that several ranks run: one of them runs it, and all end with its exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, NoReturn

from hfnumba.cli import FAILED, WRONG_USE, Failure
from hfnumba.errors import HfnumbaError, UsageError

if TYPE_CHECKING:
    from hfnumba.launch.job import Kind
    from hfnumba.launch.ranks import Ranks


def launcher(words: Sequence[str]) -> Kind | None:
    """Tell whether a command line wants its ranks to form a cluster; before it is parsed, which only one rank does."""
    from hfnumba.launch.job import KINDS

    found = None
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if name == "--cluster":
            found = value if equals else following
    return next((kind for kind in KINDS if kind == found), None)


def refuse_many(words: Sequence[str]) -> None:
    """Refuse to train in each of the ranks of ``mpirun`` by itself, with one message for all."""
    from hfnumba.launch.mpi import announced

    rank, size = announced()
    if size == 1 or words[:1] != ["train"]:
        return
    _refuse(
        UsageError(
            f"mpirun started {size} processes, each of which would train by itself; "
            "add --cluster mpi to the command line (a settings file cannot say it)"
        ),
        rank,
    )


def run(kind: Kind, command: Callable[[], object]) -> NoReturn:
    """Run a command in the client, and be of service in every other rank; exit with the command's status."""
    from hfnumba.launch.job import announced_rank, join

    try:
        ranks, job = join(kind)
    except HfnumbaError as error:
        _refuse(error, announced_rank(kind))
    if job is None:
        _serve(ranks)
    status = FAILED
    try:
        command()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else FAILED if end.code else 0
    finally:
        job.end(status)
    sys.exit(status)


def _serve(ranks: Ranks) -> NoReturn:
    from hfnumba.launch.job import serve

    try:
        status = serve(ranks)
    except Exception as error:
        # Said here, since the client may never hear of it.
        Failure(f"rank {ranks.rank}: {type(error).__name__}: {' '.join(str(error).split())}", FAILED).show()
        ranks.abort(FAILED)
    sys.exit(status)


def _refuse(error: HfnumbaError, rank: int) -> NoReturn:
    """Say it in one of the ranks, which all come here; that one's exit status becomes that of the launcher.

    The others exit with 0, because Open MPI kills all when the first exits with another status.
    """
    if rank != 0:
        sys.exit(0)
    Failure(str(error), FAILED).show()
    sys.exit(WRONG_USE if isinstance(error, UsageError) else FAILED)
