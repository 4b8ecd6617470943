"""Bytes of a store to and from disk: written whole or not at all, and read back only with the digest they had then."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np

from hfnumba.atomic import TEMPORARY, explain, sync, sync_folder, write_file
from hfnumba.data.arrays import empty
from hfnumba.data.watching import Step
from hfnumba.errors import StoreError

Data = bytes | memoryview
REMEDY = "run the same command again (it continues where it stopped)"
# A file system takes the syncs that wait together to the disk in one go.
_SYNCS = 8


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size and SHA-256 (hexadecimal) of a file's bytes: what ``sha256sum`` prints, and processors compute fastest."""

    nbytes: int
    sha256: str


def record(data: Data) -> FileRecord:
    """Record some bytes."""
    return FileRecord(len(data), hashlib.sha256(data).hexdigest())


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
        A folder on the same file system for the temporary file, made if need be.
    durable : bool
        Whether that holds after a crash of the machine too. Else only after :func:`make_durable`.

    Raises
    ------
    StoreError
        If it cannot be written, naming the file and, for a full disk, what to do.
    """
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data, scratch / f"{uuid.uuid4().hex}{TEMPORARY}", durable=durable)
    except OSError as error:
        raise StoreError(explain(error, path, REMEDY)) from error


def make_durable(root: Path, keys: Collection[str], step: Step) -> None:
    """Bring files, given by their paths below ``root``, and all folders from there down to them, to the disk.

    ``step`` is called for each file.

    Raises
    ------
    StoreError
        If that cannot be done.

    Notes
    -----
    Together they take a fraction of the time that each takes when it is synced as soon as it is written.
    """
    folders = {folder.as_posix() for key in keys for folder in PurePosixPath(key).parents}
    with ThreadPoolExecutor(_SYNCS, "hfnumba-sync") as pool:
        for _ in pool.map(partial(_synced, sync, root), keys):
            step(1)
        list(pool.map(partial(_synced, sync_folder, root), folders))


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
    digest = record(data).sha256
    return data if digest == expected.sha256 else f"has the digest {digest}, expected {expected.sha256}"
