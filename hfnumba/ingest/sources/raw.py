"""Shared by all sources: the arrays they return, and the opening and checking of files."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipes import RecipeFile
from hfnumba.store.columns import Column
from hfnumba.store.manifest import SourceFile

DEFLATE_RATIO = 1032
"""Largest expansion of deflate; a compressed file that claims more has a false header."""


@dataclass(frozen=True)
class RawData:
    """Arrays of a data set in the order of the source, with the records of its files.

    ``subsets`` has the row numbers of splits that share their arrays with others, ``classes`` the names of the
    classes, if they have names, ``weights`` the weights of the rows, for splits that have weights, ``columns`` and
    ``targets`` the names of features and regression targets that are columns of a table, ``origin`` what was subtracted
    from the features before rounding, and ``notes`` sentences for the user.
    """

    splits: dict[str, tuple[NDArray[Any], NDArray[Any]]]
    sources: tuple[SourceFile, ...]
    subsets: dict[str, NDArray[np.intp]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)
    origin: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    targets: tuple[str, ...] = ()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressed if its name ends in ``.gz``; errors of reading are raised as DataError."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield cast(BinaryIO, file)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a complete gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def read_all(path: Path, limit: int) -> bytes:
    """Read the uncompressed bytes of a file; raise if there are more than ``limit``."""
    with opened(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise DataError(f"{path} holds more than the {limit} bytes expected")
    return data


def source_file(expected: RecipeFile, path: Path, *pieces: bytes | memoryview) -> SourceFile:
    """Record the bytes that were read, in one piece or several, and check them against the recipe."""
    hashed, nbytes = hashlib.sha256(), sum(map(len, pieces))
    for piece in pieces:
        hashed.update(piece)
    digest = hashed.hexdigest()
    if expected.nbytes is not None and nbytes != expected.nbytes:
        raise DataError(f"{path} holds {nbytes} bytes, the recipe expects {expected.nbytes}; fetch it again")
    if expected.sha256 is not None and digest != expected.sha256:
        raise DataError(
            f"{path} has the SHA-256 {digest} (uncompressed), the recipe expects {expected.sha256}; fetch it again"
        )
    return SourceFile(expected.name, nbytes, digest)
