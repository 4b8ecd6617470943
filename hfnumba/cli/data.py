"""The commands `hfnumba data …`: build, describe and verify stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hfnumba.cli.build_options import build_options, chosen_recipe
from hfnumba.cli.common import INTERRUPTED, AnyPath, Failure, json_option, print_json
from hfnumba.cli.progress import stderr_reporter
from hfnumba.cli.tables import number, print_table
from hfnumba.errors import printable
from hfnumba.path_text import path_text

SHOWN_CLASSES = 60
SHOWN_COLUMNS = 60
SHOWN_CATEGORIES = 5
BAR_WIDTH = 40


@click.group()
def data() -> None:
    """Build, describe and verify stores."""


@data.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the recipes that come with hfnumba."""
    from hfnumba.ingest.recipes import list_recipes

    recipes = list_recipes()
    if as_json:
        keys = ("name", "title", "licence", "homepage", "format")
        print_json([{key: getattr(recipe, key) for key in keys} for recipe in recipes])
        return
    print_table(["recipe", "title", "licence"], [[recipe.name, recipe.title, recipe.licence] for recipe in recipes])


@data.command()
@build_options
def build(
    *,
    recipe: str,
    source: Path | None,
    out: Path | None,
    partitions: int | None,
    rows: int | None,
    validation: float | None,
    seed: int,
    **of_table: Any,
) -> None:
    """Build a store from a recipe, an .npz file or a table.

    RECIPE is a name from `hfnumba data list`, a .toml recipe, an .npz file, or a single table.

    A single table is a .csv or .parquet file with names of columns; --label says which is to be predicted. Text becomes
    categories, missing values are replaced, numbers are standardised, and 20 % of the rows become the test split.

    A recipe of your own can read speech (Kaldi archives, recordings with labels), tables (CSV, Parquet, HDF5, libsvm)
    or arrays (.npy, Zarr) from the folder of --source.

    The same command continues an interrupted build. Prints the path of the store.
    """
    from hfnumba.ingest import build as build_store

    chosen, source = chosen_recipe(recipe, source, **of_table)
    try:
        with stderr_reporter() as reporter:
            store = build_store(
                chosen,
                source,
                out,
                n_partitions=partitions,
                rows=rows,
                seed=seed,
                validation=validation,
                reporter=reporter,
            )
    except KeyboardInterrupt:
        raise Failure("interrupted; the same command continues the build", INTERRUPTED) from None
    sizes = ", ".join(f"{split.n_rows} {name}" for name, split in store.splits.items())
    _note(f"The store {store.path} is complete: {sizes} rows, digest {store.digest[:12]}")
    click.echo(store.path)


@data.command()
@build_options
def init(
    *,
    recipe: str,
    source: Path | None,
    out: Path | None,
    partitions: int | None,
    rows: int | None,
    validation: float | None,
    seed: int,
    **of_table: Any,
) -> None:
    """Begin a store whose partitions separate jobs write.

    Prints the number of partitions. Then run `hfnumba data partition STORE J` for each J from 0 to that number minus
    one, and at the end `hfnumba data finalise STORE`.
    """
    from hfnumba.ingest import init as init_store

    chosen, source = chosen_recipe(recipe, source, **of_table)
    with stderr_reporter() as reporter:
        path, n_partitions = init_store(
            chosen, source, out, n_partitions=partitions, rows=rows, seed=seed, validation=validation, reporter=reporter
        )
    _note(f"The store {path} is begun: write partitions 0 to {n_partitions - 1}, then finalise")
    click.echo(n_partitions)


@data.command()
@click.argument("store", type=AnyPath)
@click.argument("j", type=click.IntRange(min=0))
def partition(store: Path, j: int) -> None:
    """Write partition J of a store that `hfnumba data init` began. Safe to repeat."""
    from hfnumba.ingest import write_partition

    with stderr_reporter() as reporter:
        write_partition(store, j, reporter=reporter)
    _note(f"Partition {j} of {store} is written")


@data.command()
@click.argument("store", type=AnyPath)
def finalise(store: Path) -> None:
    """Check the partitions of a store and complete it. Safe to repeat."""
    from hfnumba.ingest import finalise as finalise_store

    with stderr_reporter() as reporter:
        complete = finalise_store(store, reporter=reporter)
    _note(f"The store {complete.path} is complete: digest {complete.digest[:12]}")


@data.command()
@click.argument("store", type=AnyPath)
@click.option("--quick", is_flag=True, help="Read only the manifest, without class counts and ranges.")
@json_option
def info(store: Path, quick: bool, as_json: bool) -> None:
    """Describe a store: sources, splits, sizes, classes and ranges."""
    from hfnumba.store import open_store
    from hfnumba.store.info import info as describe
    from hfnumba.store.info import survey
    from hfnumba.versions import as_text

    opened = open_store(store)
    found = describe(opened)
    measured = None
    if not quick:
        with stderr_reporter() as reporter:
            measured = survey(opened, reporter)
    if as_json:
        found["path"] = path_text(opened.path)
        print_json(found if measured is None else found | {"rows": measured})
        return
    splits = found.pop("splits")
    sources = found.pop("sources")
    named = found.pop("columns")
    targets = found.pop("targets")
    del found["recipe"]
    found["versions"] = as_text(found["versions"])
    print_table(["property", "value"], [[key, "" if value is None else str(value)] for key, value in found.items()])
    columns = list(next(iter(splits.values())))
    _next_table(["split", *columns], [[name, *map(str, split.values())] for name, split in splits.items()])
    _next_table(
        ["source", "bytes", "sha256"], [[source["name"], str(source["nbytes"]), source["sha256"]] for source in sources]
    )
    if named:
        _columns(named, None if measured is None else measured["splits"]["train"])
    if targets:
        print_table(
            ["target", "mean", "deviation"],
            [[target["name"], number(target["mean"]), number(target["deviation"])] for target in targets],
        )
    if measured is not None:
        _ranges(measured["splits"])
        _histogram(measured["classes"], measured["splits"])


