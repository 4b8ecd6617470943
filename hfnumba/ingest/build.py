"""Building a store from a recipe, in one call or in steps for a job array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import msgspec

from hfnumba.errors import DataError, StoreError
from hfnumba.ingest import sources, writer
from hfnumba.ingest.corpus import Catalogue, CorpusContent, survey_corpus
from hfnumba.ingest.download import locate
from hfnumba.ingest.header import Metadata, Settings, frames_header, rows_header
from hfnumba.ingest.prepare import prepare
from hfnumba.ingest.recipes import CORPORA, Recipe, find_recipe
from hfnumba.ingest.remarks import count, remark_on_task, remarks_on_order
from hfnumba.ingest.writer import Content, WritePlan
from hfnumba.path_text import path_text, text_path
from hfnumba.progress import SILENT, Reporter
from hfnumba.store.manifest import Header
from hfnumba.store.store import Store

AnyPath = str | PathLike[str]

INIT_WAIT_S = 60.0
"""How long ``init`` waits for another process that begins the same store."""


@dataclass(frozen=True)
class _Opened:
    """Checked rows of a recipe, the header of their store, and the number of rows of each class in each split."""

    header: Header
    content: Content
    class_counts: Mapping[str, Mapping[int, int]]
    catalogue: Catalogue | None = None
    notes: tuple[str, ...] = ()


def init(
    recipe: Recipe | AnyPath,
    source: AnyPath | None = None,
    out: AnyPath | None = None,
    *,
    n_partitions: int | None = None,
    rows: int | None = None,
    seed: int = 0,
    validation: float | None = None,
    reporter: Reporter = SILENT,
) -> tuple[Path, int]:
    """Begin a store: check all rows of the source, and write the plan and the empty arrays.

    Parameters
    ----------
    recipe : Recipe or str or path
        A recipe, its name, the path of a ``.toml`` recipe, or the path of an ``.npz`` file.
    source : path, optional
        Folder of the source files; by default they are downloaded into the user's cache.
    out : path, optional
        Folder of the store; by default ``NAME.zarr`` in the current folder.
    n_partitions : int, optional
        Number of partitions of each split; default 16, or more, so that none takes more than 15 MiB as loaded. A
        split of few rows may get fewer.
    rows : int, optional
        Number of training rows to take, the first of the shuffled order; for speech, the whole utterances that fit.
    seed : int
        Seed of the shuffle, and of the hold-out where the source has no test split.
    validation : float, optional
        Share of the training rows (for speech, of the training utterances) that the seed draws for a split
        ``validation``, above 0 and below 1; they are not trained on.
    reporter : Reporter
        Receiver of messages and progress.

    Returns
    -------
    out : Path
        Folder of the store.
    n_partitions : int
        Number of partitions to write, numbered from 0.

    Raises
    ------
    DataError
        If the source is invalid.
    StoreError
        If ``out`` holds anything but the same store, begun or complete, or another process builds there. Nothing is
        ever deleted.
    """
    out, plan, _ = _planned(recipe, source, out, Settings(n_partitions, rows, seed, validation), reporter)
    # Jobs of an array may all begin with this.
    with writer.locked(out, INIT_WAIT_S):
        writer.begin(out, plan)
    return out, writer.n_partitions(plan.header)


def write_partition(out: AnyPath, j: int, *, reporter: Reporter = SILENT) -> None:
    """Write partition ``j`` of every split of a store that was begun by :func:`init`.

    Any number of processes may run this at once, and repeat it: a partition that is already written is left as it is.

    Parameters
    ----------
    out : path
        Folder of the store.
    j : int
        Number of the partition, from 0.
    reporter : Reporter
        Receiver of messages and progress.

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
        writer.check_partition(writer.finalise(out).manifest.header, j)
        return
    plan = writer.read_plan(out)
    writer.check_partition(plan.header, j)
    if writer.written_partition(out, plan.header, j) is not None:
        return
    if plan.recipe is None:
        raise StoreError(f"{out} was begun from arrays in memory; call write_store with them again to continue")
    paths = {name: text_path(path) for name, path in plan.paths.items()}
    if plan.catalogue is not None:
        # The catalogue has a digest of each utterance, which shows changes of the source; no other is read again.
        corpus = sources.open_corpus(plan.recipe, paths, plan.header.seed)
        writer.write_partition(out, plan.header, CorpusContent(corpus, plan.catalogue), j)
        return
    header = plan.header
    validation = None if header.validation is msgspec.UNSET else header.validation
    settings = Settings(header.n_partitions, header.rows, header.seed, validation)
    opened = _open(plan.recipe, paths, settings, reporter)
    differences = plan.header.differences(opened.header)
    if differences:
        raise DataError(f"the source of {out} has changed since the store was begun ({differences})")
    writer.write_partition(out, plan.header, opened.content, j)


