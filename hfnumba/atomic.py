"""Files on disk: written atomically, so that a crash leaves the old content or the new; read in bounded memory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from filelock import BaseFileLock

NOT_REGULAR = "a folder, pipe or device is in the place of the file"
_NO_FLOCK = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
RESUME = "run again with --resume"
"""Remedy in messages about a failed write within a run."""

TEMPORARY = ".tmp"
"""Suffix of a file that is still being written; a leftover one can be deleted."""


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk."""


def write_file(
    path: Path,
    payload: bytes | memoryview | Iterable[bytes],
    temporary: Path | None = None,
    *,
    durable: bool = True,
) -> None:
    """Write ``payload`` to ``path``: temporary file, fsync, rename, fsync of the folder.

    Parameters
    ----------
    path : Path
    payload : bytes or memoryview, or iterable of bytes
        Content, or its pieces; an error of the iterable leaves ``path`` unchanged.
    temporary : Path, optional
        Path of the temporary file, on the same file system and used by no other process; default beside the file.
    durable : bool
        Whether to sync; if false, the file may be empty or torn after a crash of the machine until :func:`sync`.

    Raises
    ------
    OSError
        Error of the operating system; ``path`` is then unchanged or complete.
    """
    # New and of a name that nobody can foresee: in a folder that others can write, it might be a link of theirs.
    temporary = temporary or path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            for piece in [payload] if isinstance(payload, bytes | memoryview) else payload:
                write_all(descriptor, piece)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)  # noqa: PTH105 - all operations are os functions, so that tests can fail each
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise
    if durable:
        sync_folder(path.parent)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read; anything else in its place is refused at once.

    A pipe would be waited for, and a device may never end.

    Raises
    ------
    OSError
        Error of the operating system, or one whose ``strerror`` is :data:`NOT_REGULAR`.
    """
    # Not to block: opening a pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return open(descriptor, "rb")  # noqa: PTH123 - a descriptor has no path


def read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file that has at most ``limit`` bytes; see :func:`open_regular`.

    Raises
    ------
    OSError
        Error of the operating system, or one whose ``strerror`` says that the file is not regular or too large.
    """
    with open_regular(path) as file:
        nbytes = os.fstat(file.fileno()).st_size
        if nbytes > limit:
            raise OSError(errno.EFBIG, f"it has {nbytes} bytes, expected at most {limit}", str(path))
        return file.read()


def file_lock(path: Path) -> tuple[BaseFileLock, bool]:
    """Make a lock of a file in an existing folder, and whether it is one of the file system (flock).

    Where the file system has none, the file itself is the lock: it has the process that made it, and stays if that is
    killed. filelock's own choice of it, made after the file exists, could let a second machine in.
    """
    from filelock import FileLock, SoftFileLock  # noqa: PLC0415 - not needed to read files

    with_flock = _has_flock(path.parent)
    return (FileLock(path) if with_flock else SoftFileLock(path)), with_flock


def _has_flock(folder: Path) -> bool:
    """Return whether files of a folder can be locked; some file systems of clusters cannot, or not as mounted."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _NO_FLOCK
    return True


def sync(path: Path) -> None:
    """Wait until the content of a file is on disk; its name is once its folder is synced."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, payload: bytes | memoryview) -> None:
    """Write all bytes; ``os.write`` may write fewer."""
    view = memoryview(payload)
    while view:
        view = view[os.write(descriptor, view) :]


def explain(error: OSError, path: Path, remedy: str = "try again") -> str:
    """Return the message about a failed write, with the remedy for a full disk."""
    if error.errno in FULL:
        return f"the disk is full: {path} could not be written; free some space, then {remedy}"
    return f"{path} could not be written ({error.strerror or error})"


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk, where the file system supports that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot sync a folder; the rename itself has succeeded.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
