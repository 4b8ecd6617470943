"""From a recipe or from arrays to a store: all at once, or in steps that a job array can take."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hfnumba.data import sources, writer
from hfnumba.data.download import locate
from hfnumba.data.layout import SplitLayout, chunking
from hfnumba.data.manifest import Header, SourceFile, Task
from hfnumba.data.prepare import Prepared, prepare
from hfnumba.data.recipes import Recipe, find_recipe
from hfnumba.data.store import Store
from hfnumba.data.writer import Plan, Progress
from hfnumba.errors import DataError, StoreError, UsageError

N_PARTITIONS = 16
"""Partitions unless told otherwise; a store needs at least as many as there are workers times threads."""

AnyPath = str | PathLike[str]
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Settings:
    """What a user chooses about a store, beside its recipe."""

    n_partitions: int
    rows: int | None
    seed: int


def _silent(message: str) -> None:
    """Say nothing."""


def init(
    recipe: Recipe | AnyPath,
    source: AnyPath | None = None,
    out: AnyPath | None = None,
    *,
    n_partitions: int = N_PARTITIONS,
    rows: int | None = None,
    seed: int = 0,
    say: Say = _silent,
) -> tuple[Path, int]:
    """Begin a store: check all rows of the source, and write the plan and the empty arrays.

    Parameters
    ----------
    recipe : Recipe or str or path
        A recipe, its name, the path of a ``.toml`` recipe, or of an ``.npz`` file.
    source : path, optional
        Folder that holds the files; by default they are downloaded into the user's cache.
    out : path, optional
        Folder of the store; by default ``NAME.zarr`` in the current folder.
    n_partitions : int
        Partitions of each split. A split of few rows may get fewer.
    rows : int, optional
        Keep this many training rows, the first of the shuffled order.
    seed : int
        Key of the shuffle, and of the hold-out where the source has no test split.
    say : callable, optional
        Called with a line for each thing that takes long.

    Returns
    -------
    out : Path
    n_parts : int
        Partitions to write, numbered from 0.

    Raises
    ------
    DataError
        If the source is not what it should be.
    StoreError
        If ``out`` holds anything but the same store, begun or complete. Nothing is ever deleted.
    """
    out, plan, _ = _begin(recipe, source, out, _Settings(n_partitions, rows, seed), say)
    return out, writer.n_parts(plan.header)


def write_partition(out: AnyPath, j: int) -> None:
    """Write partition ``j`` of every split of a store that was begun by :func:`init`.

    May run in any number of processes at once, and again: what is already written and whole is left as it is.

    Raises
    ------
    UsageError
        If there is no such partition.
    DataError
        If the source has changed since the store was begun.
    StoreError
        If no store was begun, or the disk is full.
    """
    out = Path(out)
    if writer.is_complete(out):
        writer.refuse_part(writer.finalise(out).manifest.header, j)
        return
    plan = writer.read_plan(out)
    writer.refuse_part(plan.header, j)
    if writer.is_written(out, plan.header, j):
        return
    if plan.recipe is None:
        raise StoreError(f"{out} was begun from arrays in memory; call write_store with them again to continue")
    paths = {name: Path(path) for name, path in plan.paths.items()}
    settings = _Settings(plan.header.n_partitions, plan.header.rows, plan.header.seed)
    header, prepared = _read(plan.recipe, paths, settings)
    differences = plan.header.differences(header)
    if differences:
        raise DataError(f"the source of {out} has changed since the store was begun ({differences})")
    writer.write_part(out, plan.header, prepared, j)


def finalise(out: AnyPath) -> Store:
    """Check every chunk of a store and write its manifest, without which it does not open.

    Raises
    ------
    StoreError
        If partitions are not written, or a chunk is not what was written.
    """
    return writer.finalise(Path(out))


def build(
    recipe: Recipe | AnyPath,
    source: AnyPath | None = None,
    out: AnyPath | None = None,
    *,
    n_partitions: int = N_PARTITIONS,
    rows: int | None = None,
    seed: int = 0,
    say: Say = _silent,
    progress: Progress | None = None,
) -> Store:
    """Do all steps, :func:`init`, :func:`write_partition`, :func:`finalise`, and read the source once only.

    The bytes are those of the steps. An interrupted build is continued. A complete store with the same
    settings is opened and left as it is. Parameters and errors are those of :func:`init`; ``progress(done,
    total)`` is called after each partition.
    """
    out, plan, prepared = _begin(recipe, source, out, _Settings(n_partitions, rows, seed), say)
    return writer.write_all(out, plan.header, prepared, progress)


def write_store(
    out: AnyPath,
    splits: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    n_partitions: int = N_PARTITIONS,
    seed: int = 0,
    scale: float = 1.0,
    offset: float = 0.0,
    task: Task | None = None,
    n_classes: int | None = None,
    name: str = "arrays",
    title: str = "",
    licence: str = "",
    homepage: str = "",
) -> Store:
    """Write a store from arrays in memory.

    Parameters
    ----------
    out : path
        Folder of the store.
    splits : mapping of str to (X, y)
        ``"train"``, and optionally ``"test"`` and ``"validation"``. ``X`` has rows along its first axis;
        bytes stay bytes, whole numbers from 0 to 255 become bytes, anything else float32. ``y`` holds class
        numbers, or targets of shape (rows,) or (rows, n_outputs).
    n_partitions : int
        Partitions of each split.
    seed : int
        Key of the shuffle.
    scale, offset : float
        Training sees ``x * scale + offset``.
    task : {"classification", "regression"}, optional
        By default regression if the training targets are floating-point numbers.
    n_classes : int, optional
        By default the largest label plus one.
    name, title, licence, homepage : str
        What the store says of itself.

    Returns
    -------
    Store

    Raises
    ------
    DataError
        If the rows are not what training needs.
    StoreError
        If ``out`` holds anything but the same store, or cannot be written.
    """
    arrays = {key: (np.asarray(X), np.asarray(y)) for key, (X, y) in splits.items()}
    prepared = prepare(arrays, task=task, n_classes=n_classes, seed=seed)
    records = tuple(
        SourceFile(f"{key}.{role}", array.nbytes, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest())
        for key, pair in arrays.items()
        for role, array in zip(("X", "y"), pair, strict=True)
    )
    about: dict[str, Any] = {"name": name, "title": title, "licence": licence, "homepage": homepage}
    about |= {"scale": float(scale), "offset": float(offset)}
    header = _header(about, records, prepared, _Settings(n_partitions, None, seed))
    path = Path(out).expanduser().absolute()
    writer.begin(path, Plan(header=header))
    return writer.write_all(path, header, prepared, None)


def _begin(
    recipe: Recipe | AnyPath,
    source: AnyPath | None,
    out: AnyPath | None,
    settings: _Settings,
    say: Say,
) -> tuple[Path, Plan, Prepared]:
    chosen = recipe if isinstance(recipe, Recipe) else find_recipe(Path(recipe))
    folder = Path(source).expanduser() if source is not None else None
    if folder is None and not isinstance(recipe, Recipe) and chosen.format == "npz" and Path(recipe).suffix == ".npz":
        folder = Path(recipe).parent
    paths = locate(chosen, folder, say)
    header, prepared = _read(chosen, paths, settings)
    plan = Plan(header=header, recipe=chosen, paths={name: str(path) for name, path in paths.items()})
    target = Path(out if out is not None else f"{chosen.name}.zarr").expanduser().absolute()
    writer.begin(target, plan)
    return target, plan, prepared


def _read(recipe: Recipe, paths: Mapping[str, Path], settings: _Settings) -> tuple[Header, Prepared]:
    """Read the rows of a recipe, and describe the store they make."""
    raw = sources.read(recipe, paths, settings.seed)
    prepared = prepare(raw.splits, task=recipe.task, n_classes=recipe.n_classes, rows=settings.rows, seed=settings.seed)
    keys = ("name", "title", "licence", "homepage", "scale", "offset")
    about = {key: getattr(recipe, key) for key in keys}
    return _header(about, raw.sources, prepared, settings), prepared


def _header(about: dict[str, Any], records: tuple[SourceFile, ...], prepared: Prepared, settings: _Settings) -> Header:
    """Describe a store; ``about`` holds its texts, its scale and its offset."""
    if settings.n_partitions < 1:
        raise UsageError(f"expected at least 1 partition, got {settings.n_partitions}")
    try:
        return Header(
            **about,
            sources=records,
            task=prepared.task,
            n_classes=prepared.n_classes,
            seed=settings.seed,
            rows=settings.rows,
            n_partitions=settings.n_partitions,
            splits={name: _layout(prepared, name, settings.n_partitions) for name in prepared.splits},
        )
    except ValueError as error:
        raise UsageError(f"the store cannot be described: {error}") from error


def _layout(prepared: Prepared, name: str, n_partitions: int) -> SplitLayout:
    X, y = prepared.splits[name]
    n_rows = len(prepared.orders[name])
    chunk_rows, partition_rows = chunking(n_rows, X.shape[1] * X.itemsize, n_partitions)
    return SplitLayout(
        n_rows=n_rows,
        n_features=X.shape[1],
        n_outputs=None if prepared.n_classes is not None else y.shape[1],
        x_dtype=X.dtype.name,  # type: ignore[arg-type]  # prepare makes no other dtypes
        y_dtype=y.dtype.name,  # type: ignore[arg-type]
        chunk_rows=chunk_rows,
        partition_rows=partition_rows,
    )
