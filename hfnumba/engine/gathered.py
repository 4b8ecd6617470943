"""A round on its way: what the workers have answered so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hfnumba.engine.protocol import Round
from hfnumba.engine.shared import Window
from hfnumba.engine.tree import Node, Sums


@dataclass
class Part:
    """What one worker has answered; its arrays may be in its box, which the next request to it writes over."""

    address: str
    number: int
    nodes: dict[Node, Sums]
    window: Window | None = None

    def is_intact(self) -> bool:
        """Whether the box still holds this answer."""
        return self.window is None or self.window.number() == self.number

    def keep(self) -> None:
        """Copy what is in the box."""
        if self.window is not None:
            self.nodes = {node: tuple(np.array(a) for a in sums) for node, sums in self.nodes.items()}
            self.window = None


@dataclass
class Gathered:
    """A round on its way: what has come, and how often answers were refused."""

    request: Round
    parts: list[Part] = field(default_factory=list)
    n_refused: int = 0
    last_reason: str = ""

    def nodes(self) -> dict[Node, Sums]:
        """All sums that have come."""
        return {node: sums for part in self.parts for node, sums in part.nodes.items()}
