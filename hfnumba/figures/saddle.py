"""Figure of the plateau around zero weights: which methods leave it, and when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hfnumba.figures import style
from hfnumba.figures.experiment import Experiment, Laboratory, Lines
from hfnumba.figures.material import laboratory
from hfnumba.figures.options import FigureOptions
from hfnumba.figures.plan import planned
from hfnumba.figures.summary import COSTS, Series, band, carry_out, markdown, spread, write_table
from hfnumba.progress import Reporter

SECOND_ORDER = ("hf-bicgstab", "gn-cg", "hf-steihaug", "hf-cg")
FIRST_ORDER = {"sgd": {}, "momentum": {}, "momentum, 4096 rows": {"batch_rows": 4096}, "adam": {}}
"""Stochastic methods with their settings: minibatches of 64 rows, and one of the size of a curvature sample."""
LEFT = 0.95
"""Share of the initial loss below which the plateau is left."""
EPOCHS = (20, 40, 60, 80, 100)
"""Limits of iterations: the first for second-order methods; a stochastic method continues to the next while a seed
stays on the plateau."""


def make(options: FigureOptions, reporter: Reporter) -> list[Path]:
    """Make the runs, draw, and return the files written.

    The network has 400 and 150 hidden units; all initial weights are normal with deviation 0.001.

    Raises
    ------
    HfnumbaError
        Errors of training; :class:`FigureStopped` after a signal.
    """
    lab, seeds = laboratory(options, reporter)
    series = planned(lab, lambda lab: _runs(lab, seeds, options.quick))
    return [*_draw(options.out, series), *write_table(options.out, "saddle", _table(series), series)]


def _runs(lab: Laboratory, seeds: Sequence[int], quick: bool) -> list[Series]:
    base = Experiment.of(hidden=(400, 150), init="tiny")
    second_order, first_order = (SECOND_ORDER[:3], ("momentum",)) if quick else (SECOND_ORDER, (*FIRST_ORDER,))
    limits, rows = ((8,), 1024) if quick else (EPOCHS, 2048)
    second = base.but(curvature_rows=rows, max_iterations=limits[0])
    series = [carry_out(lab, method, second.but(method=method), seeds) for method in second_order]
    stochastic = {name: base.but(method=name.partition(",")[0], **FIRST_ORDER[name]) for name in first_order}
    return series + [until_left(lab, name, experiment, seeds, limits) for name, experiment in stochastic.items()]


def until_left(
    lab: Laboratory, name: str, experiment: Experiment, seeds: Sequence[int], limits: Sequence[int] = EPOCHS
) -> Series:
    """Run an experiment with each seed, and continue to the next limit while a seed has not left the plateau."""
    for limit in limits:
        series = carry_out(lab, name, experiment.but(max_iterations=limit), seeds)
        if all(leaves(lines, "iteration") is not None for lines in series.ledgers):
            break
    return series


def leaves(lines: Lines, cost: str) -> float | None:
    """Return the cost at which a run leaves the plateau; None if it does not."""
    start = lines[0]["loss"]
    return next((line[cost] for line in lines if line["loss"] is not None and line["loss"] < LEFT * start), None)


def _table(series: list[Series]) -> str:
    header = ["", *(f"{what} on the plateau" for what in ("iterations", "passes", "rounds"))]
    header += ["directions of negative curvature taken there", "iterations in all", "loss at the end"]
    rows = []
    for one in series:
        row = [f"`{one.name}`", *(spread([leaves(lines, cost) for lines in one.ledgers]) for cost in COSTS)]
        row += [spread([_taken(lines) for lines in one.ledgers])]
        row += [spread([lines[-1]["iteration"] for lines in one.ledgers])]
        rows.append([*row, spread([lines[-1]["loss"] for lines in one.ledgers], "{:.3f}".format)])
    return markdown(header, rows)


def _taken(lines: Lines) -> int:
    """Count the steps along negative curvature until the plateau is left."""
    end = leaves(lines, "iteration")
    stay = [line for line in lines if end is None or line["iteration"] <= end]
    return sum(line.get("direction") == "negative_curvature" for line in stay)


def _draw(out: Path, series: list[Series]) -> list[Path]:
    figure = style.new_figure(10.5, 3.9)
    axes: Any = figure.subplots(1, len(COSTS), sharey=True)
    methods = list(dict.fromkeys(one.experiments[0].settings.method for one in series))
    for j, (cost, label) in enumerate(COSTS.items()):
        for one in series:
            looks = style.look(methods.index(method := one.experiments[0].settings.method))
            looks |= {"linestyle": "-" if one.name == method else style.DASHED, "linewidth": 1.6, "markersize": 3.2}
            band(axes[j], one, cost, "loss", **looks, label=one.name)
        axes[j].set_xlabel(label if cost != "iteration" else "iterations (first-order: epochs)")
        style.counts_axis(axes[j], max(line[cost] for one in series for lines in one.ledgers for line in lines))
        start = series[0].ledgers[0][0]["loss"]
        left = {"color": "0.5", "linewidth": 0.9, "linestyle": style.DASHED}
        axes[j].axhline(LEFT * start, **left, label=f"{LEFT:.0%} of the initial loss")
        style.tidy(axes[j])
    axes[0].set_ylabel("training loss")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return style.save_both(figure, out, "saddle")