@data.command()
@click.argument("store", type=AnyPath)
@json_option
def verify(store: Path, as_json: bool) -> None:
    """Verify a store: read every byte and list all faults.

    Exit status 1 if there are any.
    """
    from hfnumba.errors import StoreError
    from hfnumba.store.store import read_manifest
    from hfnumba.store.verify import verify as find_problems

    # Not open_store, which raises at the first missing file: here all faults are listed.
    opened = read_manifest(store)
    with stderr_reporter() as reporter:
        problems = find_problems(opened, reporter)
    rows = sum(split.n_rows for split in opened.splits.values())
    if as_json:
        faults = [printable(problem) for problem in problems]
        print_json(
            {
                "store": path_text(opened.path),
                "sound": not faults,
                "faults": faults,
                "n_files": len(opened.manifest.files),
                "n_rows": rows,
                "digest": opened.digest,
            }
        )
    for problem in () if as_json else problems:
        click.echo(printable(problem))
    if problems:
        raise StoreError(
            f"{store} is damaged (faults found: {len(problems)}); restore the files from a copy, or delete the store "
            f"and build it again"
        )
    if not as_json:
        click.echo(f"{store} is sound: {len(opened.manifest.files)} files, {rows} rows, digest {opened.digest[:12]}")


_EXACT = 1e10
"""Whole numbers below are shown with all their digits."""


def stored(value: float) -> str:
    """Format a number of a store: 30.1 for the float32 next to it, which is 30.1000003814…."""
    import numpy as np

    if (value.is_integer() and abs(value) < _EXACT) or abs(value) > float(np.finfo(np.float32).max):
        return f"{value:.10g}"
    rounded = np.float32(value)
    return f"{float(str(rounded)) if float(rounded) == value else value:.10g}"


def _columns(columns: list[dict[str, Any]], train: dict[str, Any] | None) -> None:
    """Print the columns that are features, with their type and their range in the training rows, if measured."""
    rows, at = [], 0
    for column in columns:
        categories, fill = column["categories"], column["fill"]
        if categories is not None:
            shown = ", ".join(categories[:SHOWN_CATEGORIES]) + (", …" if len(categories) > SHOWN_CATEGORIES else "")
            kind, width = f"{len(categories)} categories", len(categories) + column["missing"]
            values = shown + (", or missing" if column["missing"] else "")
        else:
            kind, width = "number", 1
            values = "" if train is None else f"{stored(train['minimum'][at])} to {stored(train['maximum'][at])}"
            values += "" if fill is None else f" (missing: {fill:.10g})"
        rows.append([column["name"], kind, values.strip()])
        at += width
    _next_table(["feature's column", "type", "values in train"], rows[:SHOWN_COLUMNS])
    if len(rows) > SHOWN_COLUMNS:
        _note(f"{len(rows) - SHOWN_COLUMNS} more columns; --json has all")


def _ranges(splits: dict[str, Any]) -> None:
    """Print the ranges over all features of each split, as stored."""
    rows = []
    for name, split in splits.items():
        low, high = min(split["minimum"]), max(split["maximum"])
        constant = sum(a == b for a, b in zip(split["minimum"], split["maximum"], strict=True))
        mean = sum(split["mean"]) / len(split["mean"])
        rows.append([name, f"{low:g}", f"{high:g}", f"{mean:g}", str(constant)])
    _next_table(["split", "smallest feature", "largest", "mean of all", "constant features"], rows)


def _histogram(classes: list[str], splits: dict[str, Any]) -> None:
    """Print the number of rows of each class: all classes if they are few, otherwise the largest ones and a summary."""
    counts = {name: split["class_counts"] for name, split in splits.items() if "class_counts" in split}
    if not counts:
        return
    train = counts["train"]
    order = list(range(len(classes)))
    if len(order) > SHOWN_CLASSES:
        order = sorted(order, key=lambda k: -train[k])[:SHOWN_CLASSES]
    largest = max(1, *train)
    rows = [
        [classes[k], *(str(of_split[k]) for of_split in counts.values()), "#" * round(BAR_WIDTH * train[k] / largest)]
        for k in order
    ]
    _next_table(["class", *counts, "share of train"], rows)
    if len(order) < len(classes):
        empty = sum(n == 0 for n in train)
        _note(f"{len(classes) - len(order)} more classes; {empty} classes have no training rows")


def _next_table(columns: list[str], rows: list[list[str]]) -> None:
    click.echo()
    print_table(columns, rows)


def _note(text: str) -> None:
    click.echo(printable(text), err=True)
