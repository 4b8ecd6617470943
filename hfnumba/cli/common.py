"""Exit statuses, errors and parameter types that several commands share."""

from __future__ import annotations

import difflib
import json
import logging
from pathlib import Path
from typing import Any

import click

from hfnumba.errors import printable

AnyPath = click.Path(path_type=Path)
"""Type of parameters that are paths, existing or not."""

FAILED, WRONG_USE, RESUMABLE, INTERRUPTED = 1, 2, 75, 130
"""Exit statuses; 75 (EX_TEMPFAIL) means stopped at a checkpoint, to be resumed."""


class Choice(click.Choice[str]):
    """One of several words; a wrong one is refused with the list and the nearest of them."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return the message for a word that is none of the choices."""
        near = difflib.get_close_matches(str(value), list(self.choices), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return super().get_invalid_choice_message(value, ctx) + hint


checkpoint_option = click.option(
    "--checkpoint",
    type=Choice(["best", "newest"]),
    default="best",
    show_default=True,
    help="Checkpoint of RUN: the one with the lowest validation loss (the newest, without validation rows), or the "
    "newest.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""Option of commands that can print their result as JSON on stdout."""


class _Messages(logging.Handler):
    """Prints messages of the package on stderr, above bars if there are any."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        click.echo(printable(record.getMessage()), err=True)


def _show_info(_ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    log = logging.getLogger("hfnumba")
    if value and not any(isinstance(handler, _Messages) for handler in log.handlers):
        log.addHandler(_Messages())
        log.setLevel(logging.INFO)


def verbose_option() -> click.Option:
    """Return the option ``-v``, which every command has: show also messages of the level INFO."""
    text = "Show details of this process: its kernels, and how its memory is divided."
    return click.Option(["-v", "--verbose"], is_flag=True, expose_value=False, callback=_show_info, help=text)


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
