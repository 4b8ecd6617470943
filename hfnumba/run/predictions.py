"""Predictions of a model for all rows of a file or of a split, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from numpy.typing import NDArray

from hfnumba.errors import StoreError
from hfnumba.ingest.one_table import table_format
from hfnumba.launch.pool import Pool, this_worker
from hfnumba.progress import Counter, Reporter
from hfnumba.run.inputs import fitted
from hfnumba.run.model import TrainedModel
from hfnumba.run.rows import open_rows
from hfnumba.store.columns import feature_names, listed

if TYPE_CHECKING:
    from hfnumba.store import Split


@dataclass(frozen=True)
class Part:
    """Predictions for an utterance, or for all rows of a source without utterances.

    Attributes
    ----------
    name : str or None
        Name of the utterance.
    n_rows : int or None
        Number of rows; None for a table, which is not known before it is read.
    blocks : iterator of ndarray
        Outputs of the network, as :meth:`hfnumba.run.model.TrainedModel.predict` returns them.
    """

    name: str | None
    n_rows: int | None
    blocks: Iterator[NDArray[Any]]


def predictions(model: TrainedModel, path: Path, split: str, pool: Pool, reporter: Reporter) -> Iterator[Part]:
    """Predict the rows of a file, in its order, or of a split of a store, in stored order.

    Parameters
    ----------
    model : TrainedModel
    path : Path
        A table (CSV, Parquet), arrays (.npy, .npz, IDX), utterances (.ark, .scp), or a store.
    split : str
        Split of a store.
    pool : Pool
        Threads or workers that compute; the outputs have the same bits with any.
    reporter : Reporter
        Receiver of a note on each decision that the user should know.

    Raises
    ------
    DataError, StoreError, UsageError
        If the rows do not fit those of the run; the message names columns, categories and rows. Also while blocks are
        read.
    """
    if path.is_dir() and table_format(path) is None:
        yield _of_split(model, path, split, pool, reporter)
    elif table_format(path) is not None:
        from hfnumba.run.tables import table_rows  # noqa: PLC0415 - only for tables

        blocks = table_rows(path, model.record.store, reporter.note)
        yield Part(None, None, model.predict_blocks(blocks, model.n_features, pool))
    elif {".ark", ".scp"} & set(path.suffixes):
        yield from _of_utterances(model, path, pool)
    else:
        rows = open_rows(path)
        blocks = model.predict_blocks(rows.blocks(), rows.n_features, pool)
        columns = model.record.store.columns
        if columns is msgspec.UNSET:
            reporter.note("the run has no record of its columns: features are taken in the order of the training rows")
        elif columns:
            reporter.note(f"the features of {path} are taken for {listed(feature_names(columns))}")
        yield Part(None, rows.n_rows, blocks)


def _of_utterances(model: TrainedModel, path: Path, pool: Pool) -> Iterator[Part]:
    from hfnumba.formats.ark import read_matrix  # noqa: PLC0415 - only for these
    from hfnumba.ingest.sources.kaldi import read_index  # noqa: PLC0415

    for name, entry in read_index(path.resolve().parent, path.name).items():
        frames = read_matrix(entry)
        yield Part(name, len(frames), model.predict_blocks([frames], frames.shape[1], pool))


def _of_split(model: TrainedModel, path: Path, name: str, pool: Pool, reporter: Reporter) -> Part:
    from hfnumba.store import open_store  # noqa: PLC0415 - slow to import

    split = fitted(open_store(path)[name], model.record.store, model.network, reporter.note)
    counter = Counter(reporter.progress(f"Predicting {name}", "partitions"), split.n_partitions)

    def blocks() -> Iterator[NDArray[Any]]:
        # Workers read the partitions themselves.
        for block in pool.map(_of_partition, ((split, j) for j in range(split.n_partitions))):
            yield block
            counter.advance()

    reporter.note(f"rows of {path} come in the order in which the store has them, not in that of its source")
    return Part(None, split.n_rows, blocks())


def _of_partition(model: TrainedModel, split: Split, j: int) -> NDArray[Any]:
    try:
        rows = split.load(j)[0]
    except StoreError as error:
        named = _named(error)
        if named is error:
            raise
        raise named from error
    return model.outputs(rows, split.partition_rows(j)[0])


def _named(error: StoreError) -> StoreError:
    """Return an error of the store, on a worker of a cluster with its name."""
    from hfnumba.engine.cluster.worker import named_error  # noqa: PLC0415 - slow to import

    worker = this_worker()
    return error if worker is None else named_error(error, worker)
