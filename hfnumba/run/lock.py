"""Lock of a run directory against other processes that would train in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hfnumba.atomic import explain, file_lock, read_regular
from hfnumba.errors import CheckpointError

LOCK = ".lock"
"""Name of the lock file."""

_MAX_BYTES = 4096


class DirectoryLock:
    """Lock of the directory of a run.

    Parameters
    ----------
    folder : Path
        Directory of the run, which is created when the lock is acquired.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / LOCK
        self._lock: Any = None
        self._identity: tuple[int, int] | None = None

    def acquire(self) -> None:
        """Create the directory and lock it, also if another file has taken the place of the lock file meanwhile.

        Raises
        ------
        CheckpointError
            If another process trains there, or the lock file cannot be written or locked.
        """
        from filelock import Timeout  # noqa: PLC0415 - not needed to read a run

        self.release()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock, with_flock = file_lock(self._file)
            lock.acquire(timeout=0)
        except Timeout:
            raise CheckpointError(self._who_trains(with_flock)) from None
        except OSError as error:
            raise CheckpointError(explain(error, self._file)) from error
        self._lock, self._identity = lock, self._found()

    def holds(self) -> bool:
        """Return whether the lock file is still the one that was locked."""
        return self._identity is not None and self._identity == self._found()

    def release(self) -> None:
        """Release the lock, if it was acquired."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def remove(self) -> None:
        """Delete the lock file and the directory, if nothing else is in it."""
        with suppress(OSError):
            if self.holds() and all(entry.name == LOCK for entry in self._folder.iterdir()):
                self._file.unlink()
                self._folder.rmdir()

    def _found(self) -> tuple[int, int] | None:
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _who_trains(self, with_flock: bool) -> str:
        text = f"another process is training in {self._folder}"
        if with_flock:
            return f"{text}; wait for it, or give --run another directory"
        return (
            f"{text}, or was killed there: the file system has no locks (flock), so the file {self._file} is the lock"
            f"{self._owner()}; if that process has ended, delete this file and give the same command again"
        )

    def _owner(self) -> str:
        """Name the process that made the lock file, as far as the file does."""
        try:
            pid, host, *_ = read_regular(self._file, _MAX_BYTES).decode("ascii").split()
        except (OSError, ValueError):
            return ""
        return f" of process {pid} on {host}" if pid.isdecimal() and host.isprintable() else ""


@contextmanager
def locked(folder: Path) -> Iterator[DirectoryLock]:
    """Create the directory of a run, and lock it.

    A directory that was created here is removed again if it stays empty.

    Raises
    ------
    CheckpointError
        See :meth:`DirectoryLock.acquire`.
    """
    existed = folder.exists()
    lock = DirectoryLock(folder)
    lock.acquire()
    try:
        yield lock
    finally:
        if not existed:
            lock.remove()
        lock.release()
