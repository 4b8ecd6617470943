"""Tables and picture of a comparison of methods, from its file of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hfnumba.bench.quality.methods import CONTESTANTS
from hfnumba.bench.quality.problems import Problem
from hfnumba.bench.quality.records import Point, Result
from hfnumba.bench.quality.summary import TargetSummary
from hfnumba.figures import style
from hfnumba.figures.summary import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "loss": "training loss",
    "error": "training error",
    "test_loss": "held-out loss",
    "test_error": "held-out error",
}
FORMATS: dict[str, Callable[[float], str]] = {
    "rounds": "{:,.0f}".format,
    "passes": "{:,.1f}".format,
    "gflop": lambda gflop: f"{gflop:.2f}" if gflop < 10 else f"{gflop:,.0f}",
    "seconds": lambda seconds: f"{seconds:.2f}" if seconds < 1 else f"{seconds:,.1f}",
}
_RATIOS = {"rounds": "rounds", "gflop": "GFLOP", "seconds": "clock"}
_MARKS = 8


def header(quantity: str) -> list[str]:
    """Return the names of the columns of :func:`table`."""
    return [
        "method",
        "rounds",
        "passes",
        "GFLOP",
        "seconds",
        "round ratio",
        "GFLOP ratio",
        "clock ratio",
        f"lowest {NAMES[quantity]}",
    ]


def table(problem: Problem, summary: TargetSummary) -> list[list[str]]:
    """Return a row for each method: costs to the target (median and range over the seeds) and ratios."""
    rows = []
    for one in summary.attainments:
        costs = [spread(one.costs(cost), form) for cost, form in FORMATS.items()]
        ratios = [_ratio(summary.ratio(one, cost)) for cost in _RATIOS]
        rows.append([one.setting, *costs, *ratios, value_text(problem, summary.quantity, one.lowest)])
    return rows


SHORT_HEADER = ["method", "rounds", "passes", "GFLOP", "seconds", "ratios", "lowest"]
"""Columns of :func:`short_table`."""


def short_table(problem: Problem, summary: TargetSummary) -> list[list[str]]:
    """Return a row for each method that fits a terminal of 80 columns: medians, and ratios of rounds, GFLOP, clock."""
    rows = []
    for one in summary.attainments:
        costs = [_median(one.costs(cost), form) for cost, form in FORMATS.items()]
        ratios = [_ratio(summary.ratio(one, cost)) for cost in _RATIOS]
        shown = "–" if set(ratios) == {"–"} else "/".join(ratios)
        rows.append([one.method, *costs, shown, value_text(problem, summary.quantity, one.lowest)])
    return rows


def _median(costs: Sequence[float | None], form: Callable[[float], str]) -> str:
    """Format the median over the seeds that have a cost, with their number where some have none."""
    known = [cost for cost in costs if cost is not None]
    if not known:
        return "–"
    return form(median(known)) + ("" if len(known) == len(costs) else f" ({len(known)}/{len(costs)})")


def title(problem: Problem, summary: TargetSummary) -> str:
    """Return the line above a table: the target, and the methods that ratios compare with."""
    values = [value_text(problem, summary.quantity, value) for value in summary.values]
    of = " (the lowest of Adam, by seed)" if summary.is_reference else ""
    shown = ", ".join(values if summary.is_reference else values[:1])
    return f"{NAMES[summary.quantity]} of {shown}{of}"


def peers_text(summary: TargetSummary) -> str:
    """Return a sentence that names the methods of the ratios; empty without ratios."""
    peers: dict[str, list[str]] = {}
    for cost, name in _RATIOS.items():
        peer = summary.best_peer(cost)
        if peer is not None and any(summary.ratio(one, cost) is not None for one in summary.attainments):
            peers.setdefault(peer.setting, []).append(name)
    if len(peers) < 2:
        return f"Ratios (rounds, GFLOP, clock) are to {next(iter(peers))}." if peers else ""
    return (
        "Ratios (rounds, GFLOP, clock) are to "
        + "; ".join(f"{setting} ({', '.join(names)})" for setting, names in peers.items())
        + "."
    )


def value_text(problem: Problem, quantity: str, value: float | None) -> str:
    """Format a loss, an error rate, or a mean squared error."""
    if value is None:
        return "–"
    return f"{100 * value:.2f} %" if _is_rate(problem, quantity) else f"{value:.3g}"


def _is_rate(problem: Problem, quantity: str) -> bool:
    return quantity.endswith("error") and problem.loss == "softmax_cross_entropy"


def _ratio(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}" if ratio < 1 else f"{ratio:,.{1 if ratio < 10 else 0}f}"


def draw(problem: Problem, results: Sequence[Result], summaries: Sequence[TargetSummary], out: Path) -> None:
    """Draw training and held-out quality against rounds and seconds, a line for each seed.

    Raises
    ------
    UsageError
        If the suffix is unknown, or matplotlib is not installed.
    CheckpointError
        If the file cannot be written.
    """
    quantities = _quantities(problem)
    figure = style.new_figure(10, 3.6 * len(quantities))
    axes: Any = figure.subplots(len(quantities), 2, sharex="col", sharey="row", squeeze=False)
    finals = [result for result in results if not result.run.is_trial]
    settings = list(dict.fromkeys(result.run.setting for result in finals))
    for i, quantity in enumerate(quantities):
        for j, cost in enumerate(("rounds", "seconds")):
            for result in finals:
                _line(axes[i, j], result, cost, quantity, settings.index(result.run.setting))
            values = {v for s in summaries if s.quantity == quantity and not s.is_reference for v in s.values if v}
            for value in values:
                axes[i, j].axhline(value, color="0.35", linewidth=1, linestyle=":")
            axes[i, j].set(xscale="log", yscale="log")
            style.tidy(axes[i, j])
        style.log_ticks(axes[i, 0].yaxis, is_share=_is_rate(problem, quantity))
        axes[i, 0].set_ylabel(NAMES[quantity])
    for j in (0, 1):
        style.log_ticks(axes[-1, j].xaxis)
    axes[-1, 0].set_xlabel("rounds")
    axes[-1, 1].set_xlabel("seconds without evaluations")
    _legend(figure, finals, settings)
    style.save(figure, out)


def _quantities(problem: Problem) -> list[str]:
    """Quantity of the first target, over training rows and over held-out rows."""
    name = problem.targets[0].quantity.removeprefix("test_")
    return [name, f"test_{name}"]


def _line(axes: Axes, result: Result, cost: str, quantity: str, k: int) -> None:
    # Logarithmic axes have no place for the start, which costs nothing, and for an error of 0.
    points = [point for point in result.points if point.rounds and getattr(point, quantity)]
    every = max(1, len(points) // _MARKS)
    axes.plot(
        [getattr(point, cost) for point in points],
        [_best(points[: n + 1], quantity) for n in range(len(points))],
        **_look(result.run.method, k),
        markevery=every,
        linewidth=1.8 if result.run.seed == 0 else 0.8,
        markersize=5 if result.run.seed == 0 else 0,
    )


def _best(points: Sequence[Point], quantity: str) -> float:
    """Lowest value so far: what a target is compared with."""
    lowest: float = min(getattr(point, quantity) for point in points)
    return lowest


def _look(method: str, k: int) -> dict[str, Any]:
    """Colour and marker of a setting; methods that are first-order are dashed and hollow."""
    if not CONTESTANTS[method].is_first_order:
        return style.look(k)
    return {**style.look(k), "linestyle": style.DASHED, "markerfacecolor": "white"}


def _legend(figure: Any, results: Sequence[Result], settings: Sequence[str]) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    methods = {result.run.setting: result.run.method for result in results}
    handles = [Line2D([], [], **_look(methods[name], k), label=name) for k, name in enumerate(settings)]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
