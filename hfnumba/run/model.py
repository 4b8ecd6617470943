"""A trained network, read from the directory of a run."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.errors import CheckpointError, DataError, UsageError
from hfnumba.network import Network
from hfnumba.progress import SILENT, Reporter
from hfnumba.run.directory import RunDirectory, RunRecord

if TYPE_CHECKING:
    from hfnumba.store import Split


@dataclass(frozen=True)
class TrainedModel:
    """The network and the parameters of the newest checkpoint of a run."""

    record: RunRecord
    network: Network
    theta: NDArray[Any]
    iteration: int

    @property
    def classifies(self) -> bool:
        """Whether the outputs are probabilities of classes that exclude each other."""
        return self.network.takes_labels

    def evaluate(self, split: Split, reporter: Reporter = SILENT) -> tuple[float, float]:
        """Return f (with the penalty and the class weights of the run) and the error rate on a split.

        Rows of the split that have weights weigh in f as these say. Reads each row once;
        ``reporter`` receives the progress.

        Raises
        ------
        DataError
            If the split's features or classes do not fit the network.
        """
        from hfnumba.engine import SplitObjective  # noqa: PLC0415 - slow to import

        if (split.n_features, split.n_outputs, split.task) != (
            self.network.n_features,
            self.network.n_outputs,
            self.record.store.task,
        ):
            raise DataError(
                f"the run is for {self.record.store.task} with {self.network.n_features} features and "
                f"{self.network.n_outputs} outputs, but split {split.name!r} of {split.path} is for {split.task} "
                f"with {split.n_features} and {split.n_outputs}; give a store of the same kind"
            )
        l2, class_weights = self.record.settings.l2, self.record.store.class_weights or None
        with SplitObjective(self.network, split, l2=l2, class_weights=class_weights, reporter=reporter) as objective:
            return objective.value_and_error(self.theta)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return class probabilities or outputs, shape (n_rows, n_outputs), for rows as the store's source has them.

        They are standardised, spliced and scaled as the training rows were. For a network trained on frames the rows
        are the frames of one utterance, in order.
        """
        from hfnumba.engine import predict  # noqa: PLC0415
        from hfnumba.store.frames import splice  # noqa: PLC0415 - slow to import
        from hfnumba.store.standardise import Standardisation  # noqa: PLC0415

        rows, store = np.asarray(X), self.record.store
        n_features = self.network.n_features // (2 * store.context + 1)
        if rows.ndim != 2 or rows.shape[1] != n_features or rows.dtype.kind not in "fiub":
            raise DataError(f"expected rows of {n_features} numbers, got {rows.dtype} of shape {rows.shape}")
        if store.mean:
            rows = Standardisation(store.mean, store.deviation, store.origin).apply(rows)
        if store.context and len(rows):
            start = np.zeros(len(rows), np.uint8)
            start[0] = 1
            rows = splice(rows.astype(np.float32), start, store.context)
        return predict(self.network, self.theta, rows, store.scale, store.offset)


def load_model(path: Path) -> TrainedModel:
    """Read a run's newest checkpoint.

    Raises
    ------
    CheckpointError
        If this is not a run, it has no checkpoint, or that is damaged.
    """
    directory = RunDirectory(path)
    record = directory.record()
    checkpoint = directory.newest()
    network = record.network.network()
    theta = checkpoint.tensors.get("theta")
    if theta is None or theta.shape != (network.n_params,):
        raise CheckpointError(
            f"the newest checkpoint of {path} holds no parameters of its network ({network.n_params} in theta); "
            f"restore {directory.config} or the checkpoint"
        )
    return TrainedModel(record, network, theta, checkpoint.iteration)


def read_rows(path: Path) -> NDArray[Any]:
    """Read rows of features from ``.npy``, ``.npz`` (its array ``X``, or its only one) or IDX, plain or ``.gz``.

    Returns
    -------
    ndarray, shape (n_rows, n_features)
        All axes after the first are flattened; one row may come as a vector. Never unpickled.

    Raises
    ------
    DataError
        If the file is not what its suffix says.
    UsageError
        If an archive has several arrays and none is called ``X``.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; give a file of rows (.npy, .npz, or IDX)")
    try:
        rows = _read_array(path)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, (DataError, UsageError)):
            raise
        raise DataError(f"{path} cannot be read as rows of numbers: {error}") from error
    if rows.ndim == 0:
        raise DataError(f"{path} holds a single number, expected rows of features")
    return rows.reshape(1, -1) if rows.ndim == 1 else rows.reshape(len(rows), -1)


def _read_array(path: Path) -> NDArray[Any]:
    if path.suffix not in (".npy", ".npz"):
        from hfnumba.ingest.sources.idx import read_idx  # noqa: PLC0415 - only for IDX

        return read_idx(path)[0]
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded as archive:
        names = archive.files
        if "X" not in names and len(names) != 1:
            raise UsageError(f"{path} holds the arrays {', '.join(names)}, expected one of them to be called X")
        rows: NDArray[Any] = archive["X" if "X" in names else names[0]]
    return rows
