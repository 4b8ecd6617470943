"""The header of a store from what it will hold: splits, partitions, standardisation."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from hfnumba.errors import UsageError
from hfnumba.ingest.corpus import Stock
from hfnumba.ingest.prepare import Prepared
from hfnumba.progress import Steps, Watch, unwatched
from hfnumba.store.checks import label_dtype
from hfnumba.store.frames import grouping
from hfnumba.store.layout import SplitLayout, chunking
from hfnumba.store.manifest import Header, SourceFile
from hfnumba.store.standardise import Moments, Standardisation

ROW_BLOCK = 8192
N_PARTITIONS = 16
"""Partitions unless told otherwise; a store needs at least as many as there are workers times threads."""
PARTITION_BYTES = 15 * 2**20
"""There are more of them where one would be larger than this as loaded (a little less than a chunk may hold): a worker
holds two for each thread."""


@dataclass(frozen=True)
class Settings:
    """What a user chooses about a store, beside its recipe."""

    n_partitions: int | None
    rows: int | None
    seed: int


@dataclass(frozen=True)
class About:
    """What a recipe says of the store, beside its rows; the fields are those of the header and the layout.

    ``weighted`` are the splits whose frames have weights; rows bring theirs with them.
    """

    texts: dict[str, Any]
    sources: tuple[SourceFile, ...]
    context: int = 0
    standardise: bool = False
    weighted: Collection[str] = ()


def describe_rows(
    about: About,
    prepared: Prepared,
    settings: Settings,
    classes: tuple[str, ...] = (),
    watch: Watch = unwatched,
) -> Header:
    """Describe a store of rows."""
    width = prepared.splits["train"][0].shape[1] * prepared.splits["train"][0].itemsize
    settings = _chosen(settings, width * max(map(len, prepared.orders.values())))
    layouts = {name: _rows_layout(prepared, name, settings) for name in prepared.splits}
    return _header(
        about,
        settings,
        task=prepared.task,
        n_classes=prepared.n_classes,
        splits=layouts,
        standardisation=_standardisation(prepared, watch) if about.standardise else None,
        classes=classes,
    )


def describe_frames(about: About, stock: Stock, classes: tuple[str, ...], settings: Settings) -> Header:
    """Describe a store of frames."""
    catalogue = stock.catalogue
    n_frames = max(sum(utterance.n_frames for utterance in held) for held in catalogue.utterances.values())
    settings = _chosen(settings, n_frames * catalogue.n_features * 4 * (2 * about.context + 1))
    layouts = {name: _frames_layout(about, stock, name, settings) for name in catalogue.utterances}
    return _header(
        about,
        settings,
        task="classification",
        n_classes=catalogue.n_classes,
        splits=layouts,
        standardisation=stock.standardisation if about.standardise else None,
        classes=classes,
    )


def _chosen(settings: Settings, nbytes: int) -> Settings:
    """Settings with a number of partitions for a split of so many bytes as loaded."""
    if settings.n_partitions is None:
        return replace(settings, n_partitions=max(N_PARTITIONS, math.ceil(nbytes / PARTITION_BYTES)))
    if settings.n_partitions < 1:
        raise UsageError(f"expected at least 1 partition, got {settings.n_partitions}")
    return settings


def _header(about: About, settings: Settings, **held: Any) -> Header:
    try:
        return Header(
            **about.texts,
            sources=about.sources,
            seed=settings.seed,
            rows=settings.rows,
            n_partitions=settings.n_partitions or N_PARTITIONS,
            **held,
        )
    except ValueError as error:
        raise UsageError(f"the store cannot be described: {error}") from error


def _layout(settings: Settings, **held: Any) -> SplitLayout:
    try:
        return SplitLayout(**held)
    except ValueError as error:
        raise UsageError(f"the store cannot be laid out in {settings.n_partitions} partitions: {error}") from error


def _rows_layout(prepared: Prepared, name: str, settings: Settings) -> SplitLayout:
    X, y = prepared.splits[name]
    n_rows = len(prepared.orders[name])
    chunk_rows, partition_rows = chunking(n_rows, X.shape[1] * X.itemsize, settings.n_partitions or N_PARTITIONS)
    return _layout(
        settings,
        n_rows=n_rows,
        n_features=X.shape[1],
        n_outputs=None if prepared.n_classes is not None else y.shape[1],
        x_dtype=X.dtype.name,
        y_dtype=y.dtype.name,
        chunk_rows=chunk_rows,
        partition_rows=partition_rows,
        weighted=True if name in prepared.weights else msgspec.UNSET,
    )


def _frames_layout(about: About, stock: Stock, name: str, settings: Settings) -> SplitLayout:
    lengths = [utterance.n_frames for utterance in stock.catalogue.utterances[name]]
    sizes = tuple(sum(lengths[i] for i in group) for group in grouping(lengths, settings.n_partitions or N_PARTITIONS))
    n_features = stock.catalogue.n_features
    chunk_rows, partition_rows = chunking(max(sizes), n_features * 4, 1)
    return _layout(
        settings,
        n_rows=sum(sizes),
        n_features=n_features,
        n_outputs=None,
        x_dtype="float32",
        y_dtype=label_dtype(stock.catalogue.n_classes).__name__,
        chunk_rows=chunk_rows,
        partition_rows=partition_rows,
        partition_sizes=sizes,
        context=about.context,
        weighted=True if name in about.weighted else msgspec.UNSET,
    )


def _standardisation(prepared: Prepared, watch: Watch) -> Standardisation:
    """Mean and deviation over the rows of the training split, read a block at a time."""
    X, _ = prepared.splits["train"]
    if X.dtype != "float32":
        raise UsageError("bytes are not standardised; give scale and offset instead of standardise")
    order = prepared.orders["train"]
    moments = Moments(X.shape[1])
    steps = Steps(watch("Measuring mean and deviation", "rows"), len(order))
    for first in range(0, len(order), ROW_BLOCK):
        rows = order[first : first + ROW_BLOCK]
        moments.update(X[rows])
        steps.step(len(rows))
    return moments.standardisation()
