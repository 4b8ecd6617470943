"""Header of a store, made from its rows: splits, partitions, standardisation."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from hfnumba.errors import UsageError
from hfnumba.ingest.corpus import Survey
from hfnumba.ingest.prepare import Prepared
from hfnumba.progress import SILENT, Counter, Reporter
from hfnumba.store.checks import label_dtype
from hfnumba.store.columns import Column
from hfnumba.store.frames import grouping
from hfnumba.store.layout import SplitLayout, chunking
from hfnumba.store.manifest import Header, SourceFile
from hfnumba.store.standardise import Moments, Standardisation, of_targets

ROW_BLOCK = 8192
N_PARTITIONS = 16
"""Default number of partitions; a store needs at least as many as there are workers times threads."""
PARTITION_BYTES = 15 * 2**20
"""Largest size of a partition as loaded, by default (a little less than a chunk may hold): a worker has two partitions
per thread in memory."""


@dataclass(frozen=True)
class Settings:
    """User's choices for a store, besides its recipe."""

    n_partitions: int | None
    rows: int | None
    seed: int
    validation: float | None = None


@dataclass(frozen=True)
class Metadata:
    """Metadata of a store that do not come from its rows; the fields are those of the header and the layout.

    ``weighted`` names the splits whose frames have weights (the weights of rows come with the rows).
    """

    texts: dict[str, Any]
    sources: tuple[SourceFile, ...]
    context: int = 0
    standardise: bool = False
    weighted: Collection[str] = ()
    columns: tuple[Column, ...] = ()
    targets: tuple[str, ...] = ()


def rows_header(
    metadata: Metadata,
    prepared: Prepared,
    settings: Settings,
    classes: tuple[str, ...] = (),
    reporter: Reporter = SILENT,
) -> Header:
    """Make the header of a store of rows."""
    width = prepared.splits["train"][0].shape[1] * prepared.splits["train"][0].itemsize
    settings = _chosen(settings, width * max(map(len, prepared.orders.values())))
    layouts = {name: _rows_layout(prepared, name, settings) for name in prepared.splits}
    return _header(
        metadata,
        settings,
        task=prepared.task,
        n_classes=prepared.n_classes,
        splits=layouts,
        standardisation=_standardisation(prepared, reporter) if metadata.standardise else None,
        classes=classes,
        columns=metadata.columns or msgspec.UNSET,
        targets=metadata.targets or msgspec.UNSET,
        target_standardisation=_of_targets(prepared) if metadata.standardise else msgspec.UNSET,
    )


def frames_header(metadata: Metadata, survey: Survey, classes: tuple[str, ...], settings: Settings) -> Header:
    """Make the header of a store of frames."""
    catalogue = survey.catalogue
    n_frames = max(sum(utterance.n_frames for utterance in utterances) for utterances in catalogue.utterances.values())
    settings = _chosen(settings, n_frames * catalogue.n_features * 4 * (2 * metadata.context + 1))
    layouts = {name: _frames_layout(metadata, survey, name, settings) for name in catalogue.utterances}
    return _header(
        metadata,
        settings,
        task="classification",
        n_classes=catalogue.n_classes,
        splits=layouts,
        standardisation=survey.standardisation if metadata.standardise else None,
        classes=classes,
    )


def _chosen(settings: Settings, nbytes: int) -> Settings:
    """Complete the settings with the number of partitions for a split of ``nbytes`` as loaded."""
    if settings.n_partitions is None:
        return replace(settings, n_partitions=max(N_PARTITIONS, math.ceil(nbytes / PARTITION_BYTES)))
    if settings.n_partitions < 1:
        raise UsageError(f"expected at least 1 partition, got {settings.n_partitions}")
    return settings


def _header(metadata: Metadata, settings: Settings, **fields: Any) -> Header:
    try:
        return Header(
            **metadata.texts,
            sources=metadata.sources,
            seed=settings.seed,
            rows=settings.rows,
            validation=msgspec.UNSET if settings.validation is None else settings.validation,
            n_partitions=settings.n_partitions or N_PARTITIONS,
            **fields,
        )
    except ValueError as error:
        raise UsageError(f"the store cannot have such a header: {error}") from error


def _layout(settings: Settings, **fields: Any) -> SplitLayout:
    try:
        return SplitLayout(**fields)
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


def _frames_layout(metadata: Metadata, survey: Survey, name: str, settings: Settings) -> SplitLayout:
    lengths = [utterance.n_frames for utterance in survey.catalogue.utterances[name]]
    sizes = tuple(sum(lengths[i] for i in group) for group in grouping(lengths, settings.n_partitions or N_PARTITIONS))
    n_features = survey.catalogue.n_features
    chunk_rows, partition_rows = chunking(max(sizes), n_features * 4, 1)
    return _layout(
        settings,
        n_rows=sum(sizes),
        n_features=n_features,
        n_outputs=None,
        x_dtype="float32",
        y_dtype=label_dtype(survey.catalogue.n_classes).__name__,
        chunk_rows=chunk_rows,
        partition_rows=partition_rows,
        partition_sizes=sizes,
        context=metadata.context,
        weighted=True if name in metadata.weighted else msgspec.UNSET,
    )


def _standardisation(prepared: Prepared, reporter: Reporter) -> Standardisation:
    """Mean and deviation over the rows of the training split, read block by block."""
    X, _ = prepared.splits["train"]
    if X.dtype != "float32":
        raise UsageError("bytes are not standardised; give scale and offset instead of standardise")
    order = prepared.orders["train"]
    moments = Moments(X.shape[1])
    counter = Counter(reporter.progress("Measuring mean and deviation", "rows"), len(order))
    for first in range(0, len(order), ROW_BLOCK):
        rows = order[first : first + ROW_BLOCK]
        moments.update(X[rows])
        counter.advance(len(rows))
    return moments.standardisation(() if prepared.origin is None else tuple(prepared.origin.tolist()))


def _of_targets(prepared: Prepared) -> Standardisation | msgspec.UnsetType:
    """Mean and deviation of regression targets over the rows of the training split; UNSET for classes."""
    if prepared.n_classes is not None:
        return msgspec.UNSET
    (_, y), order = prepared.splits["train"], prepared.orders["train"]
    moments = Moments(y.shape[1])
    for first in range(0, len(order), ROW_BLOCK):
        moments.update(y[order[first : first + ROW_BLOCK]])
    return of_targets(moments)
