"""Picture of figure 2: runs as points, the model as lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfnumba.figures import style
from hfnumba.figures.two_results import TIMIT_ROWS, Results
from hfnumba.figures.two_table import WORKERS, modelled, total

_PARTS = {"iteration": "one iteration", "gradient": "gradient", "krylov": "Krylov solve", "line_search": "line search"}
_EVERY = ("gradient", "line_search")
"""Parts that read all rows, independent of the curvature sample."""
_PAPER = 32
_GREY = "0.25"


def draw(out: Path, results: Results) -> list[Path]:
    """Draw two rows of four logarithmic panels: for the measured number of rows, and for that of TIMIT."""
    figure = style.new_figure(12.5, 6.6)
    axes: Any = figure.subplots(2, len(_PARTS))
    colours = dict(zip(results.plan.curvature_rows, style.shades(len(results.plan.curvature_rows)), strict=True))
    for i, n in enumerate((results.rows, TIMIT_ROWS)):
        last = max((*results.plan.waiting, *results.plan.workers)) if n == results.rows else WORKERS[-1]
        for j, part in enumerate(_PARTS):
            workers = tuple(p for p in WORKERS if p <= last)
            _panel(axes[i, j], results, n, part, colours=colours, workers=workers)
            if i == 0:
                axes[i, j].set_title(_PARTS[part])
            else:
                axes[i, j].set_xlabel("workers")
        axes[i, 0].set_ylabel(f"seconds, {n:,} rows{'' if n == results.rows else ' (TIMIT)'}")
    _legend(figure, colours, results.data)
    return style.save_both(figure, out, "two")


def _panel(
    axes: Any, results: Results, n: int, part: str, *, colours: dict[int, Any], workers: tuple[int, ...]
) -> None:
    curvature = results.plan.curvature_rows[-1:] if part in _EVERY else results.plan.curvature_rows
    for s in curvature:
        colour = _GREY if part in _EVERY else colours[s]
        star = [modelled(results, n, s, p)[part] for p in workers]
        tree = [modelled(results, n, s, p, tree=True)[part] for p in workers]
        axes.plot(workers, star, color=colour, linewidth=1.6)
        axes.plot(workers, tree, color=colour, linewidth=1.2, linestyle=style.DASHED)
        axes.plot(workers, [star[0] / p for p in workers], color="0.75", linewidth=0.8, zorder=0)
    for (p, rows, s), found in results.measured.items():
        if rows == n:
            colour = _GREY if part in _EVERY else colours[s]
            axes.plot(p, found["seconds"][part], "o", color=colour, markersize=6)
    for (p, rows, s), found in results.waited.items():
        if rows == n:
            colour = _GREY if part in _EVERY else colours[s]
            axes.plot(
                p, total(results, found["seconds"])[part], "s", color=colour, markersize=6, markerfacecolor="white"
            )
    axes.set_yscale("log")
    ticks = workers if len(workers) < 9 else workers[::2]
    style.powers_of_two(axes, ticks)
    axes.tick_params(labelsize=8)
    axes.axvline(_PAPER, color="0.6", linewidth=0.8, linestyle=(0, (1, 2)))
    style.tidy(axes)


def _legend(figure: Any, colours: dict[int, Any], data: str) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    def line(label: str, **looks: Any) -> Any:
        return Line2D([], [], label=label, **looks)

    point = {"color": _GREY, "linestyle": "none", "markersize": 6}
    rows = [line(f"{s:,} curvature rows", color=colour, linewidth=3) for s, colour in colours.items()]
    rows.append(line("all rows", color=_GREY, linewidth=3))
    kinds = [
        line("measured: processes that compute", marker="o", **point),
        line("measured: real engine, simulated kernels", marker="s", markerfacecolor="white", **point),
        line("modelled: no relays (star)", color=_GREY, linewidth=1.6),
        line("modelled: best tree of relays", color=_GREY, linewidth=1.2, linestyle=style.DASHED),
        line("time of one worker / workers", color="0.75", linewidth=0.8),
        line("largest run of the paper", color="0.6", linewidth=0.8, linestyle=(0, (1, 2))),
    ]
    figure.legend(handles=rows, loc="outside upper center", ncols=len(rows), frameon=False)
    title: dict[str, Any] = {"title": f"data: {data}", "title_fontsize": 9} if data else {}
    figure.legend(handles=kinds, loc="outside lower center", ncols=3, frameon=False, **title)
