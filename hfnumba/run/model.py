"""A trained network, read from the directory of a run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import CheckpointError, DataError, UsageError
from hfnumba.html import table
from hfnumba.metrics import ERROR, metrics_of
from hfnumba.network import Network
from hfnumba.path_text import text_path
from hfnumba.progress import SILENT, Reporter
from hfnumba.run.directory import RunDirectory
from hfnumba.run.inputs import fitted, with_names
from hfnumba.run.records import RunRecord
from hfnumba.run.scores import Measurement, finite_loss, measured
from hfnumba.store.checks import unmasked
from hfnumba.store.columns import listed

if TYPE_CHECKING:
    from hfnumba.engine import SplitObjective
    from hfnumba.launch.pool import Pool
    from hfnumba.store import Split

_BLOCK_NBYTES = 2**22


@dataclass(frozen=True)
class TrainedModel:
    """The network and the parameters of a checkpoint of a run.

    Attributes
    ----------
    record : RunRecord
        Settings, network and training data of the run: ``record.store.columns`` are the columns of its features.
    network : Network
        Network that was trained.
    theta : ndarray of float32, shape (n_params,)
        Parameters of the network.
    iteration : int
        Number of outer iterations done.
    """

    record: RunRecord
    network: Network
    theta: NDArray[Any]
    iteration: int

    def __repr__(self) -> str:
        return f"TrainedModel({self.network}, iteration {self.iteration}, {self.record.store.task})"

    def _repr_html_(self) -> str:
        data = self.record.store
        rows = [
            ("method", self.record.settings.method),
            ("iteration", str(self.iteration)),
            ("task", data.task),
            ("features", str(self.n_features)),
            *([("classes", listed(self.classes))] if self.classes else []),
            ("trained on", str(text_path(data.path))),
        ]
        return table("Trained model", rows) + self.network._repr_html_()

    @property
    def classifies(self) -> bool:
        """Whether the outputs are probabilities of classes that exclude each other."""
        return self.network.takes_labels

    def evaluate(self, split: Split, reporter: Reporter = SILENT) -> tuple[float, float]:
        """Return f (with the penalty and the class weights of the run) and the error on a split of any store.

        The error is the error rate, or for squared error the mean squared deviation of the network's outputs;
        :meth:`measure` has all measures in the units of the targets, and the description of rows and errors.
        """
        with self._objective(split, reporter) as (objective, rows):
            loss, error = objective.value_and_error(self.theta)
            return finite_loss(loss, rows), error

    def measure(self, split: Split, reporter: Reporter = SILENT) -> Measurement:
        """Measure loss, error rate, RMSE and R², as the loss has them, on a split of any store.

        Features and labels are those of the training rows, whatever the split's store says: matched by the names of
        columns and classes, then standardised and scaled by the run's numbers. Rows of the split that have weights
        weigh in f as these say. RMSE and R² are those of targets in their own units. Reads each row once (targets
        twice for RMSE and R²); ``reporter`` receives the progress, and a note on each decision.

        Raises
        ------
        DataError
            If the split's columns, categories or classes do not fit those of the run.
        NumericalError
            If the loss is not finite.
        """
        if self.autoencodes:
            return self._reconstruction(split, reporter)
        with self._objective(split, reporter) as (objective, rows):
            found = measured(objective, self.theta, self.record.store, rows, reporter)
            finite_loss(found.loss, rows)
            return found

    def _reconstruction(self, split: Split, reporter: Reporter) -> Measurement:
        """Measure an autoencoder, whose targets are the inputs."""
        loss, error = self.evaluate(split, reporter)
        squared = self.squared_error(split)
        shown = error if ERROR in metrics_of(self.network.loss) else None
        return Measurement(loss, shown, math.sqrt(squared / self.network.n_outputs), squared_error=squared)

    @contextmanager
    def _objective(self, split: Split, reporter: Reporter) -> Iterator[tuple[SplitObjective, Split]]:
        """Objective over a split, and the split with its rows as the training rows of the run were."""
        from hfnumba.engine import SplitObjective  # noqa: PLC0415 - slow to import

        split = fitted(split, self.record.store, self.network, reporter.note)
        l2, class_weights = self.record.settings.l2, self.record.store.class_weights or None
        with SplitObjective(self.network, split, l2=l2, class_weights=class_weights, reporter=reporter) as objective:
            yield objective, split

    @property
    def autoencodes(self) -> bool:
        """Whether the targets were the features, so that the outputs are reconstructions of them."""
        return self.record.store.task == "autoencode"

    def squared_error(self, split: Split) -> float:
        """Return the mean over the rows of a split of ‖output - target‖², for an autoencoder.

        Both in the scale of the network's inputs: standardised and scaled. It is twice the loss squared error, without
        the penalty. Cost: a forward pass; one partition is in memory at a time.
        """
        from hfnumba.engine import predict  # noqa: PLC0415 - slow to import

        split, total = fitted(split, self.record.store, self.network, SILENT.note), 0.0
        for j in range(split.n_partitions):
            X, targets = split.load(j)
            outputs = predict(
                self.network, self.theta, X, split.scale, split.offset, first_row=split.partition_rows(j)[0]
            )
            outputs -= targets.astype(np.float32) * np.float32(split.scale) + np.float32(split.offset)
            total += float(np.square(outputs, dtype=np.float64).sum())
        return total / split.n_rows

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of their numbers; empty if they have none, or none are recorded."""
        return self.record.store.classes or ()

    @property
    def n_features(self) -> int:
        """Number of features of a row, without the context of frames."""
        return self.network.n_features // (2 * self.record.store.context + 1)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probabilities of the classes; what :meth:`predict` returns for a classifier.

        Raises
        ------
        UsageError
            If the network is not a classifier.
        """
        if not self.classifies:
            raise UsageError(
                f"a network with the loss {self.network.loss} has no probabilities of classes; use predict"
            )
        return self.predict(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return class probabilities or outputs for rows as the store's source has them.

        They are standardised, spliced and scaled as the training rows were, and standardised targets are brought back
        to their own units. For a network trained on frames the rows are the frames of one utterance, in order.

        Parameters
        ----------
        X : array_like, shape (n_rows, n_features), or data frame
            If the run has names of columns, those of a data frame are matched by name, and categories encoded.

        Returns
        -------
        ndarray, shape (n_rows, n_outputs)
            In float32.

        Raises
        ------
        DataError
            If the rows do not fit those of the run, or are not finite in float32; the message names the first.
        """
        columns = self.record.store.columns
        if hasattr(X, "columns") and columns is msgspec.UNSET:
            raise DataError(
                "the run is of an earlier version and has no names of columns to compare those of the data frame with; "
                "give its rows as an array, in the order of the training rows"
            )
        if hasattr(X, "columns") and columns:
            from hfnumba.run.frames import frame_features  # noqa: PLC0415 - only for data frames

            X = frame_features(X, self.record.store)
        rows = unmasked("rows", X)
        if rows.ndim != 2 or rows.dtype.kind not in "fiub":
            raise DataError(f"expected rows of {self.n_features} numbers, got {rows.dtype} of shape {rows.shape}")
        outputs = list(self.predict_blocks([rows], rows.shape[1]))
        return np.concatenate([np.empty((0, self.network.n_outputs), self.theta.dtype), *outputs])

    def outputs(self, rows: NDArray[Any], first_row: int = 0) -> NDArray[Any]:
        """Return what :meth:`predict` does for rows that are standardised and spliced already, but not scaled."""
        from hfnumba.engine import predict  # noqa: PLC0415 - slow to import

        store = self.record.store
        found = predict(self.network, self.theta, rows, store.scale, store.offset, first_row=first_row)
        targets = store.target_standardisation
        return found if targets is None else targets.undo(found)

    def predict_blocks(
        self, blocks: Iterable[NDArray[Any]], n_features: int, pool: Pool | None = None
    ) -> Iterator[NDArray[Any]]:
        """Return what :meth:`predict` does, in blocks, for rows that come in blocks; few of them are in memory at once.

        ``pool`` are the threads or workers that compute them; without, this thread does.

        Raises
        ------
        DataError
            As :meth:`predict`; for a wrong width before a block is read.
        """
        if n_features != self.n_features:
            raise DataError(f"expected rows of {self.n_features} numbers, got rows of {n_features}")
        inputs = self._inputs(blocks)
        if pool is not None:
            return pool.map(TrainedModel.outputs, inputs)
        return (self.outputs(*some) for some in inputs)

    def _inputs(self, blocks: Iterable[NDArray[Any]]) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Standardised and spliced rows in blocks, with the number of the first row of each."""
        from hfnumba.store.frames import splice_blocks  # noqa: PLC0415 - slow to import

        first = 0
        for block in splice_blocks(self._standardised(blocks), self.record.store.context):
            yield block, first
            first += len(block)

    def _standardised(self, blocks: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """Rows in float32, checked and standardised, in blocks of about 4 MB with their context."""
        from hfnumba.engine.predict import refuse_not_finite  # noqa: PLC0415 - slow to import

        standardisation, n_rows = self.record.store.standardisation, 0
        step = max(1, _BLOCK_NBYTES // (4 * self.network.n_features))
        for block in blocks:
            for first in range(0, len(block), step):
                rows = block[first : first + step]
                with np.errstate(over="ignore"):
                    values = (rows if standardisation is None else standardisation.stored(rows)).astype(np.float32)
                refuse_not_finite(values, rows, n_rows)
                if standardisation is not None:
                    standardisation.apply_in_place(values)
                yield values
                n_rows += len(rows)


def load_model(path: str | os.PathLike[str], checkpoint: Literal["best", "newest"] = "best") -> TrainedModel:
    """Read a network that a run has trained.

    Parameters
    ----------
    path : path
        Directory of the run.
    checkpoint : {"best", "newest"}
        Which parameters: those with the lowest validation loss, or those of the newest iteration, which a run without
        validation rows has only.

    Returns
    -------
    TrainedModel
        Network, parameters and record of the run.

    Raises
    ------
    CheckpointError
        If this is not a run, or it has no such checkpoint, or that is damaged or of another run.
    """
    directory = RunDirectory(Path(path))
    record = directory.record()
    found = directory.best() if checkpoint == "best" else directory.newest()
    directory.refuse_other(record, found)
    network = record.network.network()
    record = msgspec.structs.replace(record, store=with_names(record.store, network))
    theta = found.tensors.get("theta")
    if theta is None or theta.shape != (network.n_params,) or theta.dtype != np.float32 or not np.isfinite(theta).all():
        raise CheckpointError(
            f"the {checkpoint} checkpoint of {path} holds no parameters of its network ({network.n_params} finite "
            f"numbers in theta); restore {directory.config} or the checkpoint"
        )
    return TrainedModel(record, network, theta, found.iteration)
