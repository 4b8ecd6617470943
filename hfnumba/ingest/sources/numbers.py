"""Numbers in text, as data have them: what Python's literals allow beyond that, as in ``1_000``, is refused."""

from __future__ import annotations


def plain[Text: (str, bytes)](text: Text) -> Text:
    """Return a text of numbers, for Python to convert: many at once, where a call for each takes longer than that.

    Raises
    ------
    ValueError
        If it holds what Python takes for a part of a number and data do not have.
    """
    if not text.isascii() or (b"_" if isinstance(text, bytes) else "_") in text:
        raise ValueError(f"{text[:40]!r} is not a number")
    return text


def whole(word: str) -> int:
    """Read a whole number of at most 64 bits.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    value = int(plain(word))
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"a number of {len(word)} digits is beyond 64 bits")
    return value


def real(word: str) -> float:
    """Read a number, which may be NaN or infinite.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    return float(plain(word))
