"""Files that are either as they were or completely new, whenever the machine stops."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

RESUME = "run again with --resume"
"""What to do after a failed write within a run."""

TEMPORARY = ".tmp"
"""Suffix of a file that is still being written; one that is left over means nothing."""


FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that say that there is no space left."""


def write_file(path: Path, payload: bytes | memoryview, temporary: Path | None = None, *, durable: bool = True) -> None:
    """Write ``payload`` to ``path``: temporary file, fsync, rename, fsync of the folder.

    Parameters
    ----------
    path : Path
    payload : bytes or memoryview
    temporary : Path, optional
        On the same file system, and nobody else's; default: beside the file.
    durable : bool
        If false, nothing is synced: after a crash of the machine the file may be empty or torn until :func:`sync`.

    Raises
    ------
    OSError
        As the operating system raises it; ``path`` is then as it was before, or complete.
    """
    temporary = temporary or path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
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
    """Wait until the content of a file is on the disk; its name is there once its folder is synced."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, payload: bytes | memoryview) -> None:
    """Write all bytes; ``os.write`` may take fewer."""
    view = memoryview(payload)
    while view:
        view = view[os.write(descriptor, view) :]


def explain(error: OSError, path: Path, remedy: str = "try again") -> str:
    """One sentence about a failed write, with what to do once there is space."""
    if error.errno in FULL:
        return f"the disk is full: {path} could not be written; free some space, then {remedy}"
    return f"{path} could not be written ({error.strerror or error})"


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where its file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot sync a folder; the rename has happened all the same.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
