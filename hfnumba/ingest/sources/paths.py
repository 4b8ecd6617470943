"""Paths within the folder the user gave, and records of their files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from hfnumba.errors import DataError
from hfnumba.progress import Advance, Counter, Reporter
from hfnumba.store.manifest import SourceFile

HASH_BLOCK = 2**20


def inside(root: Path, path: str | Path) -> Path:
    """Resolve a path relative to a folder; raise unless it is a plain file within that folder.

    Symbolic links are resolved first, so neither they nor ``..`` lead out of the folder.

    Raises
    ------
    DataError
        If there is no such file, or it is outside the folder.
    """
    wanted = root / path
    try:
        found = wanted.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise DataError(f"there is no file {wanted}") from None
    if not found.is_relative_to(root.resolve()):
        raise DataError(f"{wanted} leads out of {root} to {found}; only files within the given folder are read")
    if not found.is_file():
        raise DataError(f"{wanted} is not a file")
    return found


def inside_folder(root: Path, path: Path) -> Path:
    """Resolve a folder; raise if it is outside another folder."""
    found = path.resolve()
    if not found.is_relative_to(root.resolve()):
        raise DataError(f"{path} leads out of {root} to {found}; only files within the given folder are read")
    return found


def hashing(reporter: Reporter, paths: Iterable[Path]) -> Advance:
    """Begin the step of hashing files; the returned callable counts bytes."""
    return Counter(reporter.progress("Hashing files", "bytes"), sum(path.stat().st_size for path in paths)).advance


def folder_record(name: str, root: Path, paths: Iterable[Path], advance: Advance) -> SourceFile:
    """Record many files as one: SHA-256 of the sorted lines that ``sha256sum`` prints for them within ``root``."""
    lines, nbytes = [], 0
    for path in paths:
        record = file_record(path.relative_to(root.resolve()).as_posix(), path, advance)
        lines.append(f"{record.sha256}  {record.name}\n")
        nbytes += record.nbytes
    text = "".join(sorted(lines)).encode("utf-8", "surrogateescape")
    return SourceFile(name, nbytes, hashlib.sha256(text).hexdigest())


def file_record(name: str, path: Path, advance: Advance) -> SourceFile:
    """Record a file, read block by block; ``advance`` is called with the number of bytes of each block."""
    digest, nbytes = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while block := file.read(HASH_BLOCK):
                digest.update(block)
                nbytes += len(block)
                advance(len(block))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return SourceFile(name, nbytes, digest.hexdigest())
