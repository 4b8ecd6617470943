"""Types of settings: numbers with bounds, and numbers of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

ALL = "all"
"""Setting for all rows, which is None for an optimiser."""

EARLIER_ALL = 2**31 - 1
"""Number of rows that figures and benchmarks gave for all of them before there was a word for it."""

Count = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Fraction = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Ratio = Annotated[float, msgspec.Meta(gt=1)]
Rows = Count | Literal["all"]
# A worker is asked for a sign of life after a quarter of this time, and the answers are checked twice a second.
Silence = Annotated[float, msgspec.Meta(ge=2)]


def by_earlier_number(given: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the number for all rows instead of the word, where a run is recorded with it."""
    return {
        name: EARLIER_ALL if value == ALL and recorded.get(name) == EARLIER_ALL else value
        for name, value in given.items()
    }
