"""Style of all pictures: colours safe for colour blindness, plain axes, both file formats."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfnumba.atomic import explain, write_file
from hfnumba.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito (2008), in an order whose neighbours also differ in lightness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHED = (0, (4, 2))
DOTTED = (0, (1, 1.2))
SUFFIXES = (".png", ".svg", ".pdf")
_TICKS = (0, 0.5, 1, 2, 5, 10, 20, 50, 100)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of the given size in inches.

    Raises
    ------
    UsageError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise UsageError("drawing needs matplotlib; install it with `pip install 'hfnumba[plot]'`") from error
    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def look(k: int) -> dict[str, Any]:
    """Return colour and marker of the k-th series."""
    return {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}


def shades(n: int) -> list[Any]:
    """Return n colours for an increasing quantity, from dark to light, without the palest yellow."""
    from matplotlib import colormaps  # noqa: PLC0415

    return [colormaps["viridis"](0.9 * k / max(1, n - 1)) for k in range(n)]


def tidy(axes: Axes) -> None:
    """Set a pale grid, and remove the frame at the top and the right."""
    axes.grid(visible=True, which="major", color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def error_axis(axes: Axes) -> None:
    """Set the y axis to errors in %: linear below 1 %, to include an error of zero, and logarithmic above."""
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    axes.set_yticks(_TICKS, labels=[f"{tick:g}" for tick in _TICKS])
    axes.set_ylim(bottom=-0.05)


def counts_axis(axes: Axes, largest: float) -> None:
    """Set the x axis to counts from 0, whose labels are numbers: linear for few, logarithmic above 10 for many."""
    if largest > 20:
        axes.set_xscale("symlog", linthresh=10)
        ticks = [0, *(10**k for k in range(1, 12) if 10**k <= largest)]
        axes.set_xticks(ticks, labels=[f"{tick:,}" for tick in ticks])
        axes.minorticks_off()


def log_ticks(axis: Axis, *, is_share: bool = False) -> None:
    """Label a logarithmic axis with plain numbers, shares in %: powers of ten, or round steps in a single decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter  # noqa: PLC0415

    low, high = axis.get_view_interval()
    axis.set_major_locator(MaxNLocator(6) if high < 10 * low else LogLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %" if is_share else f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def powers_of_two(axes: Axes, ticks: Sequence[int]) -> None:
    """Set a logarithmic x axis, labelled at the given numbers."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axes.set_xlim(min(ticks) / 1.4, max(ticks) * 1.4)
    axes.minorticks_off()


def require_suffix(out: Path) -> None:
    """Raise a UsageError if a picture cannot have the suffix of a file."""
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"expected a file that ends in {', '.join(SUFFIXES)}, got {out}")


def save(figure: Any, out: Path, dpi: int | None = None) -> Path:
    """Write a picture atomically, in the format of the suffix of the file.

    Raises
    ------
    UsageError
        If the suffix is unknown.
    CheckpointError
        If the file cannot be written.
    """
    require_suffix(out)
    drawn = io.BytesIO()
    figure.savefig(drawn, format=out.suffix[1:].lower(), dpi=dpi or figure.dpi)
    write(out, drawn.getvalue())
    return out


def save_both(figure: Any, out: Path, name: str) -> list[Path]:
    """Write a picture as PNG, with the resolution of print, and as SVG."""
    return [save(figure, out / f"{name}.png", dpi=200), save(figure, out / f"{name}.svg")]


def write(path: Path, content: bytes) -> Path:
    """Write a file atomically; its folder must exist.

    Raises
    ------
    CheckpointError
        If it cannot be written.
    """
    try:
        write_file(path, content)
    except OSError as error:
        raise CheckpointError(explain(error, path)) from error
    return path
