"""The commands `hfnumba data …`: recipes become stores, stores are described and verified."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hfnumba.cli import INTERRUPTED, Failure
from hfnumba.cli.watch import watched

SHOWN_CLASSES = 60
BAR_WIDTH = 40
StorePath = click.Path(path_type=Path)


@click.group()
def data() -> None:
    """Build, describe and verify stores."""


def _build_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that `build` and `init` share."""
    for decorate in (
        click.option(
            "--seed",
            type=click.IntRange(0, 2**63 - 1),
            default=0,
            show_default=True,
            help="Key of the shuffle.",
        ),
        click.option(
            "--rows",
            type=click.IntRange(min=1),
            help="Keep this many training rows, drawn by the seed; of speech, the whole utterances that fit.",
        ),
        click.option(
            "--partitions",
            type=click.IntRange(min=1),
            help="Units of parallel work; at least as many as workers times threads.  "
            "[default: 16, more where one would take over 15 MiB]",
        ),
        click.option("--out", type=StorePath, help="Folder of the store.  [default: NAME.zarr]"),
        click.option("--source", type=StorePath, help="Folder that holds the files already; without it, download."),
        click.argument("recipe"),
    ):
        command = decorate(command)
    return command


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """List the recipes that come with hfnumba."""
    from hfnumba.ingest.recipes import list_recipes

    recipes = list_recipes()
    if as_json:
        keys = ("name", "title", "licence", "homepage", "format")
        click.echo(json.dumps([{key: getattr(recipe, key) for key in keys} for recipe in recipes], indent=1))
        return
    _table(["recipe", "what", "licence"], [[recipe.name, recipe.title, recipe.licence] for recipe in recipes])


@data.command()
@_build_options
def build(
    *, recipe: str, source: Path | None, out: Path | None, partitions: int | None, rows: int | None, seed: int
) -> None:
    """Build a store from RECIPE: a name from `hfnumba data list`, a .toml recipe, or an .npz file.

    Recipes of your own name speech (Kaldi archives, recordings with labels), tables (CSV, Parquet, HDF5, libsvm) or
    arrays (.npy, Zarr) in the folder of --source.

    An interrupted build is continued by the same command. The path of the store is printed.
    """
    from hfnumba.ingest import build as build_store

    try:
        with watched() as watch:
            store = build_store(
                recipe, source, out, n_partitions=partitions, rows=rows, seed=seed, say=_say, watch=watch
            )
    except KeyboardInterrupt:
        raise Failure("interrupted; the same command goes on with what is written", INTERRUPTED) from None
    held = ", ".join(f"{split.n_rows} {name}" for name, split in store.splits.items())
    _say(f"The store {store.path} is complete: {held} rows, digest {store.digest[:12]}")
    click.echo(store.path)


@data.command()
@_build_options
def init(
    *, recipe: str, source: Path | None, out: Path | None, partitions: int | None, rows: int | None, seed: int
) -> None:
    """Begin a store whose partitions are then written by any number of jobs; print how many there are.

    For each J from 0 to that number less one run `hfnumba data partition STORE J`, then
    `hfnumba data finalise STORE`.
    """
    from hfnumba.ingest import init as init_store

    with watched() as watch:
        path, n_parts = init_store(
            recipe, source, out, n_partitions=partitions, rows=rows, seed=seed, say=_say, watch=watch
        )
    _say(f"The store {path} is begun: write partitions 0 to {n_parts - 1}, then finalise")
    click.echo(n_parts)


@data.command()
@click.argument("store", type=StorePath)
@click.argument("j", type=click.IntRange(min=0))
def partition(store: Path, j: int) -> None:
    """Write partition J of a store that `init` began. Harmless when repeated."""
    from hfnumba.ingest import write_partition

    with watched() as watch:
        write_partition(store, j, watch=watch)
    _say(f"Partition {j} of {store} is written")


@data.command()
@click.argument("store", type=StorePath)
def finalise(store: Path) -> None:
    """Check the partitions of a store and complete it. Harmless when repeated."""
    from hfnumba.ingest import finalise as finalise_store

    with watched() as watch:
        complete = finalise_store(store, watch=watch)
    _say(f"The store {complete.path} is complete: digest {complete.digest[:12]}")


