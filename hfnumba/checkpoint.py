"""Checkpoints: tensors in safetensors, everything else in JSON, written atomically.

A checkpoint is ``iteration-00003.safetensors`` and ``iteration-00003.json``. The JSON names the SHA-256 of the
tensor file and is renamed into place last, so a checkpoint exists exactly when its JSON does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.atomic import RESUME, explain, write_file
from hfnumba.errors import CheckpointError

FORMAT = 1
RETAINED = 2
"""Number of checkpoints in a folder: the newest, and the one before it in case the newest is damaged later."""

_NAME = re.compile(r"iteration-(\d+)\.json")
_OWN = re.compile(r"\.?(iteration-\d+)\.(?:json|safetensors)(\.\w+\.tmp)?")
"""Names of files of checkpoints, and of those that are being written."""


@dataclass(frozen=True)
class Checkpoint:
    """State from which a run continues.

    Attributes
    ----------
    iteration : int
        Number of outer iterations done.
    tensors : dict of str to ndarray
        ``theta``, and the vectors in the state of the optimiser.
    scalars : dict
        Other state of the optimiser, as JSON values; floats are exact to the bit.
    store_digest : str
        Digest of the training data.
    settings_digest : str
        Digest of the settings that must not change within a run.
    ledger_line : dict
        Ledger line of this iteration, in case the process ended before it was in the ledger.
    """

    iteration: int
    tensors: dict[str, NDArray[Any]]
    scalars: dict[str, Any]
    store_digest: str
    settings_digest: str
    ledger_line: dict[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, then delete all but the newest two; return the path of its JSON.

    The tensors are copied once in memory. Two files are synced to disk.

    Raises
    ------
    CheckpointError
        If the disk is full or a file cannot be written; the checkpoints before it remain.
    """
    from safetensors.numpy import save  # noqa: PLC0415 - reading a ledger does not need it

    tensors = {name: np.asarray(array, order="C") for name, array in checkpoint.tensors.items()}
    payload = save(tensors)
    path = folder / f"iteration-{checkpoint.iteration:05d}.json"
    record = {
        "format": FORMAT,
        "iteration": checkpoint.iteration,
        "scalars": checkpoint.scalars,
        "store_digest": checkpoint.store_digest,
        "settings_digest": checkpoint.settings_digest,
        "ledger_line": checkpoint.ledger_line,
        "tensors_sha256": hashlib.sha256(payload).hexdigest(),
    }
    tensor_file = path.with_suffix(".safetensors")
    target = tensor_file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(tensor_file, payload)
        target = path
        write_file(path, json.dumps(record, indent=1).encode())
    except OSError as error:
        raise CheckpointError(explain(error, target, RESUME)) from error
    _prune(folder)
    return path


def iterations(folder: Path) -> list[int]:
    """Iterations of the complete checkpoints in a folder, in ascending order."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for entry in folder.iterdir() if (match := _NAME.fullmatch(entry.name)))


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint of a folder; None if there is none.

    Raises
    ------
    CheckpointError
        If it is damaged. An older one is never used silently in its place.
    """
    found = iterations(folder)
    return read_checkpoint(folder / f"iteration-{found[-1]:05d}.json") if found else None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint by the path of its JSON file, and verify its tensors.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, or has another format.
    """
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import load  # noqa: PLC0415

    remedy = "delete the two files of this checkpoint to continue from the one before it"
    tensor_file = path.with_suffix(".safetensors")
    try:
        record = json.loads(path.read_bytes())
        if record["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has format {record['format']}, expected {FORMAT}; use the version of hfnumba that wrote it"
            )
        payload = tensor_file.read_bytes()
        if hashlib.sha256(payload).hexdigest() != record.pop("tensors_sha256"):
            raise CheckpointError(f"{tensor_file} is damaged: its SHA-256 is not the one in {path.name}; {remedy}")
        del record["format"]
        return Checkpoint(tensors=load(payload), **record)
    except OSError as error:
        raise CheckpointError(f"{error.filename or path} cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged or not a checkpoint ({error!r}); {remedy}") from error


def _prune(folder: Path) -> None:
    """Delete old checkpoints and leftovers of crashes, but nothing else; a failure to do so only costs disk space."""
    newest = iterations(folder)[-RETAINED:]
    stems = {f"iteration-{iteration:05d}" for iteration in newest}
    # The JSON file first: without it there is no checkpoint.
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.suffix != ".json"):
        own = _OWN.fullmatch(entry.name)
        if own and (own[2] or own[1] not in stems):
            with contextlib.suppress(OSError):
                entry.unlink()
