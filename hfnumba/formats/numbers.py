"""Parsing of numbers in text; Python's extensions, such as ``1_000``, are refused."""

from __future__ import annotations

from hfnumba.errors import printable


def plain[Text: (str, bytes)](text: Text) -> Text:
    """Check a text of one or more numbers, and return it for Python to convert.

    Raises
    ------
    ValueError
        If it has characters that only Python accepts in numbers.
    """
    if not text.isascii() or (b"_" if isinstance(text, bytes) else "_") in text:
        raise ValueError(f"'{printable(text[:40])}' is not a number")
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
