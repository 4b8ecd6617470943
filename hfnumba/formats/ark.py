"""Strict reader of matrices and integer vectors in Kaldi's archives.

The format is described in Kaldi's documentation ("Kaldi I/O mechanisms") and in ``matrix/compressed-matrix.h``. An
archive is a sequence of a key, a space, and an object. Nothing is ever executed or unpickled.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError, printable
from hfnumba.formats.ark_compression import CELL_NBYTES, decompressed
from hfnumba.formats.numbers import plain

MAX_KEY = 1024
MAX_LINE = 2**20
MAX_TEXT = 2**28
"""Largest numbers of bytes of a key, of a line of a script, and of an object written as text."""

DTYPES = {b"FM": "<f4", b"DM": "<f8"}
COMPRESSED = {b"CM": 1, b"CM2": 2, b"CM3": 3}


class Entry(NamedTuple):
    """Place of an object: a file, the offset after the key and its space, and the unpacked file if it is packed."""

    path: Path
    offset: int
    unpacked: BinaryIO | None = None


class _Head(NamedTuple):
    """Header of an object; ``token`` is empty for a vector of integers."""

    token: bytes
    rows: int
    columns: int
    low: float
    span: float
    nbytes: int


def read_matrix(entry: Entry) -> NDArray[Any]:
    """Read a matrix: float32, or float64 if it is stored so."""
    with _at(entry) as file:
        if not _starts(file, b"\0B"):
            return _text_matrix(entry, _text(entry.path, file))
        head = _head(entry.path, file)
        if not head.token:
            raise DataError(f"{entry.path} holds whole numbers at byte {entry.offset}, expected a matrix of features")
        data = _exact(entry.path, file, head.nbytes)
    if head.token in DTYPES:
        return np.frombuffer(data, DTYPES[head.token]).reshape(head.rows, head.columns)
    return decompressed(COMPRESSED[head.token], (head.rows, head.columns), head.low, head.span, data)


def read_ints(entry: Entry) -> NDArray[np.int32]:
    """Read a vector of integers, for example an alignment."""
    with _at(entry) as file:
        if not _starts(file, b"\0B"):
            return _text_ints(entry, _text(entry.path, file))
        head = _head(entry.path, file)
        if head.token:
            kind = head.token.decode("ascii", "replace")
            raise DataError(f"{entry.path} holds a matrix ({kind}) at byte {entry.offset}, expected whole numbers")
        data = _exact(entry.path, file, head.nbytes)
    cells = np.frombuffer(data, np.dtype([("width", "i1"), ("value", "<i4")]))
    if (cells["width"] != 4).any():
        raise DataError(f"{entry.path}: the numbers at byte {entry.offset} are not 32 bits wide each")
    return np.ascontiguousarray(cells["value"])


def archive(path: Path, unpacked: BinaryIO | None = None) -> Iterator[tuple[str, Entry]]:
    """Find the objects of an archive, by their keys."""
    with opened(path, unpacked) as file:
        while True:
            key = _key(path, file)
            if key is None:
                return
            entry = Entry(path, file.tell(), unpacked)
            if _starts(file, b"\0B"):
                head = _head(path, file)
                file.seek(head.nbytes, 1)
            else:
                _text(path, file)
            yield key, entry


def _key(path: Path, file: BinaryIO) -> str | None:
    """Read up to the space after a key; None at the end of the file."""
    key = bytearray()
    while byte := file.read(1):
        if byte.isspace():
            if key:
                if byte == b"\n":
                    # An empty object, for instance an alignment without frames.
                    file.seek(-1, 1)
                return decode(path, bytes(key))
            continue
        key += byte
        if len(key) > MAX_KEY or byte == b"\0":
            break
    if not key:
        return None
    raise DataError(f"{path} is not an archive of Kaldi: expected a key and a space near byte {file.tell()}")


def _head(path: Path, file: BinaryIO) -> _Head:
    """Read the header of an object, and check its sizes against the size of the file."""
    at = file.tell()
    _exact(path, file, 2)
    if _starts(file, b"\4"):
        (length,) = struct.unpack("<xi", _exact(path, file, 5))
        head = _Head(b"", length, 1, 0.0, 0.0, 5 * length)
    else:
        token = _token(path, file, at)
        if token in DTYPES:
            width, rows, other, columns = struct.unpack("<bibi", _exact(path, file, 10))
            if (width, other) != (4, 4):
                raise DataError(f"{path}: the sizes of the matrix at byte {at} are not 32 bits wide")
            head = _Head(token, rows, columns, 0.0, 0.0, rows * columns * np.dtype(DTYPES[token]).itemsize)
        else:
            low, span, rows, columns = struct.unpack("<ffii", _exact(path, file, 16))
            kind = COMPRESSED[token]
            nbytes = rows * columns * CELL_NBYTES[kind] + (8 * columns if kind == 1 else 0)
            head = _Head(token, rows, columns, low, span, nbytes)
    left = os.fstat(file.fileno()).st_size - file.tell()
    if head.rows < 0 or head.columns < 0 or head.nbytes > left:
        raise DataError(
            f"{path}: the object at byte {at} claims {head.rows} x {head.columns} values, but {left} bytes are left; "
            f"the archive is damaged or truncated"
        )
    return head


def _token(path: Path, file: BinaryIO, at: int) -> bytes:
    token = b""
    while (byte := file.read(1)) not in (b" ", b"") and len(token) < 8:
        token += byte
    if token not in DTYPES and token not in COMPRESSED:
        known = ", ".join(key.decode() for key in (*DTYPES, *COMPRESSED))
        raise DataError(
            f"{path}: the object at byte {at} is of type '{printable(token)}', expected {known} or whole numbers"
        )
    return token


def _text(path: Path, file: BinaryIO) -> bytes:
    """Read an object written as text: to the closing bracket, or to the end of its line."""
    at = file.tell()
    text = file.readline(MAX_TEXT)
    if text.lstrip().startswith(b"["):
        lines = [text]
        n = len(text)
        while b"]" not in lines[-1]:
            line = file.readline(MAX_TEXT - n + 1)
            if not line:
                raise DataError(f"{path}: the matrix at byte {at} has no closing bracket")
            lines.append(line)
            n += len(line)
            if n > MAX_TEXT:
                raise DataError(f"{path}: the object at byte {at} is longer than {MAX_TEXT} bytes of text")
        text = b"".join(lines)
    return text


def _text_matrix(entry: Entry, text: bytes) -> NDArray[np.float32]:
    body = text.strip()
    if not (body.startswith(b"[") and body.endswith(b"]")):
        raise DataError(
            f"{entry.path}: expected a matrix in brackets at byte {entry.offset}, got '{printable(text[:20])}'"
        )
    try:
        rows = [[float(word) for word in line.split()] for line in plain(body[1:-1]).splitlines() if line.strip()]
        with np.errstate(over="ignore"):
            values = np.array(rows, np.float32)
    except ValueError as error:
        raise DataError(f"{entry.path}: the matrix at byte {entry.offset} is not one of numbers ({error})") from error
    return values.reshape(len(rows), -1) if rows else np.empty((0, 0), np.float32)


def _text_ints(entry: Entry, text: bytes) -> NDArray[np.int32]:
    try:
        return np.array([int(word) for word in plain(text).split()], np.int32)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{entry.path}: expected whole numbers at byte {entry.offset} ({error})") from error


def _starts(file: BinaryIO, magic: bytes) -> bool:
    """Whether the next bytes are ``magic``; the position does not change."""
    at = file.tell()
    found = file.read(len(magic)) == magic
    file.seek(at)
    return found


def _exact(path: Path, file: BinaryIO, n: int) -> bytes:
    data = file.read(n)
    if len(data) != n:
        raise DataError(f"{path} ends within an object")
    return data


def decode(path: Path, text: bytes) -> str:
    """Decode a key or a line of a script."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path} holds a key that is not text: '{printable(text[:20])}'") from None


@contextmanager
def opened(path: Path, unpacked: BinaryIO | None = None) -> Iterator[BinaryIO]:
    """Open an archive or a script; errors are raised as DataError."""
    if unpacked is not None:
        unpacked.seek(0)
        yield unpacked
        return
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def _at(entry: Entry) -> Iterator[BinaryIO]:
    with opened(entry.path, entry.unpacked) as file:
        if entry.offset >= os.fstat(file.fileno()).st_size:
            raise DataError(f"{entry.path} has no object at byte {entry.offset}; it ends before")
        file.seek(entry.offset)
        yield file
