"""Numbers as people write them in tables: amounts, answers in surveys, and points between thousands."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

from hfnumba.formats.extras import require

MAX_ANSWERS = 20
"""Largest number of different values of a column of answers."""

_DECORATION = str.maketrans("", "", "\u2212$€£¥%()',_ \u00a0\u202f")
"""What people put between and around digits: currency, percent, signs, separators of thousands, a decimal comma."""

_ABSENT = frozenset({"?", "-", "--", ".", "..", "*", "missing", "unknown", "none", "nil", "n.a.", "nd"})
"""What often stands for a missing number, besides the errors of spreadsheets, which begin with ``#``."""

_MIXED = re.compile(r"\d[^\W\d_]|[^\W\d_]\d")
"""A digit beside a letter."""

_THOUSANDS = re.compile(r"[1-9]\d{0,2}(\.\d{3})+")
_MAYBE_THOUSANDS = r"^[-+]?(0|[1-9][0-9]{0,2}([.][0-9]{3})*)$"


def is_number(text: str) -> bool:
    """Whether Arrow reads a text as a number, which it does with columns of CSV."""
    arrow = require("pyarrow", "tables")
    try:
        return math.isfinite(arrow.scalar(text).cast(arrow.float64()).as_py())
    except arrow.ArrowInvalid:
        return False


def odd_number(values: Collection[str], *, began: bool) -> str | None:
    """First value of a column of text that is no number, if most values are numbers, some of them as amounts.

    Parameters
    ----------
    values : collection of str
        Different values of the column.
    began : bool
        Whether the column has a block of nothing but numbers.
    """
    n_numbers = sum(is_number(_bare(value).rstrip("+")) for value in values)
    if not began and 2 * n_numbers <= len(values):
        return None
    return next((value for value in sorted(values) if not is_number(value)), None)


def are_answers(values: Collection[str]) -> bool:
    """Whether values are few whole numbers and words that are no amounts, as answers in surveys: 0, 1, 2, 3+."""
    words = [value for value in values if not is_number(value)]
    return (
        len(values) <= MAX_ANSWERS
        and all(float(value).is_integer() for value in values if value not in words)
        and not any(word.lower() in _ABSENT or word.startswith("#") or _is_amount(word) for word in words)
        # 1O and 12km are slips and amounts.
        and not any(_MIXED.search(word) for word in words)
    )


def may_have_thousands(column: Any) -> bool:
    """Whether points in all texts of an Arrow array may separate thousands, as in 999 and 1.234."""
    compute = require("pyarrow.compute", "tables")
    matched = compute.match_substring_regex(column, _MAYBE_THOUSANDS)
    return compute.all(matched, min_count=0).as_py() is True


def _is_amount(word: str) -> bool:
    """Whether a text is a number with currency, a sign or separators."""
    return is_number(_bare(word).rstrip("-"))


def _bare(word: str) -> str:
    bare = word.translate(_DECORATION)
    return bare.replace(".", "") if _THOUSANDS.fullmatch(bare.strip("+-")) else bare
