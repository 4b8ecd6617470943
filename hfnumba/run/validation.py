"""Validation rows of a run, and the best iteration by their loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from hfnumba.checkpoint import Checkpoint
from hfnumba.errors import CheckpointError, UsageError
from hfnumba.optim.early_stopping import BestSoFar, EarlyStopping
from hfnumba.run.settings import TrainSettings

if TYPE_CHECKING:
    from hfnumba.engine.held_out import SplitPart
    from hfnumba.store import Split, Store

HELD_OUT = 0.1
"""Share of the training rows that early stopping holds out where the store has no split ``validation``."""

BEST = "best_so_far"
"""Name of the state of early stopping among the scalars of a checkpoint."""


def with_validation(store: Store, settings: TrainSettings) -> TrainSettings:
    """Return the settings with the share of the training rows that is held out.

    Raises
    ------
    UsageError
        If a share is given and the store has a split for validation.
    """
    if "validation" in store.splits:
        if settings.validation_fraction is not None:
            raise UsageError(f"{store.path} has a split validation, which is used; leave out --validation-fraction")
        return settings
    if settings.early_stopping and settings.validation_fraction is None:
        return msgspec.structs.replace(settings, validation_fraction=HELD_OUT)
    return settings


def rows_of_run(store: Store, settings: TrainSettings) -> Mapping[str, Split | SplitPart]:
    """Return the rows of a run by their use: ``train``, and ``validation`` and ``test`` where there are any.

    Raises
    ------
    UsageError
        If a share of the training rows is to be held out, but they cannot be divided.
    """
    from hfnumba.engine.held_out import hold_out  # noqa: PLC0415 - slow to import

    rows: dict[str, Split | SplitPart] = {name: store[name] for name in ("train", "test") if name in store.splits}
    if "validation" in store.splits:
        rows["validation"] = store["validation"]
    elif settings.validation_fraction is not None:
        rows["train"], rows["validation"] = hold_out(store["train"], settings.validation_fraction, settings.seed)
    return rows


def stopping_rule(settings: TrainSettings) -> EarlyStopping:
    """Return the rule of early stopping; a run without it follows the rule to find its best iteration."""
    given: dict[str, Any] = {"patience": settings.patience, "min_improvement": settings.min_improvement}
    return EarlyStopping(**{name: value for name, value in given.items() if value is not None})


def best_of(checkpoint: Checkpoint) -> BestSoFar | None:
    """Return the state of early stopping in a checkpoint; None of a run without validation rows.

    Raises
    ------
    CheckpointError
        If it is no state that a run writes.
    """
    state = checkpoint.scalars.get(BEST)
    if state is None:
        return None
    try:
        return msgspec.convert(state, BestSoFar)
    except msgspec.ValidationError as error:
        raise CheckpointError(
            f"the checkpoint of iteration {checkpoint.iteration} has no state of early stopping that a run writes "
            f"({error}); delete its two files to continue from the one before it"
        ) from None


def optimizer_scalars(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the scalars of a checkpoint that are the optimiser's."""
    return {name: value for name, value in checkpoint.scalars.items() if name != BEST}
