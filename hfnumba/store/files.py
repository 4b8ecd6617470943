"""Files of a store: written atomically, and verified by their digests when they are read."""

from __future__ import annotations

import stat
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Self

import blake3
import msgspec
import numpy as np

from hfnumba.atomic import NOT_REGULAR, TEMPORARY, explain, open_regular, sync, sync_folder, write_file
from hfnumba.errors import StoreError
from hfnumba.linux import empty
from hfnumba.progress import Advance

Data = bytes | memoryview
REMEDY = "run the same command again (it continues where it stopped)"
# Number of threads; a file system writes files to disk together whose syncs are pending at the same time.
_SYNCS = 8


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size and digest of a file.

    Attributes
    ----------
    nbytes : int
        Size of the file.
    blake3 : str
        BLAKE3 of its bytes, in hexadecimal like ``b3sum``; several times faster than SHA-256.
    """

    nbytes: int
    blake3: str


def record(data: Data) -> FileRecord:
    """Make the record of some bytes."""
    return FileRecord(len(data), blake3.blake3(data).hexdigest())


def fault(path: Path, expected: FileRecord) -> str | None:
    """Return the fault of a file as text, or None; reads the whole file."""
    found = _read(path, expected)
    return found if isinstance(found, str) else None


def read_verified(path: Path, expected: FileRecord) -> Data:
    """Read a file, and return its bytes if they fit the record.

    Raises
    ------
    StoreError
        If they do not; the message is only the fault, the caller adds the place.
    """
    found = _read(path, expected)
    if isinstance(found, str):
        raise StoreError(found)
    return found


def size_fault(path: Path, expected: FileRecord) -> str | None:
    """Return a fault that shows without reading the file, as text, or None."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return f"cannot be read ({NOT_REGULAR})"
    nbytes = status.st_size
    return None if nbytes == expected.nbytes else f"has {nbytes} bytes, expected {expected.nbytes}"


def write(path: Path, data: Data, scratch: Path, *, durable: bool) -> None:
    """Write a file atomically: it has either its old content or all of the new one.

    Parameters
    ----------
    path : Path
        Path of the file; missing folders are made.
    data : bytes or memoryview
        New content.
    scratch : Path
        Folder for the temporary file, on the same file system.
    durable : bool
        Whether to sync, so that this holds after a crash of the machine too; otherwise use :class:`Syncs`.

    Raises
    ------
    StoreError
        If it cannot be written; the message names the file and, for a full disk, the remedy.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data, scratch / f"{uuid.uuid4().hex}{TEMPORARY}", durable=durable)
    except OSError as error:
        raise StoreError(explain(error, path, REMEDY)) from error


class Syncs:
    """Syncs files to disk in threads, while other files are still being written.

    Syncs that are pending together take a fraction of the time of single ones, and the processor compresses meanwhile.

    Parameters
    ----------
    root : Path
        Folder above all files.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pool = ThreadPoolExecutor(_SYNCS, "hfnumba-sync")
        self._begun: dict[str, Future[None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, keys: Iterable[str]) -> None:
        """Begin to sync written files, given by their paths below the root."""
        self._begun |= {key: self._pool.submit(_synced, sync, self._root, key) for key in keys}

    def finish(self, advance: Advance) -> None:
        """Wait until all files and all folders from the root down to them are on disk.

        ``advance`` is called after each file.

        Raises
        ------
        StoreError
            If a file or folder cannot be synced.
        """
        for future in self._begun.values():
            future.result()
            advance(1)
        folders = {folder.as_posix() for key in self._begun for folder in PurePosixPath(key).parents}
        list(self._pool.map(partial(_synced, sync_folder, self._root), folders))


def _synced(operation: Callable[[Path], None], root: Path, key: str) -> None:
    try:
        operation(root / key)
    except OSError as error:
        raise StoreError(explain(error, root / key, REMEDY)) from error


def _read(path: Path, expected: FileRecord) -> Data | str:
    """Return the verified bytes, or the fault as a string."""
    # Before opening: opening a pipe would wait for a writer.
    found = size_fault(path, expected)
    if found is not None:
        return found
    try:
        with open_regular(path) as file:
            room = empty((expected.nbytes + 1,), np.uint8)
            data = memoryview(room)[: file.readinto(room)]  # type: ignore[attr-defined]
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if len(data) != expected.nbytes:
        return f"has {len(data)} bytes or more, expected {expected.nbytes}"
    digest = record(data).blake3
    return data if digest == expected.blake3 else f"has the digest {digest}, expected {expected.blake3}"
