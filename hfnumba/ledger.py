"""Ledger of a run: one JSON object per line, the source of all plots and reports."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hfnumba.atomic import RESUME, explain, write_all, write_file
from hfnumba.errors import CheckpointError

Line = dict[str, Any]


def append(path: Path, line: Line) -> None:
    """Append a line and sync it to disk.

    Raises
    ------
    CheckpointError
        If it cannot be written. A torn last line is not read, and is removed on resuming.
    """
    try:
        # A link would lead to another file, of which nothing is known.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            write_all(descriptor, _encoded(line))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CheckpointError(explain(error, path, RESUME)) from error


def read(path: Path) -> list[Line]:
    """Read all complete lines; empty if there is no file. A last line without a newline is torn and left out.

    Raises
    ------
    CheckpointError
        If a line is not a JSON object with an iteration; the message names the line.
    """
    try:
        *complete, _torn = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    lines = []
    for number, text in enumerate(complete, start=1):
        try:
            line = json.loads(text)
            if not isinstance(line["iteration"], int):
                raise TypeError("iteration")
        except (ValueError, KeyError, TypeError):
            raise CheckpointError(
                f"line {number} of {path} is not a line of a ledger; delete it, or restore the file from a copy"
            ) from None
        lines.append(line)
    return lines


def cut(path: Path, last_line: Line | None) -> None:
    """Make ``last_line`` the last line: remove later lines and add it if it is missing; None removes all lines.

    The file is replaced atomically, so a crash leaves the old or the new one.
    """
    lines = [] if last_line is None else [old for old in read(path) if old["iteration"] < last_line["iteration"]]
    if last_line is not None:
        lines.append(last_line)
    try:
        write_file(path, b"".join(map(_encoded, lines)))
    except OSError as error:
        raise CheckpointError(explain(error, path, RESUME)) from error


def _encoded(line: Line) -> bytes:
    return json.dumps(line, allow_nan=False).encode() + b"\n"
