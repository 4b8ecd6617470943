"""Ledger of a run: one JSON object per line, the source of all plots and reports."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from hfnumba.atomic import RESUME, explain, read_regular, write_all, write_file
from hfnumba.errors import CheckpointError

__all__ = ["read"]

Line = dict[str, Any]

LOST = "earlier_lines_lost"
"""Key in the first line of a ledger that was begun anew by a resumed run, because the file was not there."""

_MAX_BYTES = 1 << 30
_REMEDY = "move it away to continue the run with --resume without the lines before"
_CHECKSUM = re.compile(rb', "crc32": "([0-9a-f]{8})"}$')
"""End of a line: the checksum of what it would be without it. Lines of versions before have none."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]


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
    """Read all complete lines of a ledger; a last line without a newline is torn and left out.

    Parameters
    ----------
    path : Path
        File ``ledger.jsonl`` of a run.

    Returns
    -------
    list of dict
        A line for each iteration, see :class:`hfnumba.optim.iteration.Iteration`; empty if there is no file.

    Raises
    ------
    CheckpointError
        If a line lacks something or was changed, or iterations are missing between lines or before the first; the
        message names it.
    """
    try:
        *complete, _torn = read_regular(path, _MAX_BYTES).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    lines: list[Line] = []
    checked = any(map(_CHECKSUM.search, complete))
    for number, text in enumerate(complete, start=1):
        try:
            content = _content(text) if checked else text
            msgspec.json.decode(content, type=_Checked)
            line = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(
                f"line {number} of {path} is not a line of a ledger ({error}); restore the file from a copy, or "
                f"{'delete this line' if number == len(complete) else _REMEDY}"
            ) from None
        expected = lines[-1]["iteration"] + 1 if lines else line["iteration"] if line.get(LOST) else 0
        if line["iteration"] != expected:
            raise CheckpointError(
                f"line {number} of {path} is of iteration {line['iteration']}, expected {expected}: lines are missing "
                f"or doubled; restore the file from a copy, or {_REMEDY}"
            )
        lines.append(line)
    return lines


def cut(path: Path, last_line: Line) -> list[Line]:
    """Make ``last_line`` the last line: remove later lines and add it if it is missing; return all lines.

    The file is replaced atomically, so a crash leaves the old or the new one. Where there is no file, the first line
    says that those before it are lost.

    Raises
    ------
    CheckpointError
        If it cannot be written, or lines before the last one are missing.
    """
    try:
        last, old = msgspec.convert(last_line, _Checked).iteration, read(path)
    except msgspec.ValidationError as error:
        raise CheckpointError(
            f"the newest checkpoint has no whole line for {path} ({error}); delete its two files to continue from the "
            "one before it"
        ) from None
    begun_anew = not path.exists() or bool(old and old[0].get(LOST))
    first = min(last, old[0]["iteration"] if old else last) if begun_anew else 0
    lines = [line for line in old if line["iteration"] < last]
    if len(lines) < last - first:
        end = f"ends at iteration {lines[-1]['iteration']}" if lines else "has no line"
        raise CheckpointError(
            f"{path} {end}, but the newest checkpoint is of iteration {last}; restore the file from a copy, "
            f"or {_REMEDY}"
        )
    lines.append(last_line if lines or last == 0 else last_line | {LOST: True})
    write(path, lines)
    return lines


def write(path: Path, lines: Sequence[Line]) -> None:
    """Replace all lines atomically.

    Raises
    ------
    CheckpointError
        If the file cannot be written.
    """
    try:
        write_file(path, b"".join(map(_encoded, lines)))
    except OSError as error:
        raise CheckpointError(explain(error, path, RESUME)) from error


class _Checked(msgspec.Struct):
    """Fields that all lines have had since the first version; readers rely on them."""

    iteration: _Count
    epoch: _NotNegative
    loss: float | None
    error: float | None
    test_loss: float | None
    test_error: float | None
    grad_norm: float | None
    damping: float | None
    rho: float | None
    alpha: float | None
    direction: str | None
    krylov_status: str | None
    n_matvec: _Count
    rounds: _Count
    nbytes: _Count
    elapsed_s: _NotNegative
    n_negative_curvature: _Count
    lowest_rayleigh: float | None
    curvature: float | None
    note: str


def _encoded(line: Line) -> bytes:
    text = json.dumps(line, allow_nan=False).encode()
    return text[:-1] + f', "crc32": "{zlib.crc32(text):08x}"}}\n'.encode()


def _content(text: bytes) -> bytes:
    """Return a line without its checksum; raise ValueError if that is another one, or there is none."""
    found = _CHECKSUM.search(text)
    content = text[: found.start()] + b"}" if found else b""
    if found is None or int(found[1], 16) != zlib.crc32(content):
        raise ValueError("its checksum, the value of crc32, is not that of the line, so something in it was changed")
    return content
