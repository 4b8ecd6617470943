"""Bars on a terminal: the numbers of a step stand beside its bar, or below it where that is too narrow."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

SEPARATOR = " · "
_BAR_WIDTH = 20
_BESIDE = len("⠋ ") + _BAR_WIDTH + len(" 0:00:00 ")
"""Characters of a line besides the description and the numbers."""


class StackedBars(Progress):
    """Progress display of rich; the field ``text`` of a task holds its numbers, separated by ``SEPARATOR``."""

    def __init__(self, console: Console) -> None:
        self._output = console
        self._narrow = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_BAR_WIDTH),
            TimeElapsedColumn(),
        )
        super().__init__(*self._narrow, TextColumn("{task.fields[text]}", markup=False), console=console)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bars of all steps, or each bar and then its numbers if these do not fit beside it."""
        width = self._output.width
        if all(_BESIDE + len(task.description) + 1 + len(task.fields["text"]) <= width for task in self.tasks):
            yield from super().get_renderables()
            return
        for task in self.tasks:
            yield self._bar(task)
            yield Text("\n".join(filled(task.fields["text"], width)), overflow="fold")

    def _bar(self, task: Task) -> RenderableType:
        all_columns, self.columns = self.columns, self._narrow
        try:
            return self.make_tasks_table([task])
        finally:
            self.columns = all_columns


def filled(text: str, width: int) -> list[str]:
    """Break a text into lines at its separators, so that each number stays beside its name."""
    lines = [""]
    for part in text.split(SEPARATOR):
        joined = lines[-1] + SEPARATOR + part if lines[-1] else part
        if lines[-1] and len(joined) > width:
            lines.append(part)
        else:
            lines[-1] = joined
    return lines
