"""Figure 3 of the paper: errors by size of the curvature sample and the minibatch, and the cost to reach an error."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hfnumba.figures import style
from hfnumba.figures.experiment import Experiment, Laboratory
from hfnumba.figures.material import laboratory
from hfnumba.figures.options import FigureOptions
from hfnumba.figures.plan import planned
from hfnumba.figures.summary import ERRORS, Series, band, best_of, carry_out, results, write_table
from hfnumba.progress import Reporter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVATURE = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
BATCHES = (64, 256, 1024)
RATES = (0.1, 0.3, 1.0)
_COSTS = {"iteration": "iterations", "epoch": "effective passes", "rounds": "rounds"}


def make(options: FigureOptions, reporter: Reporter) -> list[Path]:
    """Make the runs, draw, and return the files written.

    The network has 400 and 150 hidden units. hf-bicgstab runs with our defaults, and sgd at the best of three learning
    rates for each size of the minibatch (fewest rounds to 1 % training error with seed 0).

    Raises
    ------
    HfnumbaError
        Errors of training; :class:`FigureStopped` after a signal.
    """
    lab, seeds = laboratory(options, reporter)
    hf, sgd = planned(lab, lambda lab: _runs(lab, seeds, options.quick))
    series = [*hf.values(), *sgd.values()]
    return [*_draw(options.out, hf, sgd), *write_table(options.out, "three", results(series), series)]


def _runs(lab: Laboratory, seeds: tuple[int, ...], quick: bool) -> tuple[dict[int, Series], dict[int, Series]]:
    """Make the runs of hf-bicgstab by curvature rows, and those of sgd by rows of a minibatch."""
    base = Experiment.of(hidden=(400, 150), max_iterations=8 if quick else 25)
    n_rows = lab.store["train"].n_rows
    hf = {
        rows: carry_out(lab, f"hf-bicgstab, {rows} rows", base.but(curvature_rows=rows), seeds)
        for rows in _sizes((256, 1024, 4096) if quick else CURVATURE, n_rows)
    }
    sgd = {}
    for batch in _sizes((64, 1024) if quick else BATCHES, n_rows):
        rates = (0.3,) if quick else RATES
        best = best_of(lab, [base.but(method="sgd", batch_rows=batch, learning_rate=r) for r in rates], ERRORS[-1])
        sgd[batch] = carry_out(lab, f"sgd, {batch} rows, rate {best.settings.learning_rate:g}", best, seeds)
    return hf, sgd


def _sizes(sizes: tuple[int, ...], n_rows: int) -> list[int]:
    """Omit sizes larger than the data; for small data, use all rows."""
    return [size for size in sizes if size <= n_rows] or [n_rows]


def _draw(out: Path, hf: dict[int, Series], sgd: dict[int, Series]) -> list[Path]:
    figure = style.new_figure(13, 6.6)
    axes: Any = figure.subplots(2, 4)
    for j, (method, runs) in enumerate((("hf-bicgstab", hf), ("sgd", sgd))):
        for i, (field, what) in enumerate((("error", "training"), ("test_error", "test"))):
            _curves(axes[0, 2 * j + i], runs, field)
            axes[0, 2 * j + i].set(ylabel=f"{what} error in %", xlabel="epochs" if j else "iterations")
            axes[0, 2 * j + i].set_title(f"{'abcd'[2 * j + i]}  {method}", loc="left", fontsize=10)
        title = "minibatch rows" if j else "curvature rows"
        axes[0, 2 * j].legend(title=title, fontsize=7, title_fontsize=7, ncols=2, frameon=False, loc="upper right")
    for j, (cost, what) in enumerate(_COSTS.items()):
        _to_errors(axes[1, j], hf, cost)
        axes[1, j].set(xlabel="curvature rows", ylabel=f"{what} to a training error")
        axes[1, j].set_title(f"{'efg'[j]}  hf-bicgstab", loc="left", fontsize=10)
    _to_errors(axes[1, 3], sgd, "rounds")
    axes[1, 3].set(xlabel="minibatch rows", ylabel="rounds to a training error")
    axes[1, 3].set_title("h  sgd", loc="left", fontsize=10)
    axes[1, 0].legend(title="training error", fontsize=7, title_fontsize=7, frameon=False)
    return style.save_both(figure, out, "three")


def _curves(axes: Axes, runs: dict[int, Series], field: str) -> None:
    for colour, (rows, one) in zip(style.shades(len(runs)), runs.items(), strict=True):
        band(axes, one, "iteration", field, scale=100, color=colour, linewidth=1.6, label=str(rows))
    style.error_axis(axes)
    style.tidy(axes)


def _to_errors(axes: Axes, runs: dict[int, Series], cost: str) -> None:
    """Draw the median over the seeds with their range; a size has no point if a seed does not reach the error."""
    tops = []
    for k, error in enumerate(ERRORS):
        costs = {rows: one.to_error(error, cost) for rows, one in runs.items()}
        reached = {rows: [c for c in found if c is not None] for rows, found in costs.items() if None not in found}
        middles = [median(found) for found in reached.values()]
        below = [middle - min(found) for middle, found in zip(middles, reached.values(), strict=True)]
        above = [max(found) - middle for middle, found in zip(middles, reached.values(), strict=True)]
        tops.append([max(found) for found in reached.values()])
        axes.errorbar(
            list(reached), middles, [below, above], **style.look(k), capsize=2.5, markersize=4, label=f"{error:.0%}"
        )
    style.powers_of_two(axes, list(runs))
    axes.tick_params(axis="x", labelrotation=45)
    axes.set_ylim(0, 1.15 * max([1.0, *(bar for bars in tops for bar in bars)]))
    style.tidy(axes)
