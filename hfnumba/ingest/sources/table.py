"""Shared by tables: blocks of rows from the files of each split are gathered into arrays on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.recipe_tables import TableOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.shuffle import hold_out_rows
from hfnumba.ingest.sources.paths import file_record, hashing, inside
from hfnumba.ingest.sources.raw import RawData
from hfnumba.ingest.sources.spool import Labels, Spool
from hfnumba.progress import FileProgress, Reporter
from hfnumba.store.manifest import SourceFile


class Block(NamedTuple):
    """Block of rows: features, labels as words or (for regression) targets of shape (rows, n_outputs), and weights."""

    X: NDArray[Any]
    words: list[str] | None
    targets: NDArray[np.float64] | None
    weights: NDArray[Any] | None = None


Blocks = Callable[[str, Path], Iterator[tuple[Block, float]]]
"""Function that reads the blocks of a file of a split, each with the share of the file that is read by then."""


def options_of(recipe: Recipe) -> TableOptions:
    """Return the table of a recipe."""
    if recipe.table is None:
        raise DataError(f"format {recipe.format} needs a table [table]")
    return recipe.table


def located(recipe: Recipe, root: Path) -> dict[str, list[Path]]:
    """Paths of the files of each split; each must be below the folder."""
    return {split: [inside(root, name) for name in names] for split, names in options_of(recipe).files.items()}


def gather(
    recipe: Recipe,
    root: Path,
    seed: int,
    reporter: Reporter,
    blocks: Blocks,
    *,
    n_features: int,
    dtype: Any = np.float32,
) -> RawData:
    """Read all files of ``[table]`` once, block by block. Errors are those of :func:`gather_blocks`."""
    options, files = options_of(recipe), located(recipe, root)
    progress = FileProgress(reporter.progress("Reading rows", "bytes"), files)

    def chained(split: str, paths: list[Path]) -> Iterator[Block]:
        for path in paths:
            yield from progress.follow(path, blocks(split, path))

    splits = {split: chained(split, paths) for split, paths in files.items()}
    names = dict.fromkeys(name for given in options.files.values() for name in given)

    def records() -> tuple[SourceFile, ...]:
        paths = {name: inside(root, name) for name in names}
        advance = hashing(reporter, paths.values())
        return tuple(file_record(name, path, advance) for name, path in paths.items())

    kind = Kind(n_features, dtype, options.max_features, "table")
    return gather_blocks(recipe, seed, splits, kind, records)


class Kind(NamedTuple):
    """Width and dtype of the rows, the largest width allowed, and the table of the recipe that sets it."""

    n_features: int
    dtype: Any
    max_features: int
    table: str


def gather_blocks(
    recipe: Recipe,
    seed: int,
    splits: Mapping[str, Iterator[Block]],
    kind: Kind,
    records: Callable[[], tuple[SourceFile, ...]],
) -> RawData:
    """Write the blocks of each split to disk, number the labels, and hold rows out if there is no test split.

    Raises
    ------
    DataError
        If there are more features than the recipe allows, or no rows.
    """
    if not 1 <= kind.n_features <= kind.max_features:
        raise DataError(
            f"the rows have {kind.n_features} features, expected 1 to {kind.max_features}; "
            f"to allow more, set max_features in [{kind.table}]"
        )
    labels = Labels()
    spools: dict[str, Spool] = {}
    targets: dict[str, list[NDArray[np.float64]]] = {}
    weights: dict[str, list[NDArray[Any]]] = {}
    for split, blocks in splits.items():
        spools[split] = Spool(kind.n_features, kind.dtype)
        for block in blocks:
            spools[split].append(block.X)
            if block.words is not None:
                labels.add(split, block.words)
            if block.targets is not None:
                targets.setdefault(split, []).append(block.targets)
            if block.weights is not None:
                weights.setdefault(split, []).append(block.weights)
        if not spools[split].n_rows:
            raise DataError(f"{split} has no rows")
    numbered, classes = labels.finish()
    y: dict[str, NDArray[Any]] = {split: np.concatenate(blocks) for split, blocks in targets.items()} or dict(numbered)
    found = {split: (spool.array(), y[split]) for split, spool in spools.items()}
    subsets: dict[str, NDArray[np.intp]] = {}
    if "test" not in found:
        subsets = hold_out_rows(len(found["train"][0]), seed, recipe.hold_out)
        found["test"] = found["train"]
        weights |= {"test": weights["train"]} if "train" in weights else {}
    return RawData(
        found, records(), subsets, classes, {split: np.concatenate(blocks) for split, blocks in weights.items()}
    )
