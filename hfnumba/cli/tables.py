"""Tables and numbers for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from hfnumba.errors import printable
from hfnumba.ledger import Line
from hfnumba.metrics import metrics_in


def number(value: float | None) -> str:
    """Format to four significant digits; a dash for None."""
    return "–" if value is None else f"{value:.4g}"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], err: bool = False) -> None:
    """Print a table: drawn on a terminal, otherwise tab-separated.

    On a terminal that is too narrow, a table with more columns than rows is transposed, and long values are folded.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    if not (sys.stderr if err else sys.stdout).isatty():
        for row in [columns, *rows]:
            click.echo("\t".join(row), err=err)
        return
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(stderr=err, markup=False, emoji=False)
    lines = [columns, *rows]
    width = sum(3 + max(map(len, column)) for column in zip(*lines, strict=True)) + 1
    if width > console.width and len(lines) < len(columns):
        lines = list(zip(*lines, strict=True))
    table = Table(*(Column(name, overflow="fold") for name in lines[0]))
    for line in lines[1:]:
        table.add_row(*line)
    console.print(table)


def print_summary(lines: Sequence[Line]) -> None:
    """Print the first, the best and the last iteration of a run on stderr."""
    if not lines:
        return
    metrics = metrics_in(lines[-1])
    chosen = [("start", lines[0])]
    if any(line["test_error"] is not None for line in lines):
        best = min((line for line in lines if line["test_error"] is not None), key=lambda line: line["test_error"])
        chosen.append((f"best test {metrics[0].name}", best))
    chosen.append(("end", lines[-1]))
    names = [metric.name for metric in metrics]
    tests = [f"test {name}" for name in names]
    print_table(
        ["", "iteration", "loss", *names, "test loss", *tests, "passes", "rounds", "MB", "seconds"],
        [
            [
                name,
                str(line["iteration"]),
                number(line["loss"]),
                *(metric.text(line[metric.key]) for metric in metrics),
                number(line["test_loss"]),
                *(metric.text(line.get(f"test_{metric.key}")) for metric in metrics),
                f"{line['epoch']:.1f}",
                str(line["rounds"]),
                f"{line['nbytes'] / 1e6:.1f}",
                f"{line['elapsed_s']:.1f}",
            ]
            for name, line in chosen
        ],
        err=True,
    )
