"""Atomic writing of files: after a crash a file has its old content or all of the new one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

RESUME = "run again with --resume"
"""Remedy in messages about a failed write within a run."""

TEMPORARY = ".tmp"
"""Suffix of a file that is still being written; a leftover one can be deleted."""


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk."""


def write_file(path: Path, payload: bytes | memoryview, temporary: Path | None = None, *, durable: bool = True) -> None:
    """Write ``payload`` to ``path``: temporary file, fsync, rename, fsync of the folder.

    Parameters
    ----------
    path : Path
    payload : bytes or memoryview
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
            write_all(descriptor, payload)
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
