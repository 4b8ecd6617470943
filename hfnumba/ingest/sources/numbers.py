"""Parsing of numbers in text; Python's extensions, such as ``1_000``, are refused."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache


def plain[Text: (str, bytes)](text: Text) -> Text:
    """Check a text of one or more numbers, and return it for Python to convert.

    Raises
    ------
    ValueError
        If it has characters that only Python accepts in numbers.
    """
    if not text.isascii() or (b"_" if isinstance(text, bytes) else "_") in text:
        raise ValueError(f"{text[:40]!r} is not a number")
    return text


def whole(word: str) -> int:
    """Parse an integer of at most 64 bits.

    Raises
    ------
    ValueError
        If the word is not such an integer.
    """
    value = int(plain(word))
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"a number of {len(word)} digits is beyond 64 bits")
    return value


def real(word: str) -> float:
    """Parse a number, which may be NaN or infinite.

    Raises
    ------
    ValueError
        If the word is not a number.
    """
    return float(plain(word))


@lru_cache(2**17)
def canonical(word: str | None) -> str | None:
    """One spelling for all words that are the same category or label; None, which is missing, stays None.

    Spaces around a word do not count. Numbers are compared as numbers: ``1``, ``1.0``, ``01`` and ``1e0`` are the same.
    ``True``, ``TRUE`` and ``true`` are the same, as are ``False``, ``FALSE`` and ``false``. All else must be equal.
    """
    if word is None:
        return None
    text = word.strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    with suppress(ValueError):
        return str(whole(text))
    with suppress(ValueError):
        value = real(text)
        # From 2**53 on, a float may stand for several integers.
        if abs(value) < 2**53:
            return str(int(value)) if value.is_integer() else repr(value)
    return text
