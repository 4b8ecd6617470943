"""Exit statuses, errors and parameter types that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hfnumba.errors import printable

AnyPath = click.Path(path_type=Path)
"""Type of parameters that are paths, existing or not."""

FAILED, WRONG_USE, RESUMABLE, INTERRUPTED = 1, 2, 75, 130
"""Exit statuses; 75 (EX_TEMPFAIL) means stopped at a checkpoint, to be resumed."""


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""Option of commands that can print their result as JSON on stdout."""


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, indent=1))


class Failure(click.ClickException):
    """Error that is printed as one line."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(printable(message))
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: Any = None) -> None:
        """Print the line on stderr."""
        click.echo(f"error: {self.format_message()}", err=True)
