"""Label files ``.lab``, whose dialect is recognised by its own evidence.

Files of Festvox (ESPS) have lines ``end colour phone``, with ends in seconds and one whole number, the colour, in all
lines; a header up to a line ``#`` may come first. Files of HTK have lines ``start end label`` in units of 100 ns, after
which scores and the labels of higher levels may follow. Others have such lines in seconds. A dialect fits if its times
do not decrease, each label begins where the one before it ends, and the last ends near the end of the recording.

In labels with context, ``l-phone+r``, the phone is in the middle. States of phones (``phone[2]``, ``phone_s2``, or
``s2`` with the phone as the label of the next level) are joined to their phones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from hfnumba.errors import DataError
from hfnumba.formats.numbers import real, whole
from hfnumba.formats.speech import FRAME_MS, Segments, check_end, read_text, segments

FESTVOX = "lines `end colour phone` in seconds, of Festvox"
HTK = "lines `start end label` in units of 100 ns, of HTK"
SECONDS = "lines `start end label` in seconds"
HTK_UNIT_S = 1e-7
MAX_GAP_S = 0.0101
"""Largest distance of a start from the end before it: a frame of 10 ms, which tools that round times may lose."""

IN_CONTEXT = re.compile(r"[^-+]*-([^-+]+)\+.*")
_ON_ONE_SIDE = re.compile(r"[^-+]+-(?P<left>[^-+]+)|(?P<right>[^-+]+)\+.*")
_STATE = re.compile(r"(.+?)(?:\[(\d{1,3})\]|_s(\d{1,3}))")
_BARE_STATE = re.compile(r"s\d{1,3}")

Row = Sequence[str]


class Labels(NamedTuple):
    """Content of a label file, its dialect, and whether its labels were states, which are joined to phones."""

    spoken: Segments
    dialect: str
    of_states: bool


def read_lab(path: Path, duration_s: float) -> Labels:
    """Read the label file of a recording of ``duration_s`` seconds.

    Raises
    ------
    DataError
        If no dialect fits, or two.
    """
    header, rows = _rows(path)
    found, faults = [], []
    for dialect in (FESTVOX,) if header else (FESTVOX, HTK, SECONDS):
        try:
            spoken, of_states = _festvox(rows, header) if dialect == FESTVOX else _spans(rows, dialect)
            if spoken.ends[-1] * 1000 < FRAME_MS:
                raise ValueError(f"all labels end within {FRAME_MS:g} ms")
            check_end(spoken, duration_s)
            found.append(Labels(spoken, dialect, of_states))
        except ValueError as error:
            faults.append(f"as {dialect}: {error}")
    if not found:
        raise DataError(f"{path} is not a file of labels for a recording of {duration_s:.2f} s; {'; '.join(faults)}")
    if len(found) > 1:
        raise DataError(
            f"{path} can be read as {' or as '.join(labels.dialect for labels in found)}; put a line # first if it is "
            f"of Festvox, else write times in units of 100 ns"
        )
    return found[0]


def _rows(path: Path) -> tuple[bool, Sequence[Row]]:
    """Whether there is a header, and the words of each line after it."""
    lines = [line.split() for line in read_text(path)]
    header = ["#"] in lines
    if header:
        lines = lines[lines.index(["#"]) + 1 :]
    rows = [line for line in lines if line]
    if not rows:
        raise DataError(f"{path} holds no labels")
    if any(len(row) < 3 for row in rows):
        raise DataError(f"{path} is not a file of labels: expected lines `end 125 phone` or `start end label`")
    return header, rows


def _festvox(rows: Sequence[Row], header: bool) -> tuple[Segments, bool]:
    colours = {row[1] for row in rows}
    if not all(colour.isascii() and colour.isdigit() for colour in colours) or (len(colours) > 1 and not header):
        raise ValueError("the second words are not one whole number")
    return segments([real(row[0]) for row in rows], [row[2] for row in rows]), False


def _spans(rows: Sequence[Row], dialect: str) -> tuple[Segments, bool]:
    number, unit = (whole, HTK_UNIT_S) if dialect == HTK else (real, 1.0)
    times = [(number(row[0]) * unit, number(row[1]) * unit) for row in rows]
    for i, ((_, end), (start, _)) in enumerate(pairwise(times)):
        if not abs(start - end) <= MAX_GAP_S:
            raise ValueError(f"label {i + 2} does not begin where the one before it ends")
    if all(_is_number(row[2]) and len(row) > 3 and not _is_number(row[3]) for row in rows):
        raise ValueError("the third words are numbers, and words follow; expected the label before its score")
    phones, begins = _joined(rows)
    ends = [times[i][1] for i in range(len(rows)) if i + 1 == len(rows) or begins[i + 1]]
    names = _without_context([phone for phone, begin in zip(phones, begins, strict=True) if begin])
    return segments(ends, names, times[0][0]), not all(begins)


def _joined(rows: Sequence[Row]) -> tuple[list[str], list[bool]]:
    """Label of each row without its state, and whether the row begins a phone."""
    words = [row[2] for row in rows]
    states = [match for word in words if (match := _STATE.fullmatch(word))]
    if len(states) == len(words):
        phones, numbers = [match[1] for match in states], [int(match[2] or match[3]) for match in states]
        later = (p != q or m < n for (p, n), (q, m) in pairwise(zip(phones, numbers, strict=True)))
        return phones, [True, *later]
    if all(map(_BARE_STATE.fullmatch, words)) and _of_next_level(rows[0]):
        higher = [_of_next_level(row) for row in rows]
        # Only the first state of a phone has the phone beside it; rows without one do not begin a phone.
        return [phone or "" for phone in higher], [phone is not None for phone in higher]
    return words, [True] * len(words)


def _of_next_level(row: Row) -> str | None:
    return next((word for word in row[3:] if not _is_number(word)), None)


def _without_context(names: list[str]) -> list[str]:
    """Phones of labels; where some have both neighbours, those at the edges of a sentence or word may have one."""
    if not any(map(IN_CONTEXT.fullmatch, names)):
        return names
    found = []
    for name in names:
        if match := IN_CONTEXT.fullmatch(name):
            found.append(match[1])
        elif match := _ON_ONE_SIDE.fullmatch(name):
            found.append(match["left"] or match["right"])
        else:
            found.append(name)
    return found


def _is_number(word: str) -> bool:
    try:
        real(word)
    except ValueError:
        return False
    return True
