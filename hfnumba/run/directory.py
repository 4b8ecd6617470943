"""Directory of a run: ``config.toml``, ``ledger.jsonl`` and ``checkpoints/``, enough to resume it and to plot it."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hfnumba import ledger
from hfnumba.atomic import TEMPORARY, explain, read_regular, write_file
from hfnumba.checkpoint import Checkpoint, iterations, json_path, newest_checkpoint, read_checkpoint
from hfnumba.errors import CheckpointError, UsageError
from hfnumba.html import curves, table
from hfnumba.ledger import Line
from hfnumba.run.config import MAX_BYTES, TABLES_OF_A_RUN, settings_from, toml
from hfnumba.run.lock import LOCK
from hfnumba.run.machine import machine
from hfnumba.run.records import NetworkRecord, RunRecord, StoreRecord
from hfnumba.run.setting_types import by_earlier_number
from hfnumba.run.settings import CHANGEABLE, RENAMED, TrainSettings, as_dict, fixed
from hfnumba.run.validation import best_of
from hfnumba.versions import installed

_PACKAGES = ("python", "hfnumba", "numpy", "scipy", "numba", "dask", "distributed", "zarr")


_RECORDED = ("network", "store")
_LATER = ("optimizer", "machine", "digests")
"""Tables that the first versions did not write."""


@dataclass(frozen=True)
class RunDirectory:
    """Directory of a run: its files, and the operations on them.

    Parameters
    ----------
    path : Path
        The directory, which need not exist yet.
    """

    path: Path

    def _repr_html_(self) -> str:
        lines = ledger.read(self.ledger)
        names = {"loss": "loss", "test loss": "test_loss"}
        points = {
            name: [(line["iteration"], line[key]) for line in lines if line.get(key) is not None]
            for name, key in names.items()
        }
        known = lines[-1] if lines else {}
        shown = [(name, f"{known[key]:.5g}") for name, key in names.items() if known.get(key) is not None]
        rows = [("directory", str(self.path)), ("iterations", str(known.get("iteration", 0))), *shown]
        return table("Run", rows) + curves("iteration", points)

    @property
    def config(self) -> Path:
        """File of settings, network, data and versions."""
        return self.path / "config.toml"

    @property
    def ledger(self) -> Path:
        """File with a line for each iteration."""
        return self.path / "ledger.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the newest two checkpoints."""
        return self.path / "checkpoints"

    @property
    def best_checkpoints(self) -> Path:
        """Folder of the two checkpoints with the lowest validation loss, of a run with validation rows.

        The second is the best of the checkpoint before the newest.
        """
        return self.checkpoints / "best"

    def refuse_used(self) -> None:
        """Refuse a directory that holds anything besides the leftovers of a process that was killed before it began.

        Raises
        ------
        CheckpointError
        """
        if self.path.exists() and not self.path.is_dir():
            raise CheckpointError(f"{self.path} is a file, expected a directory for the run; choose another name")
        if not self.path.exists():
            return
        used = [entry for entry in self.path.iterdir() if entry.name != LOCK and entry.suffix != TEMPORARY]
        if used and not self.config.exists() and iterations(self.checkpoints):
            raise CheckpointError(
                f"{self.path} has checkpoints but no {self.config.name}; restore that file from a copy, or from a new "
                "run of one iteration with the same settings and data, and continue with --resume"
            )
        if used:
            raise CheckpointError(
                f"{self.path} is not empty (it has {used[0].name}); continue that run with --resume, "
                "or give --run another directory"
            )

    def write_config(self, record: RunRecord) -> None:
        """Write ``config.toml``, which can be given to ``--config`` again."""
        text = f"# A run of hfnumba. Its settings can be used again: hfnumba train STORE --config {self.config.name}\n"
        tables = {name: msgspec.to_builtins(getattr(record, name)) for name in _RECORDED}
        digests = {"network_and_store": _digest(tables)}
        around = {
            "optimizer": record.optimizer,
            "versions": installed(_PACKAGES),
            "machine": machine(),
            "digests": digests,
        }
        text += toml(as_dict(record.settings) | tables | around)
        try:
            write_file(self.config, text.encode())
        except OSError as error:
            raise CheckpointError(explain(error, self.config)) from error

    def record(self) -> RunRecord:
        """Read ``config.toml``.

        Returns
        -------
        RunRecord
            Settings, network and data of the run.

        Raises
        ------
        CheckpointError
            If this is not the directory of a run, or the file is damaged.
        """
        try:
            document = tomllib.loads(read_regular(self.config, MAX_BYTES).decode("utf-8"))
            tables = {name: document.pop(name) for name in TABLES_OF_A_RUN if name not in _LATER or name in document}
            # An earlier version wrote no digest.
            digest = tables.get("digests", {}).get("network_and_store", _digest(tables))
            if digest != _digest(tables):
                raise ValueError(f"{' and '.join(_RECORDED)} do not have the digest it names; restore it from a copy")
            record = RunRecord(
                # An earlier version wrote settings by the names they had then.
                settings=settings_from({RENAMED.get(name, name): value for name, value in document.items()}),
                network=msgspec.convert(tables["network"], NetworkRecord),
                store=msgspec.convert(tables["store"], StoreRecord),
                optimizer=msgspec.convert(tables.get("optimizer", {}), dict[str, int | float | str]),
            )
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(
                f"{self.path} is not the directory of a run: it has no {self.config.name}; "
                "start one with `hfnumba train STORE --hidden … --run DIR`"
            ) from None
        except OSError as error:
            raise CheckpointError(f"{self.config} cannot be read ({error.strerror})") from error
        except UsageError as error:
            raise CheckpointError(f"{self.config} is damaged, or of another version: {error}") from error
        except KeyError as error:
            raise CheckpointError(f"{self.config} is damaged: it has no table {error}") from error
        except (ValueError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{self.config} is damaged: {error}") from error
        return record

    def surroundings(self) -> dict[str, dict[str, str]]:
        """Read the versions and the machine from ``config.toml``; an earlier version wrote nothing on the machine.

        Raises
        ------
        CheckpointError
            See :meth:`record`.
        """
        self.record()
        document = tomllib.loads(read_regular(self.config, MAX_BYTES).decode("utf-8"))
        tables = {name: document.get(name, {}) for name in ("versions", "machine")}
        return {name: {str(key): str(value) for key, value in table.items()} for name, table in tables.items()}

    def newest(self) -> Checkpoint:
        """Read the newest checkpoint.

        Returns
        -------
        Checkpoint
            The checkpoint.

        Raises
        ------
        CheckpointError
            If there is none or it is damaged.
        """
        checkpoint = newest_checkpoint(self.checkpoints)
        if checkpoint is None:
            raise CheckpointError(
                f"{self.path} has no checkpoint yet; let it train for an iteration with `hfnumba train … --resume`"
            )
        return checkpoint

    def best(self) -> Checkpoint:
        """Read the checkpoint with the lowest validation loss; the newest of a run without validation rows.

        Returns
        -------
        Checkpoint
            The checkpoint.

        Raises
        ------
        CheckpointError
            If there is none or it is damaged.
        """
        newest = self.newest()
        best = best_of(newest)
        if best is None or best.iteration is None:
            return newest
        path = json_path(self.best_checkpoints, best.iteration)
        if not path.is_file():
            raise CheckpointError(
                f"the best checkpoint of {self.path}, of iteration {best.iteration}, is not in "
                f"{self.best_checkpoints}; restore it from a copy, or take the newest checkpoint instead"
            )
        return read_checkpoint(path)

    def rewind(self, record: RunRecord) -> tuple[Checkpoint | None, list[Line]]:
        """Cut the ledger at the newest checkpoint and return both; none for a run that has not begun.

        Raises
        ------
        CheckpointError
            If the checkpoint is missing, damaged, or of other settings or data than ``config.toml`` says, or if lines
            of the ledger are missing.
        """
        checkpoint = newest_checkpoint(self.checkpoints)
        if checkpoint is None:
            if ledger.read(self.ledger):
                raise CheckpointError(
                    f"{self.path} has a ledger but no checkpoint to continue from; restore {self.checkpoints}, "
                    "or start again in another directory"
                )
            return None, []
        self.refuse_other(record, checkpoint)
        return checkpoint, ledger.cut(self.ledger, checkpoint.ledger_line)

    def refuse_other(self, record: RunRecord, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint that was written for other settings, another network or other data.

        Raises
        ------
        CheckpointError
        """
        for what, expected, found in (
            ("settings", record.settings_digest, checkpoint.settings_digest),
            ("training data", record.store.digest, checkpoint.store_digest),
        ):
            if expected != found:
                wanted, got = shortened(expected, found)
                raise CheckpointError(
                    f"the newest checkpoint of {self.path} was written for other {what} "
                    f"({got}) than its {self.config.name} names ({wanted}); restore that file"
                )


def _digest(tables: Mapping[str, Any]) -> str:
    """SHA-256 of the tables of a run that say what the network is, and how rows are transformed.

    The path of the store is left out, which may be moved.
    """
    store = {name: value for name, value in tables["store"].items() if name != "path"}
    return hashlib.sha256(json.dumps([tables["network"], store], sort_keys=True).encode()).hexdigest()


def shortened(a: str, b: str) -> tuple[str, str]:
    """Shorten two digests that differ, so that the difference stays visible."""
    return (a[:12], b[:12]) if a[:12] != b[:12] else (a, b)


def resumed_settings(recorded: TrainSettings, given: Mapping[str, Any]) -> TrainSettings:
    """Return the settings of a resumed run: the recorded ones, with limits and placement as given.

    Raises
    ------
    CheckpointError
        Naming each setting that may not change, with both values.
    """
    merged = settings_from(as_dict(recorded) | by_earlier_number(given, as_dict(recorded)))
    before, after = fixed(recorded), fixed(merged)
    changed = [
        f"{name} was {before.get(name)!r}, not {after.get(name)!r}"
        for name in TrainSettings.__struct_fields__
        if before.get(name) != after.get(name)
    ]
    if changed:
        raise CheckpointError(
            f"a run is continued with its own settings, but {'; '.join(changed)}; leave these out "
            f"(only {', '.join(CHANGEABLE)} may change), or start another run"
        )
    return merged