def finalise(out: AnyPath, *, reporter: Reporter = SILENT) -> Store:
    """Check every chunk of a store and write its manifest, without which it does not open.

    Parameters
    ----------
    out : path
        Folder of the store, all of whose partitions are written.
    reporter : Reporter
        Receiver of messages and progress.

    Returns
    -------
    Store
        The finished store.

    Raises
    ------
    StoreError
        If partitions are missing, or a chunk is damaged.
    """
    out = Path(out)
    if not writer.is_complete(out):
        writer.read_plan(out)
    with writer.locked(out):
        return writer.finalise(out, reporter)


def build(
    recipe: Recipe | AnyPath,
    source: AnyPath | None = None,
    out: AnyPath | None = None,
    *,
    n_partitions: int | None = None,
    rows: int | None = None,
    seed: int = 0,
    validation: float | None = None,
    reporter: Reporter = SILENT,
) -> Store:
    """Build a store: :func:`init`, :func:`write_partition` and :func:`finalise` in one, reading the source once.

    The bytes are the same as in steps. An interrupted build is continued. A complete store with the same settings is
    opened and left as it is.

    Parameters
    ----------
    recipe : Recipe or str or path
        A recipe, its name, the path of a ``.toml`` recipe, or the path of an ``.npz`` file.
    source : path, optional
        Folder of the source files; by default they are downloaded into the user's cache.
    out : path, optional
        Folder of the store; by default ``NAME.zarr`` in the current folder.
    n_partitions, rows : int, optional
        Numbers of partitions and of training rows, as for :func:`init`.
    seed : int
        Seed of the shuffle, and of the hold-out where the source has no test split.
    validation : float, optional
        Share of the training rows for a split ``validation``, as for :func:`init`.
    reporter : Reporter
        Receiver of messages and progress.

    Returns
    -------
    Store
        The finished store, open.

    Raises
    ------
    DataError
        If the source is invalid.
    StoreError
        If ``out`` holds anything but the same store, begun or complete, or another process builds there.
    """
    out, plan, content = _planned(recipe, source, out, Settings(n_partitions, rows, seed, validation), reporter)
    with writer.locked(out):
        writer.begin(out, plan)
        return writer.write_all(out, plan.header, content, reporter)


def _planned(
    recipe: Recipe | AnyPath,
    source: AnyPath | None,
    out: AnyPath | None,
    settings: Settings,
    reporter: Reporter,
) -> tuple[Path, WritePlan, Content]:
    chosen = recipe if isinstance(recipe, Recipe) else find_recipe(Path(recipe))
    folder = Path(source).expanduser() if source is not None else None
    if folder is None and not isinstance(recipe, Recipe) and Path(recipe).suffix == ".npz":
        paths = {chosen.files[0].name: Path(recipe).absolute()}
    else:
        paths = locate(chosen, folder, reporter)
    opened = _open(chosen, paths, settings, reporter)
    for note in opened.notes:
        reporter.note(note)
    remark_on_task(opened.header, chosen.task is not None, opened.class_counts, reporter)
    names = {name: path_text(path.absolute()) for name, path in paths.items()}
    plan = WritePlan(header=opened.header, recipe=chosen, paths=names, catalogue=opened.catalogue)
    target = Path(out if out is not None else f"{chosen.name}.zarr").expanduser().absolute()
    return target, plan, opened.content


def _open(recipe: Recipe, paths: Mapping[str, Path], settings: Settings, reporter: Reporter) -> _Opened:
    """Read and check the rows of a recipe, and make the header of their store."""
    keys = ("name", "title", "licence", "homepage", "note", "scale", "offset")
    texts = {key: getattr(recipe, key) for key in keys}
    texts["recipe"] = msgspec.json.encode(msgspec.structs.replace(recipe, mirrors=())).decode()
    if recipe.format in CORPORA:
        corpus = sources.open_corpus(recipe, paths, settings.seed, reporter)
        survey = survey_corpus(
            corpus, rows=settings.rows, seed=settings.seed, validation=settings.validation, reporter=reporter
        )
        metadata = Metadata(texts, corpus.sources(reporter), recipe.context, recipe.standardise)
        header = frames_header(metadata, survey, corpus.classes, settings)
        return _Opened(header, CorpusContent(corpus, survey.catalogue), survey.class_counts, survey.catalogue)
    raw = sources.read(recipe, paths, settings.seed, reporter)
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
        reporter=reporter,
        weights=raw.weights,
        standardise=recipe.standardise,
        origin=raw.origin,
        validation=settings.validation,
    )
    metadata = Metadata(texts, raw.sources, standardise=recipe.standardise, columns=raw.columns, targets=raw.targets)
    header = rows_header(metadata, prepared, settings, raw.classes, reporter)
    labels = {} if prepared.n_classes is None else {name: y for name, (_, y) in prepared.splits.items()}
    counts = {name: count(y[prepared.orders[name]]) for name, y in labels.items()}
    order = () if raw.columns else tuple(remarks_on_order(raw.splits["train"][0]))
    return _Opened(header, prepared, counts, notes=tuple(dict.fromkeys((*raw.notes, *order))))