@data.command()
@click.argument("store", type=StorePath)
@click.option("--quick", is_flag=True, help="Read no rows: leave out classes and ranges.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(store: Path, quick: bool, as_json: bool) -> None:
    """Describe a store: where it comes from, its splits, its size, its classes and the ranges of its features."""
    from hfnumba.store import open_store
    from hfnumba.store.info import info as describe
    from hfnumba.store.info import survey

    opened = open_store(store)
    held = describe(opened)
    measured = None
    if not quick:
        with watched() as watch:
            measured = survey(opened, watch("Reading rows", "partitions"))
    if as_json:
        click.echo(json.dumps(held if measured is None else held | {"rows": measured}, indent=1))
        return
    splits = held.pop("splits")
    sources = held.pop("sources")
    del held["recipe"]
    held["versions"] = ", ".join(f"{name} {version}" for name, version in held["versions"].items())
    _table(["property", "value"], [[key, "" if value is None else str(value)] for key, value in held.items()])
    columns = list(next(iter(splits.values())))
    _table(["split", *columns], [[name, *map(str, split.values())] for name, split in splits.items()])
    _table(
        ["source", "bytes", "sha256"], [[source["name"], str(source["nbytes"]), source["sha256"]] for source in sources]
    )
    if measured is not None:
        _ranges(measured["splits"])
        _histogram(measured["classes"], measured["splits"])


@data.command()
@click.argument("store", type=StorePath)
def verify(store: Path) -> None:
    """Read every byte of a store and name what is wrong; exit with status 1 if anything is."""
    from hfnumba.errors import StoreError
    from hfnumba.store.split import read_manifest
    from hfnumba.store.verify import verify as find_problems

    # Not open_store: it refuses at the first missing file, where all of them are to be named.
    opened = read_manifest(store)
    with watched() as watch:
        problems = find_problems(opened, watch("Verifying", "files and partitions"))
    for problem in problems:
        click.echo(problem)
    if problems:
        raise StoreError(
            f"{store} is damaged (faults found: {len(problems)}); restore the files from a copy, or delete the store "
            f"and build it again"
        )
    rows = sum(split.n_rows for split in opened.splits.values())
    click.echo(f"{store} is sound: {len(opened.manifest.files)} files, {rows} rows, digest {opened.digest[:12]}")


def _ranges(splits: dict[str, Any]) -> None:
    """Print the ranges over all features of each split, as stored."""
    rows = []
    for name, seen in splits.items():
        low, high = min(seen["minimum"]), max(seen["maximum"])
        constant = sum(a == b for a, b in zip(seen["minimum"], seen["maximum"], strict=True))
        mean = sum(seen["mean"]) / len(seen["mean"])
        rows.append([name, f"{low:g}", f"{high:g}", f"{mean:g}", str(constant)])
    _table(["split", "smallest feature", "largest", "mean of all", "constant features"], rows)


def _histogram(classes: list[str], splits: dict[str, Any]) -> None:
    """Print how many rows each class has: all classes if they are few, else the largest ones and a summary."""
    counts = {name: seen["class_counts"] for name, seen in splits.items() if "class_counts" in seen}
    if not counts:
        return
    train = counts["train"]
    order = list(range(len(classes)))
    if len(order) > SHOWN_CLASSES:
        order = sorted(order, key=lambda k: -train[k])[:SHOWN_CLASSES]
    largest = max(1, *train)
    rows = [
        [classes[k], *(str(held[k]) for held in counts.values()), "#" * round(BAR_WIDTH * train[k] / largest)]
        for k in order
    ]
    _table(["class", *counts, "share of train"], rows)
    if len(order) < len(classes):
        empty = sum(n == 0 for n in train)
        _say(f"{len(classes) - len(order)} more classes; {empty} classes have no training rows")


def _say(message: str) -> None:
    click.echo(message, err=True)


def _table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table: drawn on a terminal, tab-separated elsewhere."""
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
