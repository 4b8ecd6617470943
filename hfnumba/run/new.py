"""Record of a new run: its settings, completed by the task of its store, its network and its training data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from hfnumba.errors import UsageError
from hfnumba.progress import Reporter
from hfnumba.run.inputs import store_record
from hfnumba.run.method_settings import refuse_other_target
from hfnumba.run.records import NetworkRecord, RunRecord
from hfnumba.run.settings import TrainSettings
from hfnumba.run.validation import with_validation

if TYPE_CHECKING:
    from hfnumba.store import Split, Store

LOSS_OF_TASK = {
    "classification": "softmax_cross_entropy",
    "regression": "squared_error",
    "autoencode": "squared_error",
}


def new_record(store: Store, settings: TrainSettings, reporter: Reporter, given: Mapping[str, Any]) -> RunRecord:
    """Return the record of a run with settings on a store; ``given`` are those of them that the user gave now.

    Raises
    ------
    UsageError
        If settings do not fit the task of the store.
    """
    split = store["train"]
    settings = with_validation(store, settings)
    settings = msgspec.structs.replace(settings, loss=settings.loss or LOSS_OF_TASK[split.task])
    refuse_other_target(settings, given)
    sizes = (split.n_features, *settings.hidden, split.n_outputs)
    network = NetworkRecord(sizes=sizes, activation=settings.activation, loss=str(settings.loss))
    data = store_record(split, network.network(), _class_weights(split, settings, reporter))
    data = msgspec.structs.replace(data, **_form_of_csv(store))
    return RunRecord(settings=settings, network=network, store=data)


def _form_of_csv(store: Store) -> dict[str, Any]:
    """Return what the recipe of a store says about the form of CSV files."""
    if not store.manifest.header.recipe:
        return {}
    from hfnumba.run.tables import form_of_csv, options_of  # noqa: PLC0415 - only for tables

    return form_of_csv(options_of(store))


def _class_weights(split: Split, settings: TrainSettings, reporter: Reporter) -> tuple[float, ...]:
    """Return the weights of the classes; empty for none."""
    from hfnumba.store.class_weights import balanced, checked_class_weights  # noqa: PLC0415 - slow to import

    if settings.class_weights is None:
        return ()
    if split.n_classes is None:
        raise UsageError(f"class weights need classes, but the run is for {split.task}; leave out --class-weights")
    if settings.class_weights == "balanced":
        return balanced(split, reporter)
    return checked_class_weights(settings.class_weights, split.n_classes)
