"""Bytes of a store to and from disk: written whole or not at all, and read back only with the digest they had then."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Self

import blake3
import msgspec
import numpy as np

from hfnumba.atomic import TEMPORARY, explain, sync, sync_folder, write_file
from hfnumba.errors import StoreError
from hfnumba.linux import empty
from hfnumba.progress import Step

Data = bytes | memoryview
REMEDY = "run the same command again (it continues where it stopped)"
# A file system takes the syncs that wait together to the disk in one go.
_SYNCS = 8


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size and BLAKE3 (hexadecimal) of a file's bytes: what ``b3sum`` prints, at a multiple of the speed of SHA-256."""

    nbytes: int
    blake3: str


def record(data: Data) -> FileRecord:
    """Record some bytes."""
    return FileRecord(len(data), blake3.blake3(data).hexdigest())


def fault(path: Path, expected: FileRecord) -> str | None:
    """Say what is wrong with a file, or None. Reads the whole file."""
    found = _read(path, expected)
    return found if isinstance(found, str) else None


def read_verified(path: Path, expected: FileRecord) -> Data:
    """Read a file once, and return its bytes if they are the right ones.

    Raises
    ------
    StoreError
        If they are not those of the record; the message is the fault alone, the caller adds the place.
    """
    found = _read(path, expected)
    if isinstance(found, str):
        raise StoreError(found)
    return found


def size_fault(path: Path, expected: FileRecord) -> str | None:
    """Say what can be seen to be wrong with a file without reading it, or None."""
    try:
        nbytes = path.stat().st_size
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if nbytes == expected.nbytes else f"has {nbytes} bytes, expected {expected.nbytes}"


def write(path: Path, data: Data, scratch: Path, *, durable: bool) -> None:
    """Write a file so that it has either its old content or all of the new one.

    Parameters
    ----------
    path : Path
        The file; folders above it are made.
    data : bytes or memoryview
        Its new content.
    scratch : Path
        A folder on the same file system for the temporary file.
    durable : bool
        Whether that holds after a crash of the machine too. Else only after :class:`Syncs`.

    Raises
    ------
    StoreError
        If it cannot be written, naming the file and, for a full disk, what to do.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data, scratch / f"{uuid.uuid4().hex}{TEMPORARY}", durable=durable)
    except OSError as error:
        raise StoreError(explain(error, path, REMEDY)) from error


class Syncs:
    """Brings files to the disk, in threads, while others are still written.

    Syncs that wait together take a fraction of the time that each takes by itself; and the processor packs meanwhile.

    Parameters
    ----------
    root : Path
        The folder that all files are below.
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
        """Begin to sync files, given by their paths below the root, which are written."""
        self._begun |= {key: self._pool.submit(_synced, sync, self._root, key) for key in keys}

    def finish(self, step: Step) -> None:
        """Wait until all of them are on the disk, and all folders from the root down to them.

        ``step`` is called for each file.

        Raises
        ------
        StoreError
            If that cannot be done.
        """
        for waiting in self._begun.values():
            waiting.result()
            step(1)
        folders = {folder.as_posix() for key in self._begun for folder in PurePosixPath(key).parents}
        list(self._pool.map(partial(_synced, sync_folder, self._root), folders))


def _synced(step: Callable[[Path], None], root: Path, key: str) -> None:
    try:
        step(root / key)
    except OSError as error:
        raise StoreError(explain(error, root / key, REMEDY)) from error


def _read(path: Path, expected: FileRecord) -> Data | str:
    """Return the verified bytes, or the fault as a string."""
    # Before it is opened: a pipe in its place would wait for a writer.
    seen = size_fault(path, expected)
    if seen is not None:
        return seen
    try:
        with path.open("rb") as file:
            room = empty((expected.nbytes + 1,), np.uint8)
            data = memoryview(room)[: file.readinto(room)]
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if len(data) != expected.nbytes:
        return f"has {len(data)} bytes or more, expected {expected.nbytes}"
    digest = record(data).blake3
    return data if digest == expected.blake3 else f"has the digest {digest}, expected {expected.blake3}"
