"""Progress bar of an optimiser's iterations, in a notebook or on a terminal."""

from __future__ import annotations

from collections.abc import Generator

from hfnumba.optim.iteration import Iteration, OptimizerState


def shown(
    iterations: Generator[Iteration, None, OptimizerState | None], limit: int | None
) -> Generator[Iteration, None, OptimizerState | None]:
    """Yield the iterations, and show how many are done, of how many, with loss and error of the last one.

    In a notebook the bar is a part of the output; elsewhere it is drawn on stderr, and where that is no terminal only
    its last state is printed.
    """
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = TextColumn("iteration"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}")
    console = Console(stderr=not Console().is_jupyter)
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        bar = bars.add_task("", total=limit)
        while True:
            try:
                iteration = next(iterations)
            except StopIteration as end:
                state: OptimizerState | None = end.value
                return state
            text = f"loss {iteration.loss:.4g}, error {iteration.error:.4g}"
            bars.update(bar, completed=iteration.iteration, description=text)
            yield iteration
