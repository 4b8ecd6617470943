"""Sparklines: a series of numbers as one line of blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDE = 10.0
"""Ratio of the largest to the smallest number above which heights are logarithmic."""


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Draw the last ``width`` numbers; a missing one is a space. Positive numbers of a wide range are logarithmic."""
    shown = list(values)[-width:]
    known = [value for value in shown if value is not None and math.isfinite(value)]
    if not known:
        return " " * len(shown)
    if min(known) > 0 and max(known) > _WIDE * min(known):
        shown = [None if value is None else math.log(value) for value in shown]
        known = [math.log(value) for value in known]
    low, span = min(known), max(known) - min(known)
    return "".join(
        " " if value is None or not math.isfinite(value) else _BLOCKS[round((value - low) / span * 7) if span else 3]
        for value in shown
    )
