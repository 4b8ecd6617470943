"""Summaries of ledgers: lines and bands over seeds, costs to reach an error, tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hfnumba import ledger
from hfnumba.figures import style
from hfnumba.figures.experiment import Experiment, Laboratory, Lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS = {
    "iteration": "outer iterations",
    "epoch": "effective passes over the data",
    "rounds": "rounds of communication",
}
ERRORS = (0.04, 0.02, 0.01)
"""Training errors at which runs are compared."""


@dataclass(frozen=True)
class Series:
    """Runs of one setting with several seeds.

    Attributes
    ----------
    name : str
        Name in legends and tables.
    experiments : tuple of Experiment
        Experiments that differ in their seed.
    ledgers : tuple of lines
        Ledgers, in the same order.
    """

    name: str
    experiments: tuple[Experiment, ...]
    ledgers: tuple[Lines, ...]

    def to_error(self, error: float, cost: str) -> list[float | None]:
        """Return, for each seed, the cost at the first line with at most this training error; None if there is none."""
        return [None if (line := reaches(lines, error)) is None else line[cost] for lines in self.ledgers]


def carry_out(lab: Laboratory, name: str, experiment: Experiment, seeds: Sequence[int]) -> Series:
    """Run an experiment with each seed."""
    experiments = tuple(experiment.but(seed=seed) for seed in seeds)
    return Series(name, experiments, tuple(lab.ledgers(experiments)))


def best_of(lab: Laboratory, experiments: Sequence[Experiment], error: float) -> Experiment:
    """Run a grid; return the experiment with the fewest rounds to an error, or, if none reaches it, the lowest loss."""
    ledgers = lab.ledgers(experiments)

    def rank(k: int) -> tuple[float, float]:
        line = reaches(ledgers[k], error)
        loss = ledgers[k][-1]["loss"]
        return (float("inf") if line is None else line["rounds"], float("inf") if loss is None else loss)

    return experiments[min(range(len(experiments)), key=rank)]


def reaches(lines: Lines, error: float) -> ledger.Line | None:
    """Return the first line with at most this training error."""
    return next((line for line in lines if line["error"] is not None and line["error"] <= error), None)


def band(axes: Axes, series: Series, cost: str, field: str, *, scale: float = 1.0, **looks: Any) -> None:
    """Draw the median over the seeds at each iteration against the median cost, and a band of their range."""
    points = [
        (median(line[cost] for line in lines), [scale * line[field] for line in lines])
        for lines in zip(*series.ledgers, strict=False)
        if all(line[field] is not None for line in lines)
    ]
    x = [at for at, _ in points]
    axes.plot(x, [median(values) for _, values in points], **looks)
    axes.fill_between(
        x,
        [min(values) for _, values in points],
        [max(values) for _, values in points],
        color=looks["color"],
        alpha=0.2,
        linewidth=0,
    )


def spread(values: Sequence[float | None], form: Callable[[float], str] = "{:,.0f}".format) -> str:
    """Format the median and the range over the seeds, or, if some have no value, the number of those that have."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–" if not known else f"{form(median(known))} ({len(known)} of {len(values)} seeds)"
    low, high, middle = form(min(known)), form(max(known)), form(median(known))
    return middle if low == high else f"{middle} ({low}–{high})"


def percent(value: float) -> str:
    """Format a share in %."""
    return f"{100 * value:.2f} %"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def results(series: Sequence[Series]) -> str:
    """Return a table of the final losses and errors of each series, and of its costs to reach the errors."""
    header = ["", "loss at the end", "training error", "test error"]
    header += [f"{what} to {error:.0%}" for error in ERRORS for what in ("iterations", "rounds")]
    header += ["passes to 1%", "MB to 1%"]
    rows = []
    for one in series:
        ends = [lines[-1] for lines in one.ledgers]
        row = [one.name, spread([end["loss"] for end in ends], "{:.4f}".format)]
        row += [spread([end[field] for end in ends], percent) for field in ("error", "test_error")]
        row += [spread(one.to_error(error, cost)) for error in ERRORS for cost in ("iteration", "rounds")]
        row += [spread(one.to_error(ERRORS[-1], "epoch"), "{:.1f}".format)]
        megabytes = [None if n is None else n / 1e6 for n in one.to_error(ERRORS[-1], "nbytes")]
        rows.append([*row, spread(megabytes)])
    return markdown(header, rows)


def write_table(out: Path, name: str, text: str, series: Sequence[Series]) -> list[Path]:
    """Write a table as Markdown, with the commands of its runs, and the numbers of all ledgers as JSON."""
    commands = "\n".join(f"- {one.name}: `{one.experiments[0].command}`" for one in series)
    seeds = [str(experiment.settings.seed) for experiment in series[0].experiments]
    what = f"Seed {seeds[0]}." if len(seeds) == 1 else f"Median (and range) over the seeds {', '.join(seeds)}."
    body = f"{text}\n\n{what} The runs, with the first seed:\n\n{commands}\n"
    fields = ("iteration", "epoch", "rounds", "nbytes", "loss", "error", "test_loss", "test_error")
    numbers = {
        one.name: [{field: [line[field] for line in lines] for field in fields} for lines in one.ledgers]
        for one in series
    }
    return [
        style.write(out / f"{name}.md", body.encode()),
        style.write(out / f"{name}.json", (json.dumps(numbers, indent=1) + "\n").encode()),
    ]
