"""From arrays in memory to a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hfnumba.data import writer
from hfnumba.data.building import AnyPath
from hfnumba.data.corpus import ArrayCorpus, CorpusContent, take_stock
from hfnumba.data.describe import About, Settings, describe_frames, describe_rows
from hfnumba.data.manifest import Task
from hfnumba.data.prepare import prepare
from hfnumba.data.store import Store
from hfnumba.data.streamed import gather_arrays
from hfnumba.data.writer import Plan


def write_store(
    out: AnyPath,
    splits: Mapping[str, tuple[Any, Any]],
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
    """Write a store from arrays: in memory, or of Dask, Zarr, h5py or a map, which are read a block at a time.

    Parameters
    ----------
    out : path
        Folder of the store.
    splits : mapping of str to (X, y)
        ``"train"``, and optionally ``"test"`` and ``"validation"``. ``X`` has rows along its first axis;
        bytes stay bytes, whole numbers from 0 to 255 become bytes, anything else float32. ``y`` holds class
        numbers, or targets of shape (rows,) or (rows, n_outputs).
    n_partitions : int, optional
        Partitions of each split; by default 16, or so many that none takes more than 15 MiB as loaded.
    seed : int
        Key of the shuffle.
    scale, offset : float
        Training sees ``x * scale + offset``.
    standardise : bool
        Whether loading subtracts the mean of the training rows and divides by their deviation (float32 features only).
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
    arrays, records = gather_arrays(splits)
    prepared = prepare(arrays, task=task, n_classes=n_classes, seed=seed)
    texts: dict[str, Any] = {"name": name, "title": title, "licence": licence, "homepage": homepage}
    about = About(texts | {"scale": float(scale), "offset": float(offset)}, records, standardise=standardise)
    header = describe_rows(about, prepared, Settings(n_partitions, None, seed))
    path = Path(out).expanduser().absolute()
    writer.begin(path, Plan(header=header))
    return writer.write_all(path, header, prepared, None)


def write_frames(
    out: AnyPath,
    splits: Mapping[str, Sequence[tuple[NDArray[Any], NDArray[Any]]]],
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
    """Write a store of frames from utterances in memory.

    Parameters
    ----------
    out : path
        Folder of the store.
    splits : mapping of str to sequence of (X, y)
        The utterances of ``"train"``, and optionally ``"test"`` and ``"validation"``: features (frames, n_features)
        and class numbers (frames,).
    context : int
        Neighbours on each side that loading splices to a frame.
    standardise : bool
        Whether loading subtracts the mean and divides by the deviation of the training frames.
    n_partitions, seed, n_classes, name, title, licence, homepage
        As for :func:`write_store`.

    Raises
    ------
    DataError
        If an utterance is not what training needs.
    StoreError
        If ``out`` holds anything but the same store, or cannot be written.
    """
    corpus = ArrayCorpus(splits, n_classes)
    stock = take_stock(corpus, seed=seed)
    texts: dict[str, Any] = {"name": name, "title": title, "licence": licence, "homepage": homepage}
    about = About(texts | {"scale": 1.0, "offset": 0.0}, corpus.sources(), context, standardise)
    header = describe_frames(about, stock, (), Settings(n_partitions, None, seed))
    path = Path(out).expanduser().absolute()
    writer.begin(path, Plan(header=header))
    return writer.write_all(path, header, CorpusContent(corpus, stock.catalogue), None)
