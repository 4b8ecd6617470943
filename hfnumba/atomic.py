"""Files on disk: written atomically, so that a crash leaves the old content or the new; read in bounded memory."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

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


def read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file that has at most ``limit`` bytes.

    Anything else in its place is refused at once: a pipe would be waited for, and a device may never end.

    Raises
    ------
    OSError
        Error of the operating system, or one whose ``strerror`` says that the file is not regular or too large.
    """
    # Not to block: opening a pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, expected at most {limit}", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


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
    """Message about a failed write, with the remedy for a full disk."""
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
