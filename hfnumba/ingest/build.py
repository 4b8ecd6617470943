"""From a recipe to a store: all at once, or in steps that a job array can take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import msgspec

from hfnumba.errors import DataError, StoreError
from hfnumba.ingest import sources, writer
from hfnumba.ingest.corpus import Catalogue, CorpusContent, take_stock
from hfnumba.ingest.download import locate
from hfnumba.ingest.header import About, Settings, describe_frames, describe_rows
from hfnumba.ingest.prepare import prepare
from hfnumba.ingest.recipes import CORPORA, Recipe, find_recipe
from hfnumba.ingest.writer import Content, Plan
from hfnumba.progress import Watch, unwatched
from hfnumba.store.manifest import Header
from hfnumba.store.split import Store

AnyPath = str | PathLike[str]
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Opened:
    """A recipe's rows, checked, and the header of the store they make."""

    header: Header
    content: Content
    catalogue: Catalogue | None = None


def _silent(message: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class _Told:
    """Who is told what a user should know, and how far each step has come."""

    say: Say = _silent
    watch: Watch = unwatched


def init(
    recipe: Recipe | AnyPath,
    source: AnyPath | None = None,
    out: AnyPath | None = None,
    *,
    n_partitions: int | None = None,
    rows: int | None = None,
    seed: int = 0,
    say: Say = _silent,
    watch: Watch = unwatched,
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
    n_partitions : int, optional
        Partitions of each split, by default 16, or so many that none takes more than 15 MiB as loaded. A split of few
        rows may get fewer.
    rows : int, optional
        Keep this many training rows, the first of the shuffled order; of speech, the whole utterances that fit.
    seed : int
        Key of the shuffle, and of the hold-out where the source has no test split.
    say : callable, optional
        Called with what a user should know, a sentence each.
    watch : callable, optional
        ``watch(what, unit)`` is called at the beginning of each step that may take long, and what it returns with
        what is done and the total.

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
    out, plan, _ = _begin(recipe, source, out, Settings(n_partitions, rows, seed), _Told(say, watch))
    return out, writer.n_parts(plan.header)


def write_partition(out: AnyPath, j: int, *, watch: Watch = unwatched) -> None:
    """Write partition ``j`` of every split of a store that was begun by :func:`init`.

    May run in any number of processes at once, and again: what is already written and whole is left as it is. ``watch``
    is that of :func:`init`.

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
    if writer.written_part(out, plan.header, j) is not None:
        return
    if plan.recipe is None:
        raise StoreError(f"{out} was begun from arrays in memory; call write_store with them again to continue")
    paths = {name: Path(path) for name, path in plan.paths.items()}
    if plan.catalogue is not None:
        # Its digests, utterance by utterance, say whether the source has changed; nothing else is read again.
        corpus = sources.open_corpus(plan.recipe, paths, plan.header.seed, _silent)
        writer.write_part(out, plan.header, CorpusContent(corpus, plan.catalogue), j)
        return
    settings = Settings(plan.header.n_partitions, plan.header.rows, plan.header.seed)
    opened = _open(plan.recipe, paths, settings, _Told(watch=watch))
    differences = plan.header.differences(opened.header)
    if differences:
        raise DataError(f"the source of {out} has changed since the store was begun ({differences})")
    writer.write_part(out, plan.header, opened.content, j)


def finalise(out: AnyPath, *, watch: Watch = unwatched) -> Store:
    """Check every chunk of a store and write its manifest, without which it does not open.

    ``watch`` is that of :func:`init`.

    Raises
    ------
    StoreError
        If partitions are not written, or a chunk is not what was written.
    """
    return writer.finalise(Path(out), watch)


def build(
    recipe: Recipe | AnyPath,
    source: AnyPath | None = None,
    out: AnyPath | None = None,
    *,
    n_partitions: int | None = None,
    rows: int | None = None,
    seed: int = 0,
    say: Say = _silent,
    watch: Watch = unwatched,
) -> Store:
    """Do all steps, :func:`init`, :func:`write_partition`, :func:`finalise`, and read the source once only.

    The bytes are those of the steps. An interrupted build is continued. A complete store with the same
    settings is opened and left as it is. Parameters and errors are those of :func:`init`.
    """
    out, plan, content = _begin(recipe, source, out, Settings(n_partitions, rows, seed), _Told(say, watch))
    return writer.write_all(out, plan.header, content, watch)


def _begin(
    recipe: Recipe | AnyPath,
    source: AnyPath | None,
    out: AnyPath | None,
    settings: Settings,
    told: _Told,
) -> tuple[Path, Plan, Content]:
    chosen = recipe if isinstance(recipe, Recipe) else find_recipe(Path(recipe))
    folder = Path(source).expanduser() if source is not None else None
    if folder is None and not isinstance(recipe, Recipe) and Path(recipe).suffix == ".npz":
        paths = {chosen.files[0].name: Path(recipe).absolute()}
    else:
        paths = locate(chosen, folder, told.say, told.watch)
    opened = _open(chosen, paths, settings, told)
    stated = {name: str(path) for name, path in paths.items()}
    plan = Plan(header=opened.header, recipe=chosen, paths=stated, catalogue=opened.catalogue)
    target = Path(out if out is not None else f"{chosen.name}.zarr").expanduser().absolute()
    writer.begin(target, plan)
    return target, plan, opened.content


def _open(recipe: Recipe, paths: Mapping[str, Path], settings: Settings, told: _Told) -> _Opened:
    """Read and check the rows of a recipe, and describe the store they make."""
    keys = ("name", "title", "licence", "homepage", "note", "scale", "offset")
    texts = {key: getattr(recipe, key) for key in keys}
    texts["recipe"] = msgspec.json.encode(msgspec.structs.replace(recipe, mirrors=())).decode()
    if recipe.format in CORPORA:
        corpus = sources.open_corpus(recipe, paths, settings.seed, told.say)
        stock = take_stock(corpus, rows=settings.rows, seed=settings.seed, watch=told.watch)
        about = About(texts, corpus.sources(told.watch), recipe.context, recipe.standardise)
        header = describe_frames(about, stock, corpus.classes, settings)
        return _Opened(header, CorpusContent(corpus, stock.catalogue), stock.catalogue)
    raw = sources.read(recipe, paths, settings.seed, told.watch)
    if raw.classes and recipe.n_classes not in (None, len(raw.classes)):
        raise DataError(
            f"the labels have {len(raw.classes)} names, the recipe says n_classes = {recipe.n_classes}; leave it out"
        )
    prepared = prepare(
        raw.splits,
        task=recipe.task or ("classification" if raw.classes else None),
        n_classes=recipe.n_classes or len(raw.classes) or None,
        rows=settings.rows,
        seed=settings.seed,
        subsets=raw.subsets,
        watch=told.watch,
        weights=raw.weights,
    )
    about = About(texts, raw.sources, standardise=recipe.standardise)
    return _Opened(describe_rows(about, prepared, settings, raw.classes, told.watch), prepared)
