"""Exit statuses, errors and parameter types that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hfnumba.errors import printable

AnyPath = click.Path(path_type=Path)
"""Type of parameters that are paths, existing or not."""

checkpoint_option = click.option(
    "--checkpoint",
    type=click.Choice(["best", "newest"]),
    default="best",
    show_default=True,
    help="Checkpoint of RUN: the one with the lowest validation loss (the newest, without validation rows), or the "
    "newest.",
)

FAILED, WRONG_USE, RESUMABLE, INTERRUPTED = 1, 2, 75, 130
"""Exit statuses; 75 (EX_TEMPFAIL) means stopped at a checkpoint, to be resumed."""


class Failure(click.ClickException):
    """Error that is printed as one line."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(printable(message))
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: Any = None) -> None:
        """Print the line on stderr."""
        click.echo(f"error: {self.format_message()}", err=True)
