"""What every figure is asked for, and how it says that it was stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hfnumba.errors import HfnumbaError

Say = Callable[[str], None]
"""Takes a sentence of progress."""


@dataclass(frozen=True)
class FigureOptions:
    """What a figure is asked for.

    Attributes
    ----------
    store : Path or None
        The data; None for what the figure takes by itself.
    out : Path
        Folder of the pictures, of their tables, and of the runs below ``runs/``. It is made if it does not exist.
    quick : bool
        A small version within 3 minutes on two processors.
    cluster : str
        See :func:`hfnumba.launch.open_cluster`.
    """

    store: Path | None
    out: Path
    quick: bool = False
    cluster: str = "none"


class FigureStopped(HfnumbaError):  # noqa: N818 - it is no error
    """A signal stopped a figure where the same command goes on; the command line exits 75."""
