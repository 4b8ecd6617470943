"""Figure 1 of the paper: loss against iterations, effective passes and rounds, by method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfnumba.figures import style
from hfnumba.figures.experiment import Experiment, Laboratory
from hfnumba.figures.material import laboratory
from hfnumba.figures.options import FigureOptions
from hfnumba.figures.plan import planned
from hfnumba.figures.summary import COSTS, ERRORS, Series, band, best_of, carry_out, results, write_table
from hfnumba.progress import Reporter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SECOND_ORDER = ("hf-cg", "gn-cg", "hybrid-cg", "hf-bicgstab")
READINGS = {"the paper's text, read literally": True, "our defaults": None}
ADAM = [(batch, rate) for batch in (1024, 2048) for rate in (0.004, 0.008, 0.016)]
SGD = [(64, rate) for rate in (0.1, 0.3)]


def make(options: FigureOptions, reporter: Reporter) -> list[Path]:
    """Make the runs, draw, and return the files written.

    The network has 400 hidden units. There are two rows of panels: the second-order methods by the text of the paper
    and with our defaults. Both have sgd and adam, each at the best settings of a grid (fewest rounds to 1 % training
    error with seed 0).

    Raises
    ------
    HfnumbaError
        Errors of training; :class:`FigureStopped` after a signal.
    """
    lab, seeds = laboratory(options, reporter)
    first_order, groups = planned(lab, lambda lab: _runs(lab, seeds, options.quick))
    pictures = _draw(options.out, first_order, groups)
    series = first_order + [
        Series(f"{one.name}, {title}", one.experiments, one.ledgers) for title, group in groups.items() for one in group
    ]
    return [*pictures, *write_table(options.out, "one", results(series), series)]


def _runs(lab: Laboratory, seeds: tuple[int, ...], quick: bool) -> tuple[list[Series], dict[str, list[Series]]]:
    """Make the runs of first-order methods, and of the others by reading of the paper."""
    base = Experiment.of(hidden=(400,), max_iterations=8 if quick else 30)
    first_order = [
        _first_order(lab, base, "sgd", SGD[1:] if quick else SGD, seeds),
        _first_order(lab, base, "adam", ADAM[-1:] if quick else ADAM, seeds),
    ]
    groups = {}
    for title, paper in READINGS.items():
        given: dict[str, Any] = {"curvature_rows": 1024 if quick else 2048} | ({"paper": True} if paper else {})
        groups[title] = [carry_out(lab, m, base.but(method=m, **given), seeds) for m in SECOND_ORDER]
    return first_order, groups


def _first_order(
    lab: Laboratory, base: Experiment, method: str, grid: list[tuple[int, float]], seeds: tuple[int, ...]
) -> Series:
    grid_runs = [base.but(method=method, batch_rows=batch, learning_rate=rate) for batch, rate in grid]
    best = best_of(lab, grid_runs, ERRORS[-1])
    name = f"{method} ({best.settings.batch_rows} rows, rate {best.settings.learning_rate:g})"
    return carry_out(lab, name, best, seeds)


def _draw(out: Path, first_order: list[Series], groups: dict[str, list[Series]]) -> list[Path]:
    figure = style.new_figure(10.5, 6.4)
    axes: Any = figure.subplots(len(groups), len(COSTS), sharex="col", sharey=True)
    for i, (title, group) in enumerate(groups.items()):
        for j, (cost, label) in enumerate(COSTS.items()):
            _panel(axes[i, j], [*first_order, *group], cost)
            if i == len(groups) - 1:
                axes[i, j].set_xlabel(label if cost != "iteration" else "iterations (sgd, adam: epochs)")
        axes[i, 0].set_ylabel("training loss")
        axes[i, 0].set_title(f"{'ab'[i]}  {title}", loc="left", fontsize=10)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return style.save_both(figure, out, "one")


def _panel(axes: Axes, series: list[Series], cost: str) -> None:
    for k, one in enumerate(series):
        line: dict[str, Any] = {"linewidth": 1.6, "markersize": 3.2, "markevery": 2, "label": one.name}
        band(axes, one, cost, "loss", **style.look(k), **line)
    axes.set_yscale("log")
    if cost == "rounds":
        axes.set_xscale("log")
    style.tidy(axes)
