"""Checkpoints: tensors in safetensors, everything else in JSON, written atomically.

A checkpoint is ``iteration-00003.safetensors`` and ``iteration-00003.json``. The JSON names the SHA-256 of the
tensor file and of its own values, and is renamed into place last, so a checkpoint exists exactly when its JSON does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hfnumba.atomic import RESUME, TEMPORARY, explain, read_regular, write_file
from hfnumba.errors import CheckpointError

__all__ = ["Checkpoint", "newest_checkpoint", "read_checkpoint"]

FORMAT = 2
"""Format that is written; format 1, without the digest of the JSON's values and the size of the tensors, is read."""

RETAINED = 2
"""Number of checkpoints in a folder: the newest, and the one before it in case the newest is damaged later."""

_NAME = re.compile(r"iteration-(\d+)\.json")
_FILE = re.compile(r"iteration-\d+\.(json|safetensors)")
_LEFTOVER = re.compile(rf"\.{_FILE.pattern}\.\w+{re.escape(TEMPORARY)}")
_MAX_RECORD = 16 << 20
_REMEDY = "delete the two files of this checkpoint to continue from the one before it"


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
    path = json_path(folder, checkpoint.iteration)
    record = {
        "format": FORMAT,
        "iteration": checkpoint.iteration,
        "scalars": checkpoint.scalars,
        "store_digest": checkpoint.store_digest,
        "settings_digest": checkpoint.settings_digest,
        "ledger_line": checkpoint.ledger_line,
        "tensors_sha256": hashlib.sha256(payload).hexdigest(),
        "tensors_nbytes": len(payload),
    }
    record["sha256"] = _digest(record)
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


def json_path(folder: Path, iteration: int) -> Path:
    """Path of the JSON of the checkpoint of an iteration; its tensors are beside it."""
    return folder / f"iteration-{iteration:05d}.json"


def iterations(folder: Path) -> list[int]:
    """Iterations of the complete checkpoints in a folder, in ascending order.

    Raises
    ------
    CheckpointError
        If the folder cannot be read.
    """
    if not folder.is_dir():
        return []
    try:
        return sorted(int(match[1]) for entry in folder.iterdir() if (match := _NAME.fullmatch(entry.name)))
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error.strerror})") from error


def discard_after(folder: Path, iteration: int) -> None:
    """Delete the checkpoints of later iterations, which a run left that is continued from an earlier one.

    Raises
    ------
    CheckpointError
        If one cannot be deleted.
    """
    for later in iterations(folder):
        path = json_path(folder, later)
        try:
            if later > iteration:
                # The JSON file first: without it there is no checkpoint.
                path.unlink()
                path.with_suffix(".safetensors").unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(explain(error, path, RESUME)) from error


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint of a folder.

    Parameters
    ----------
    folder : Path
        Folder ``checkpoints`` of a run, or the folder ``best`` in it.

    Returns
    -------
    Checkpoint or None
        None if there is none.

    Raises
    ------
    CheckpointError
        If it is damaged. An older one is never used silently in its place.
    """
    found = iterations(folder)
    return read_checkpoint(json_path(folder, found[-1])) if found else None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, and verify its tensors and values.

    Parameters
    ----------
    path : Path
        Its JSON file; the tensors are in the file beside it.

    Returns
    -------
    Checkpoint
        State of that iteration.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, or has another format.
    """
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import load  # noqa: PLC0415

    tensor_file = path.with_suffix(".safetensors")
    try:
        record = _verified(path)
        payload = read_regular(tensor_file, sys.maxsize if record.tensors_nbytes is None else record.tensors_nbytes)
        if hashlib.sha256(payload).hexdigest() != record.tensors_sha256:
            raise CheckpointError(f"{tensor_file} is damaged: its SHA-256 is not the one in {path.name}; {_REMEDY}")
        return Checkpoint(
            iteration=record.iteration,
            tensors=load(payload),
            scalars=record.scalars,
            store_digest=record.store_digest,
            settings_digest=record.settings_digest,
            ledger_line=record.ledger_line,
        )
    except OSError as error:
        raise CheckpointError(f"{error.filename or path} cannot be read ({error.strerror}); {_REMEDY}") from error
    except (ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged or not a checkpoint ({error}); {_REMEDY}") from error


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of a checkpoint; the last two fields are not in format 1."""

    format: int
    iteration: Annotated[int, msgspec.Meta(ge=0)]
    scalars: dict[str, Any]
    store_digest: str
    settings_digest: str
    ledger_line: dict[str, Any]
    tensors_sha256: str
    tensors_nbytes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    sha256: str | None = None


def _verified(path: Path) -> _Record:
    """Read the JSON of a checkpoint, and check what it says of itself."""
    values = json.loads(read_regular(path, _MAX_RECORD))
    if not isinstance(values, dict) or "format" not in values:
        raise ValueError("it names no format")
    if values["format"] not in (1, FORMAT):
        raise CheckpointError(
            f"{path} has format {values['format']}, expected {FORMAT}; use the version of hfnumba that wrote it"
        )
    record = msgspec.convert(values, _Record)
    if record.sha256 != (None if record.format == 1 else _digest(values)):
        raise CheckpointError(f"{path} is damaged: its values do not have the SHA-256 that it names; {_REMEDY}")
    numbers = [values.get("iteration", record.iteration) for values in (record.scalars, record.ledger_line)]
    if path != json_path(path.parent, record.iteration) or numbers != [record.iteration] * 2:
        found = ", ".join(map(str, [record.iteration, *numbers]))
        raise CheckpointError(
            f"{path} is damaged: its name and its values disagree on the iteration ({found}); {_REMEDY}"
        )
    return record


def _digest(values: dict[str, Any]) -> str:
    """SHA-256 of the values of a checkpoint's JSON besides this digest, whatever the spaces between them."""
    content = {name: value for name, value in values.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _prune(folder: Path) -> None:
    """Delete old checkpoints and leftovers of crashes, by their names; a failure to do so only costs disk space."""
    with contextlib.suppress(OSError, CheckpointError):
        stems = {f"iteration-{iteration:05d}" for iteration in iterations(folder)[-RETAINED:]}
        # The JSON file first: without it there is no checkpoint.
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.suffix != ".json"):
            stale = _FILE.fullmatch(entry.name) and entry.stem not in stems
            if stale or _LEFTOVER.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    entry.unlink()
