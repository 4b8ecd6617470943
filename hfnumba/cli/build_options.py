"""Options that `hfnumba data build` and `init` share, and the recipe that they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hfnumba.cli.common import AnyPath, Choice
from hfnumba.cli.progress import stderr_reporter
from hfnumba.errors import UsageError

if TYPE_CHECKING:
    from hfnumba.ingest.recipes import Recipe
    from hfnumba.store.manifest import Task


_OF_A_TABLE = (
    click.option("--drop", multiple=True, metavar="COLUMN", help="Column of a single table to leave out; repeatable."),
    click.option(
        "--categorical",
        multiple=True,
        metavar="COLUMN",
        help="Column of a single table whose numbers are categories; repeatable.",
    ),
    click.option(
        "--task",
        type=Choice(["classification", "regression"]),
        help="Task of a single table.  [default: by the values of its labels]",
    ),
    click.option(
        "--label",
        multiple=True,
        metavar="COLUMN",
        help="Column of a single table that is to be predicted: classes, or the target of a regression; repeatable "
        "for several targets.",
    ),
)
"""Options of a single table."""


def build_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that `build` and `init` share."""
    for decorate in (
        click.option(
            "--seed",
            type=click.IntRange(0, 2**63 - 1),
            default=0,
            show_default=True,
            help="Seed for the shuffle.",
        ),
        click.option(
            "--rows",
            type=click.IntRange(min=1),
            help="Number of training rows to take, drawn by the seed; for speech, the whole utterances that fit.  "
            "[default: all]",
        ),
        click.option(
            "--validation",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            metavar="FRACTION",
            help="Share of the training rows (for speech, utterances), drawn by the seed, that becomes the split "
            "validation.  [default: none]",
        ),
        click.option(
            "--partitions",
            type=click.IntRange(min=1),
            help="Number of partitions, the units of parallel work; at least workers times threads.  "
            "[default: 16, or more so that none takes over 15 MiB]",
        ),
        click.option("--out", type=AnyPath, help="Folder of the store.  [default: NAME.zarr]"),
        click.option("--source", type=AnyPath, help="Folder with the source files.  [default: download them]"),
        *_OF_A_TABLE,
        click.argument("recipe"),
    ):
        command = decorate(command)
    return command


def chosen_recipe(
    recipe: str,
    source: Path | None,
    *,
    label: tuple[str, ...],
    task: Task | None,
    categorical: tuple[str, ...],
    drop: tuple[str, ...],
) -> tuple[Recipe | str, Path | None]:
    """Recipe and folder of its files: for a single table they are made here."""
    from hfnumba.ingest.one_table import table_format, table_recipe

    path, given = Path(recipe), {"--label": label, "--task": task, "--categorical": categorical, "--drop": drop}
    if table_format(path) is None:
        if names := [name for name, value in given.items() if value]:
            raise UsageError(f"{', '.join(names)} is for a .csv or .parquet file; a recipe says this itself")
        return recipe, source
    if not label:
        raise UsageError(f"{path} is a single table; give --label, the name of the column to be predicted")
    if source is not None:
        raise UsageError(f"--source is the folder of a recipe's files; leave it out for the single table {path}")
    with stderr_reporter() as reporter:
        made = table_recipe(path, label, task=task, categorical=categorical, drop=drop, reporter=reporter)
    return made, path.resolve().parent
