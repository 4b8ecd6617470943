"""Shared by tables: blocks of rows from the files of each split are gathered into arrays on disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest.prepare import features_origin
from hfnumba.ingest.recipe_tables import TableOptions
from hfnumba.ingest.recipes import Recipe
from hfnumba.ingest.shuffle import hold_out_rows
from hfnumba.ingest.sources.paths import file_record, hashing, inside, inside_folder
from hfnumba.ingest.sources.raw import RawData
from hfnumba.ingest.sources.spool import Labels, Spool
from hfnumba.path_text import path_text, text_path
from hfnumba.progress import FileProgress, Reporter
from hfnumba.store.manifest import SourceFile
from hfnumba.store.rounding import Ranges
from hfnumba.store.standardise import subtract

SUFFIXES = {
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "parquet": (".parquet", ".pq"),
    "hdf5": (".h5", ".hdf5"),
    "libsvm": (".libsvm", ".svm", ".svmlight", ".txt", ".gz"),
}
"""Ends of the names of the files that are read from a folder."""


class Block(NamedTuple):
    """Block of rows: features, labels as words or (for regression) targets of shape (rows, n_outputs), and weights."""

    X: NDArray[Any]
    words: list[str] | None
    targets: NDArray[Any] | None
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
    return {split: [inside(root, name) for name in names] for split, names in _names(recipe, root).items()}


def _names(recipe: Recipe, root: Path) -> dict[str, list[str]]:
    """Names of the files of each split, below the folder; folders and patterns are replaced by their files."""
    given = options_of(recipe).files
    found = {
        split: [name for pattern in names for name in matches(root, _as_named(pattern), recipe.format)]
        for split, names in given.items()
    }
    for split, ours in found.items():
        if twice := [name for name, n in Counter(ours).items() if n > max(1, given[split].count(name))]:
            raise DataError(f"{twice[0]} is among the files of {split} twice; name patterns that do not overlap")
    for (one, ours), (other, theirs) in combinations(found.items(), 2):
        for name in ours:
            if name in theirs and not (name in given[one] and name in given[other]):
                raise DataError(
                    f"{name} is among the files of both {one} and {other}; name patterns that do not overlap"
                )
    return found


def _as_named(text: str) -> str:
    """Name of a file as the system has it; in a recipe it is a URI if its bytes are not UTF-8."""
    return os.fspath(text_path(text)) if text.startswith("file:") else text


def matches(root: Path, name: str, format_name: str) -> list[str]:
    """Sorted names of the files of a folder or a pattern; writers' marks (``_SUCCESS``, ``.crc``) are passed over."""
    try:
        if (root / name).is_dir():
            inside_folder(root, root / name)
            paths = [path for end in SUFFIXES[format_name] for path in (root / name).glob(f"*{end}")]
        elif set("*?[") & set(name) and not (root / name).exists():
            paths = list(root.glob(name))
        else:
            return [name]
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{name} in [table] is not a name or pattern of files: {error}") from error
    found = sorted(path.relative_to(root).as_posix() for path in paths if path.is_file() and path.name[0] not in "_.")
    if not found:
        ends = " or ".join(f"*{end}" for end in SUFFIXES[format_name])
        raise DataError(f"{root / name} has no files; expected a file, a folder with files {ends}, or a pattern")
    return found


def gather(
    recipe: Recipe,
    root: Path,
    seed: int,
    reporter: Reporter,
    blocks: Blocks,
    *,
    n_features: int,
    dtype: Any = np.float32,
    ranges: Ranges | None = None,
    origin: NDArray[np.float64] | None = None,
) -> RawData:
    """Read all files of ``[table]``, block by block. Errors are those of :func:`gather_blocks`."""
    options, files = options_of(recipe), located(recipe, root)

    def begin() -> dict[str, Iterator[Block]]:
        progress = FileProgress(reporter.progress("Reading rows", "bytes"), files)
        return {split: _chained(blocks, progress, split, paths) for split, paths in files.items()}

    names = dict.fromkeys(name for given in _names(recipe, root).values() for name in given)

    def records() -> tuple[SourceFile, ...]:
        paths = {name: inside(root, name) for name in names}
        advance = hashing(reporter, paths.values())
        return tuple(file_record(path_text(name), path, advance) for name, path in paths.items())

    kind = Kind(n_features, dtype, options.max_features, "table")
    return gather_blocks(recipe, seed, begin, kind, records, ranges=ranges, origin=origin)


