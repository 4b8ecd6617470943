"""Writing a store from arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.ingest import writer
from hfnumba.ingest.build import AnyPath
from hfnumba.ingest.corpus import ArrayCorpus, CorpusContent, survey_corpus
from hfnumba.ingest.header import Metadata, Settings, frames_header, rows_header
from hfnumba.ingest.lazy_arrays import array_record, computed, gather_arrays
from hfnumba.ingest.prepare import prepare
from hfnumba.ingest.writer import WritePlan
from hfnumba.progress import SILENT
from hfnumba.store.checks import checked_weights, unmasked
from hfnumba.store.manifest import Task
from hfnumba.store.store import Store


def write_store(
    out: AnyPath,
    splits: Mapping[str, tuple[Any, ...]],
    *,
    n_partitions: int | None = None,
    seed: int = 0,
    scale: float = 1.0,
    offset: float = 0.0,
    standardise: bool = False,
    task: Task | None = None,
    n_classes: int | None = None,
    name: str = "arrays",
    title: str = "",
    licence: str = "",
    homepage: str = "",
) -> Store:
    """Write a store from arrays: NumPy arrays, or arrays of Dask, Zarr, h5py or a memory map, read block by block.

    Parameters
    ----------
    out : path
        Folder of the store.
    splits : mapping of str to (X, y) or (X, y, weights)
        ``"train"``, and optionally ``"test"`` and ``"validation"``. ``X`` has rows along its first axis;
        bytes stay bytes, whole numbers from 0 to 255 become bytes, anything else float32. ``y`` holds class
        numbers, or targets of shape (rows,) or (rows, n_outputs). ``weights`` has one weight per row, at least 0 and
        not all 0; they are stored in float32.
    n_partitions : int, optional
        Number of partitions of each split; default 16, or more, so that none takes more than 15 MiB as loaded.
    seed : int
        Seed of the shuffle.
    scale, offset : float
        Affine map of the features in training, ``x * scale + offset``.
    standardise : bool
        Whether loading subtracts the mean of the training rows and divides by their deviation (float32 features only).
    task : {"classification", "regression"}, optional
        Task; default regression if the training targets are floating-point numbers.
    n_classes : int, optional
        Number of classes; default the largest label plus one.
    name, title, licence, homepage : str
        Metadata recorded in the store.

    Returns
    -------
    Store
        The finished store, open.

    Raises
    ------
    DataError
        If rows are not usable for training.
    StoreError
        If ``out`` holds anything but the same store, or cannot be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from hfnumba import write_store
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((100, 5)), rng.integers(0, 3, 100)
    >>> with TemporaryDirectory() as folder:
    ...     store = write_store(f"{folder}/small.zarr", {"train": (X, y)}, standardise=True)
    >>> store["train"].n_rows, store["train"].n_outputs
    (100, 3)
    """
    pairs, weights = _separated(splits)
    arrays, records, origin = gather_arrays(pairs, standardise=standardise)
    prepared = prepare(
        arrays,
        task=task,
        n_classes=n_classes,
        seed=seed,
        weights=weights,
        standardise=standardise,
        origin=origin,
    )
    texts: dict[str, Any] = {"name": name, "title": title, "licence": licence, "homepage": homepage}
    records += tuple(array_record(f"{key}.weights", own) for key, own in weights.items())
    metadata = Metadata(texts | {"scale": float(scale), "offset": float(offset)}, records, standardise=standardise)
    header = rows_header(metadata, prepared, Settings(n_partitions, None, seed))
    path = Path(out).expanduser().absolute()
    with writer.locked(path):
        writer.begin(path, WritePlan(header=header))
        return writer.write_all(path, header, prepared)


def write_frames(
    out: AnyPath,
    splits: Mapping[str, Sequence[tuple[NDArray[Any], ...]]],
    *,
    context: int = 0,
    standardise: bool = True,
    n_partitions: int | None = None,
    seed: int = 0,
    n_classes: int | None = None,
    name: str = "frames",
    title: str = "",
    licence: str = "",
    homepage: str = "",
) -> Store:
    """Write a store of frames, such as those of speech, from utterances in memory.

    Parameters
    ----------
    out : path
        Folder of the store.
    splits : mapping of str to sequence of (X, y) or (X, y, weights)
        The utterances of ``"train"``, and optionally ``"test"`` and ``"validation"``: features (frames, n_features),
        class numbers (frames,), and weights (frames,) in all utterances of a split or in none.
    context : int
        Number of neighbours on each side that loading splices to a frame.
    standardise : bool
        Whether loading subtracts the mean and divides by the deviation of the training frames.
    n_partitions, seed, n_classes : int, optional
        Numbers of partitions and of classes, and seed of the shuffle, as for :func:`write_store`.
    name, title, licence, homepage : str
        Metadata recorded in the store.

    Returns
    -------
    Store
        The finished store, open.

    Raises
    ------
    DataError
        If an utterance is not usable for training.
    StoreError
        If ``out`` holds anything but the same store, or cannot be written.
    """
    pairs, weights = _separated_frames(splits)
    corpus = ArrayCorpus(pairs, n_classes)
    survey = survey_corpus(corpus, seed=seed)
    texts: dict[str, Any] = {"name": name, "title": title, "licence": licence, "homepage": homepage}
    records = corpus.sources(SILENT)
    records += tuple(array_record(f"{key}.weights", np.concatenate(own)) for key, own in weights.items())
    metadata = Metadata(texts | {"scale": 1.0, "offset": 0.0}, records, context, standardise, weights.keys())
    header = frames_header(metadata, survey, (), Settings(n_partitions, None, seed))
    path = Path(out).expanduser().absolute()
    by_name = {f"{key}-{i}": own for key, values in weights.items() for i, own in enumerate(values)}
    with writer.locked(path):
        writer.begin(path, WritePlan(header=header))
        return writer.write_all(path, header, CorpusContent(corpus, survey.catalogue, by_name))


def _separated(splits: Mapping[str, tuple[Any, ...]]) -> tuple[dict[str, tuple[Any, Any]], dict[str, NDArray[Any]]]:
    """Pairs of features and targets, and the weights of those splits that have a third array."""
    pairs, weights = {}, {}
    for name, arrays in splits.items():
        if not 2 <= len(arrays) <= 3:
            raise DataError(f"{name}: expected (X, y) or (X, y, weights), got {len(arrays)} arrays")
        pairs[name] = (arrays[0], arrays[1])
        if len(arrays) == 3:
            weights[name] = unmasked(f"{name}, weights", computed(arrays[2]))
    return pairs, weights


def _separated_frames(
    splits: Mapping[str, Sequence[tuple[NDArray[Any], ...]]],
) -> tuple[dict[str, list[tuple[NDArray[Any], NDArray[Any]]]], dict[str, list[NDArray[np.float64]]]]:
    """Pairs of features and labels, and the checked weights of the utterances of those splits that have them."""
    pairs: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
    weights: dict[str, list[NDArray[np.float64]]] = {}
    for split, utterances in splits.items():
        separated = [_separated({f"{split}, utterance {i}": arrays}) for i, arrays in enumerate(utterances)]
        pairs[split] = [pair for pairs_of, _ in separated for pair in pairs_of.values()]
        own = [values for _, weights_of in separated for values in weights_of.values()]
        if own and len(own) != len(separated):
            raise DataError(f"{split}: {len(own)} of {len(separated)} utterances have weights; expected all or none")
        if own:
            for i, (values, (X, _)) in enumerate(zip(own, pairs[split], strict=True)):
                if values.shape != (len(X),):
                    raise DataError(f"{split}, utterance {i}: expected {len(X)} weights, got shape {values.shape}")
            ends = np.cumsum([len(values) for values in own])
            weights[split] = np.split(checked_weights(split, np.concatenate(own), int(ends[-1])), ends[:-1])
    return pairs, weights
