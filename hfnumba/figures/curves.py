"""Loss and measures of runs against their cost: iterations, passes over the data, rounds, seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfnumba import ledger
from hfnumba.errors import CheckpointError, printable
from hfnumba.figures import style
from hfnumba.figures.quantities import Quantity, quantities_of, record_of
from hfnumba.metrics import ERROR, R2, RMSE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COSTS = {
    "iteration": "outer iterations",
    "epoch": "effective passes over the data",
    "rounds": "rounds of communication",
    "elapsed_s": "seconds",
}


@dataclass(frozen=True)
class Curves:
    """Ledger of a run, with its name in the legend, and the quantities that its lines have."""

    name: str
    lines: tuple[ledger.Line, ...]
    quantities: tuple[Quantity, ...]

    def points(self, cost: str, figure: str, scale: float) -> tuple[list[float], list[float]]:
        """Return costs and values at the lines that have both."""
        known = [line for line in self.lines if line.get(cost) is not None and line.get(figure) is not None]
        return [line[cost] for line in known], [scale * line[figure] for line in known]


def read_curves(run: Path) -> Curves:
    """Read the curves of a run from its ledger.

    Raises
    ------
    CheckpointError
        If the ledger is missing, empty or damaged.
    """
    lines = ledger.read(run / "ledger.jsonl")
    if not lines:
        raise CheckpointError(f"{run} has no ledger with an iteration; name the directory of a run")
    from hfnumba.run.scores import completed  # noqa: PLC0415 - slow to import

    record = record_of(run)
    lines = completed(lines, record.network.loss if record else None)
    name, method = printable(run.resolve().name), str(lines[0].get("method", ""))
    return Curves(name if method in name else f"{name} ({method})", tuple(lines), quantities_of(lines, record))


def draw(curves: list[Curves], out: Path) -> None:
    """Draw curves into a file; see :func:`drawn`.

    Parameters
    ----------
    curves : list of Curves
    out : Path
        File to write, ``.png``, ``.svg`` or ``.pdf``; its folder must exist.

    Raises
    ------
    UsageError
        If the suffix is unknown, or matplotlib is not installed.
    CheckpointError
        If the file cannot be written.
    """
    style.require_suffix(out)
    style.save(drawn(curves), out)


def drawn(curves: list[Curves]) -> Figure:
    """Draw a row of four panels, one for each cost, for every quantity that the runs have; losses on logarithmic axes.

    Parameters
    ----------
    curves : list of Curves
        Curves; a run has the same colour in all panels, its test curves are dashed, and those of validation dotted.

    Raises
    ------
    UsageError
        If matplotlib is not installed.
    """
    rows = list(dict.fromkeys(quantity for curve in curves for quantity in curve.quantities))
    rows.sort(key=lambda quantity: ("loss", ERROR.key, RMSE.key, R2.key).index(quantity.key))
    figure = style.new_figure(14, 3.3 * max(2, len(rows)))
    axes: Any = figure.subplots(len(rows), 4, sharex="col", sharey="row", squeeze=False)
    for i, quantity in enumerate(rows):
        shown = [c.points("iteration", quantity.key, 1.0)[1] for c in curves if quantity in c.quantities]
        percent = quantity.is_share and all(0 <= y <= 1 for values in shown for y in values)
        for j, (cost, label) in enumerate(_COSTS.items()):
            _panel(axes[i, j], curves, cost, quantity, 100.0 if percent else 1.0)
            if i == len(rows) - 1:
                axes[i, j].set_xlabel(label)
        axes[i, 0].set_ylabel(quantity.title(rows) + (" in %" if percent else ""))
    for shared in axes[0]:
        # Once all rows are drawn: a limit that is set is one for all later curves.
        if shared.get_xscale() == "linear":
            shared.set_xlim(left=min(0, shared.get_xlim()[0]))
    _legend(figure, curves)
    return figure


def _panel(axes: Axes, curves: list[Curves], cost: str, quantity: Quantity, scale: float) -> None:
    everything: list[float] = []
    field = quantity.key
    for k, curve in enumerate(curves):
        if quantity not in curve.quantities:
            continue
        x, y = curve.points(cost, field, scale)
        axes.plot(x, y, **style.look(k), linewidth=1.8, markersize=3.5)
        everything += y
        x, y = curve.points(cost, f"test_{field}", scale)
        axes.plot(x, y, color=style.look(k)["color"], linewidth=1.8, linestyle=style.DASHED, alpha=0.85)
        everything += y
        x, y = curve.points(cost, f"validation_{field}", scale)
        if y:
            axes.plot(x, y, color=style.look(k)["color"], linewidth=1.8, linestyle=style.DOTTED, alpha=0.85)
            everything += y
    if field in ("loss", RMSE.key) and everything and min(everything) > 0 and max(everything) > 3 * min(everything):
        axes.set_yscale("log")
    elif scale == 100 and everything and max(everything) > 5:
        style.error_axis(axes)
    if field == R2.key:
        # A start far from the data has an R² of any size below 0.
        axes.set_ylim(bottom=max(-0.2, axes.get_ylim()[0]), top=min(1.02, axes.get_ylim()[1] + 0.02))
    if _differ_in_scale(curves, cost):
        axes.set_xscale("log")
    style.tidy(axes)
    axes.margins(x=0.03)


def _differ_in_scale(curves: list[Curves], cost: str) -> bool:
    """Whether costs differ so much that the axis should be logarithmic, which needs costs above 0."""
    costs = [x for curve in curves if (x := curve.points(cost, "loss", 1.0)[0])]
    starts, ends = [x[0] for x in costs], [x[-1] for x in costs]
    return bool(costs) and bool(min(starts) > 0 and max(ends) > 10 * min(ends))


def _legend(figure: Any, curves: list[Curves]) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    handles = [Line2D([], [], **style.look(k), label=curve.name) for k, curve in enumerate(curves)]
    kinds = [
        Line2D([], [], color="0.35", label="training"),
        Line2D([], [], color="0.35", linestyle=style.DASHED, label="test"),
    ]
    if any(curve.points("iteration", "validation_loss", 1.0)[1] for curve in curves):
        kinds.append(Line2D([], [], color="0.35", linestyle=style.DOTTED, label="validation"))
    names = figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 3), frameon=False)
    for text in names.get_texts():
        text.set_parse_math(False)  # A dollar sign in the name of a directory is one.
    figure.legend(handles=kinds, loc="outside upper right", ncols=len(kinds), frameon=False)