def _chained(blocks: Blocks, progress: FileProgress, split: str, paths: list[Path]) -> Iterator[Block]:
    for path in paths:
        yield from progress.follow(path, blocks(split, path))


class Kind(NamedTuple):
    """Width and dtype of the rows, the largest width allowed, and the table of the recipe that sets it."""

    n_features: int
    dtype: Any
    max_features: int
    table: str


def gather_blocks(
    recipe: Recipe,
    seed: int,
    begin: Callable[[], Mapping[str, Iterator[Block]]],
    kind: Kind,
    records: Callable[[], tuple[SourceFile, ...]],
    *,
    ranges: Ranges | None = None,
    origin: NDArray[np.float64] | None = None,
) -> RawData:
    """Write the blocks of each split to disk, number the labels, and hold rows out if there is no test split.

    ``begin`` begins to read all splits. They are read a second time if rounding to float32 would make features the
    same and the recipe standardises them: then an origin is subtracted before. ``origin`` was already subtracted.

    Raises
    ------
    DataError
        If there are more features than the recipe allows, no rows, or features that rounding would make the same.
    """
    if not 1 <= kind.n_features <= kind.max_features:
        raise DataError(
            f"the rows have {kind.n_features} features, expected 1 to {kind.max_features}; "
            f"to allow more, set max_features in [{kind.table}]"
        )
    ranges = Ranges() if ranges is None else ranges
    rows = _Rows.read(begin(), kind, None, ranges)
    if origin is None and (origin := features_origin(ranges, standardise=recipe.standardise)) is not None:
        rows = _Rows.read(begin(), kind, origin, Ranges())
    y, classes = rows.labelled()
    found = {split: (spool.array(), y[split]) for split, spool in rows.spools.items()}
    weights = {split: np.concatenate(blocks) for split, blocks in rows.weights.items()}
    subsets: dict[str, NDArray[np.intp]] = {}
    if "test" not in found:
        subsets = hold_out_rows(len(found["train"][0]), seed, recipe.hold_out)
        found["test"] = found["train"]
        weights |= {"test": weights["train"]} if "train" in weights else {}
    return RawData(found, records(), subsets, classes, weights, origin)


@dataclass
class _Rows:
    """Rows of all splits: features on disk, labels, targets and weights in memory."""

    labels: Labels = field(default_factory=Labels)
    spools: dict[str, Spool] = field(default_factory=dict)
    targets: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    weights: dict[str, list[NDArray[Any]]] = field(default_factory=dict)

    @classmethod
    def read(
        cls, splits: Mapping[str, Iterator[Block]], kind: Kind, origin: NDArray[np.float64] | None, ranges: Ranges
    ) -> _Rows:
        """Read all blocks; the ranges are updated by the features of the training rows."""
        rows = cls()
        for split, blocks in splits.items():
            spool = rows.spools[split] = Spool(kind.n_features, kind.dtype)
            for block in blocks:
                if split == "train":
                    ranges.update(block.X)
                spool.append(block.X if origin is None else subtract(block.X, origin))
                if block.words is not None:
                    rows.labels.add(split, block.words)
                if block.targets is not None:
                    rows.targets.setdefault(split, []).append(block.targets)
                if block.weights is not None:
                    rows.weights.setdefault(split, []).append(block.weights)
            if not spool.n_rows:
                raise DataError(f"{split} has no rows")
        return rows

    def labelled(self) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
        """Return class numbers or targets of each split, and the names of the classes."""
        numbered, classes = self.labels.finish()
        return {split: np.concatenate(blocks) for split, blocks in self.targets.items()} or dict(numbered), classes
