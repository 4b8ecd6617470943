"""Bytes of a store to and from disk: written whole or not at all, and read back only with the digest they had then."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import msgspec
import numpy as np

from hfnumba.atomic import TEMPORARY, explain, write_file
from hfnumba.data.arrays import empty
from hfnumba.errors import StoreError

Data = bytes | memoryview


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size and digest (BLAKE2b, 128 bits, hexadecimal) of a file's bytes."""

    nbytes: int
    blake2b: str


def record(data: Data) -> FileRecord:
    """Record some bytes."""
    return FileRecord(len(data), hashlib.blake2b(data, digest_size=16).hexdigest())


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


def write(path: Path, data: bytes, scratch: Path) -> None:
    """Write a file so that it has either its old content or all of the new one, after a crash too.

    Parameters
    ----------
    path : Path
        The file; folders above it are made.
    data : bytes
        Its new content.
    scratch : Path
        A folder on the same file system for the temporary file, made if need be.

    Raises
    ------
    StoreError
        If it cannot be written, naming the file and, for a full disk, what to do.
    """
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data, scratch / f"{uuid.uuid4().hex}{TEMPORARY}")
    except OSError as error:
        raise StoreError(explain(error, path, "run the same command again (it continues where it stopped)")) from error


def _read(path: Path, expected: FileRecord) -> Data | str:
    """Return the verified bytes, or the fault as a string."""
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
    digest = record(data).blake2b
    return data if digest == expected.blake2b else f"has the digest {digest}, expected {expected.blake2b}"
