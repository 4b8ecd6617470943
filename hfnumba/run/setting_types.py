"""Types of settings: numbers with bounds, and numbers of rows."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

ALL = "all"
"""Setting for all rows, which is None for an optimiser."""

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
