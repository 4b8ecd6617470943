"""Ranks started by ``srun``, without MPI: they exchange messages in a directory that all nodes share."""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from hfnumba.errors import ClusterError, HfnumbaError, UsageError
from hfnumba.launch.ranks import CLIENT, CLOSE_PATIENCE_S, PATIENCE_S, SCHEDULER, Ranks, refuse_few, wait_until

_VARIABLES = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS")
_MESSAGE = "message"
_log = logging.getLogger(__name__)
# Seldom, since the directory may be on a file server.
_END_POLL_S = 5.0


class SlurmRanks(Ranks):
    """Ranks that exchange messages by small files in a directory that only their owner can enter.

    Parameters
    ----------
    rank, size, n_here : int
    directory : path
        Directory of the messages; rank 0 makes it, and removes it in :meth:`close`.
    """

    def __init__(self, rank: int, size: int, n_here: int, directory: Path) -> None:
        super().__init__(rank, size, n_here)
        self._directory, self._number = directory, 0
        if rank == 0:
            try:
                directory.mkdir(mode=0o700)
            except FileExistsError:
                raise ClusterError(f"{directory} is left from another start of this step; remove it") from None
            except OSError as error:
                raise ClusterError(
                    f"{directory} cannot be made ({error.strerror}); start in a directory that all nodes can write"
                ) from error

    def bcast(self, message: Any, root: int = 0, patience_s: float = PATIENCE_S) -> Any:
        """Write the message, or wait for it."""
        path = self._next(_MESSAGE)
        if self.rank == root:
            # Rank 0 may make the directory some time after this process has started.
            wait_until(self._check, patience_s, f"the directory {self._directory} of rank 0")
            self._write(path, message)
            return message
        wait_until(lambda: self._present(path), patience_s, f"a message from rank {root}")
        return self._read(path)

    def Barrier(self) -> None:
        """Write to rank 0, which removes the messages, such as keys, as soon as all have written."""
        path = self._next("barrier")
        if self.rank == 0:
            messages = [self._directory / name for name in self._names() if name.endswith(_MESSAGE)]
            threading.Thread(target=self._remove, args=[messages, path], name="remove-messages", daemon=True).start()
        else:
            self._arrive(path)

    def _remove(self, messages: Iterable[Path], path: Path) -> None:
        """Remove messages when all other ranks have written a file; what is left is removed by :meth:`close`."""
        with suppress(HfnumbaError, OSError):
            self._wait_for_others(path, PATIENCE_S)
            for message in messages:
                message.unlink()

    def abort(self, status: int) -> NoReturn:
        """Notify waiting ranks, and exit. Others end with the scheduler, or because srun kills the step."""
        with suppress(OSError):
            self._write(self._aborted, self.rank)
        os._exit(status)

    def close(self, status: int) -> None:
        """Remove the directory when no rank needs it any more; wake ranks that are frozen, or kill the step."""
        path = self._next("close")
        if self.rank != 0:
            self._arrive(path)
            return
        for name in ("CONT", "KILL"):
            try:
                self._wait_for_others(path, CLOSE_PATIENCE_S)
                break
            except ClusterError:
                late = ", ".join(f"rank {one.rpartition('-')[2]}" for one in sorted(self._others(path) - self._names()))
                _log.warning(
                    "ranks do not end (%s); the step gets SIG%s; the status of the run is %d", late, name, status
                )
                self._write(self._ended, [path.name, status])
                self._signal(name)
        shutil.rmtree(self._directory, ignore_errors=True)

    def end_when_closed(self) -> None:
        """Let this rank end soon after rank 0 has waited for it in :meth:`close`.

        One that was frozen and wakes would first try for minutes to reach a scheduler that is gone.
        """

        def poll() -> None:
            while not self._ended.exists():
                time.sleep(_END_POLL_S)
            with suppress(OSError, ValueError):
                name, status = json.loads(self._ended.read_text("utf-8"))
                self._arrive(self._directory / name)
                os._exit(status)

        threading.Thread(target=poll, name="end-when-closed", daemon=True).start()

    @property
    def _ended(self) -> Path:
        return self._directory / "ended"

    @property
    def _aborted(self) -> Path:
        return self._directory / "aborted"

    def _next(self, kind: str) -> Path:
        self._number += 1
        return self._directory / f"{self._number:03d}-{kind}"

    def _arrive(self, path: Path) -> None:
        self._write(path.with_name(f"{path.name}-{self.rank}"), None)

    def _wait_for_others(self, path: Path, patience_s: float) -> None:
        others = self._others(path)
        wait_until(lambda: self._check() and others <= self._names(), patience_s, "all ranks")

    def _others(self, path: Path) -> set[str]:
        return {f"{path.name}-{rank}" for rank in range(1, self.size)}

    @staticmethod
    def _signal(name: str) -> None:
        """Have Slurm send a signal to all ranks, on whichever machine they are."""
        step = ".".join(os.environ[variable] for variable in _VARIABLES[:2])
        try:
            subprocess.run(["scancel", f"--signal={name}", step], check=True, timeout=CLOSE_PATIENCE_S)
        except (OSError, subprocess.SubprocessError) as error:
            _log.error("scancel --signal=%s %s does not work (%s); give it by hand", name, step, error)

    def _names(self) -> set[str]:
        return {path.name for path in self._directory.iterdir()}

    def _present(self, path: Path) -> bool:
        return self._check() and path.exists()

    def _check(self) -> bool:
        """Whether the directory exists; raise if other users can write to it or a rank has failed."""
        try:
            found = self._directory.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077:
            raise ClusterError(f"{self._directory} is open to other users; remove it, and start in another directory")
        if self._aborted.exists():
            raise ClusterError(f"rank {self._aborted.read_text('utf-8')} has failed; see what it printed")
        return True

    @staticmethod
    def _read(path: Path) -> Any:
        """Read a message, unless another user has put it in the place of ours since the directory was checked."""
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                raise ClusterError(f"{path} belongs to another user; start in a directory where others cannot write")
            return json.load(file)

    @staticmethod
    def _write(path: Path, message: Any) -> None:
        """Write atomically, by renaming."""
        draft = path.with_name(f"{path.name}.draft-{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(message, file)
        draft.rename(path)


def slurm_ranks() -> SlurmRanks:
    """Join the ranks of ``srun``, which must start in a directory that all nodes share.

    Raises
    ------
    UsageError
        If ``srun`` did not start this process or started too few.
    ClusterError
        If the directory cannot be made.
    """
    job, step, rank, size = (os.environ.get(name, "") for name in _VARIABLES)
    if not (job and step and rank.isdecimal() and size.isdecimal()):
        missing = [name for name in _VARIABLES if not os.environ.get(name)]
        raise UsageError(
            f"--cluster slurm needs srun, which sets {', '.join(_VARIABLES)} ({', '.join(missing)} missing); "
            "use srun -n 4 hfnumba train … --cluster slurm within a job"
        )
    refuse_few(int(size), "slurm", "srun")
    # A requeued job has the same number as before.
    name = f".hfnumba-slurm-{job}.{step}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    ranks = SlurmRanks(int(rank), int(size), _n_here(int(size)), Path.cwd() / name)
    if ranks.rank not in (SCHEDULER, CLIENT):
        ranks.end_when_closed()
    return ranks


def _n_here(size: int) -> int:
    """Return the number of ranks on this machine; where srun does not list them, as if all machines had as many."""
    listed = os.environ.get("SLURM_GTIDS")
    if listed:
        return len(listed.split(","))
    nodes = os.environ.get("SLURM_STEP_NUM_NODES") or os.environ.get("SLURM_NNODES", "")
    return -(-size // int(nodes)) if nodes.isdecimal() and int(nodes) > 0 else 1
