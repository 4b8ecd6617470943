"""Options of a figure, and the error of a stopped one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hfnumba.errors import HfnumbaError


@dataclass(frozen=True)
class FigureOptions:
    """Options of a figure.

    Attributes
    ----------
    store : Path or None
        Store of the data; None for the default of the figure.
    out : Path
        Folder for the pictures, their tables, and the runs below ``runs/``; made if it does not exist.
    quick : bool
        Whether to make a small version, within 3 minutes on two processors.
    cluster : str
        See :func:`hfnumba.launch.open_cluster`.
    results : tuple of Path
        Files of results of ``hfnumba bench quality``, for figure 2 only: it then has the time of training as well.
    """

    store: Path | None
    out: Path
    quick: bool = False
    cluster: str = "none"
    results: tuple[Path, ...] = ()


class FigureStopped(HfnumbaError):  # noqa: N818 - not an error
    """A signal stopped a figure; the same command continues it. The command line exits with status 75."""
