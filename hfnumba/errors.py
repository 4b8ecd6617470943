"""The errors users meet. Each message says what was expected, what came, and what to do."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ClusterError",
    "DataError",
    "HfnumbaError",
    "NumericalError",
    "StoppedError",
    "StoreError",
    "UsageError",
]

MAX_MESSAGE = 4000
"""Largest number of characters of a message; of a longer one the middle is left out."""


_CONNECTION = re.compile(r"^in <[^<>]*>: ")
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def printable(text: str | bytes) -> str:
    r"""Text, or the bytes of one in UTF-8, as a terminal can show it, on one line.

    Texts from data and names of files may hold control characters, among them the escapes that change what a terminal
    shows, and bytes that are not UTF-8. These are written as Python writes them (``\x1b``), and line breaks as spaces.
    """
    whole = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    line = " ".join(whole.splitlines())
    if len(line) > MAX_MESSAGE:
        line = f"{line[: MAX_MESSAGE // 2]} … {line[-MAX_MESSAGE // 2 :]}"
    return line if line.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in line)


def _escaped(character: str) -> str:
    code = ord(character)
    # Python's stand-ins for bytes of file names that are not UTF-8.
    return f"\\x{code & 0xFF:02x}" if 0xDC80 <= code <= 0xDCFF else character.encode("unicode_escape").decode()


class HfnumbaError(Exception):
    """Base class of every error that a user can cause or meet; the command line prints it as one sentence and exits 1.

    Parameters
    ----------
    message : str
        What was expected, what came, and what to do. Control characters are escaped.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(str(message)))


class UsageError(HfnumbaError, ValueError):
    """An argument or option is wrong; the command line exits 2."""


class DataError(HfnumbaError, ValueError):
    """Rows, labels or features are not what training needs (NaN, unequal lengths, labels out of range)."""


class StoreError(HfnumbaError):
    """A store is missing, unfinished, damaged, or not of the expected schema."""


class ClusterError(HfnumbaError):
    """The cluster could not be reached, lost its workers, or answered with something unusable."""


class StoppedError(HfnumbaError):
    """A signal has arrived while the run waited for its cluster; the last checkpoint remains."""


class CheckpointError(HfnumbaError):
    """A run directory or a checkpoint is missing, damaged, or belongs to other settings."""


class NumericalError(HfnumbaError, ArithmeticError):
    """The loss, the gradient or a product is not finite where it must be."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the list of known words, and the nearest to a wrong one if there is one."""
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1)
    listed = ", ".join(known if known[:1].isalnum() else repr(known) for known in words)
    return f"expected one of {listed}" + (f"; did you mean {near[0]!r}?" if near else "")


def sentence(error: BaseException) -> str:
    """Return the words of an error on one line; some of other libraries have none."""
    # Dask names the connection first, by its type and ports.
    text = _CONNECTION.sub("", " ".join(str(error).split()))
    if isinstance(error, TimeoutError) and not text:
        return "no answer came in time"
    return text or type(error).__name__


def encoding_hint(beginning: bytes) -> str:
    """Return which encoding text that is not UTF-8 is likely to have, by its first bytes, and what to do."""
    if is_utf16(beginning):
        return "the text is UTF-16, expected UTF-8; convert it, such as by iconv -f UTF-16 -t UTF-8 FILE > NEW"
    return (
        "the text is not UTF-8 but has another encoding, perhaps Latin-1; convert it, such as by "
        "iconv -f ISO-8859-1 -t UTF-8 FILE > NEW (Windows often writes WINDOWS-1252)"
    )


def is_utf16(beginning: bytes) -> bool:
    """Whether text is UTF-16 by its first two bytes: a mark, or one byte of two that is 0."""
    return beginning[:2] in _MARKS or 0 in beginning[:2]
