"""Directory of a run: ``config.toml``, ``ledger.jsonl`` and ``checkpoints/``, enough to resume it and to plot it."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hfnumba import ledger
from hfnumba.atomic import TEMPORARY, explain, write_file
from hfnumba.checkpoint import Checkpoint, newest_checkpoint
from hfnumba.errors import CheckpointError, UsageError
from hfnumba.network import Network
from hfnumba.run.config import settings_from, toml
from hfnumba.run.settings import CHANGEABLE, RENAMED, TrainSettings, as_dict, digested, fixed
from hfnumba.store.columns import Column, feature_names
from hfnumba.store.layout import MAX_CONTEXT
from hfnumba.store.standardise import Standardisation
from hfnumba.versions import installed

_LOCK = ".lock"
_PACKAGES = ("python", "hfnumba", "numpy", "scipy", "numba", "dask", "distributed", "zarr")


class NetworkRecord(msgspec.Struct, frozen=True):
    """Description of a :class:`hfnumba.network.Network`."""

    sizes: tuple[int, ...]
    activation: str
    loss: str

    def network(self) -> Network:
        """Return the network.

        Raises
        ------
        UsageError
            If there is none of this description.
        """
        return Network(self.sizes, self.activation, self.loss)


class StoreRecord(msgspec.Struct, frozen=True):
    """Path, digest and task of the training data, and the transformation of their features.

    The path is a text of :func:`hfnumba.path_text.path_text`.
    Features are standardised ((x - origin - mean) / deviation, where there are means; most have no origin), spliced
    with ``context`` frames on each side, and scaled (x * scale + offset), in this order. ``class_weights`` are the
    weights of the classes in the loss; empty for none.

    ``columns`` are the columns of the table in the order of the features, ``classes`` the names of the classes in the
    order of their numbers, and ``targets`` those of a regression target; empty for data without names. Runs of earlier
    versions have none of these (UNSET), and ``columns`` is UNSET for tables that were built by earlier versions.
    """

    path: str
    digest: str
    task: str
    scale: float
    offset: float
    context: int = 0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    origin: tuple[float, ...] = ()
    class_weights: tuple[float, ...] = ()
    columns: tuple[Column, ...] | msgspec.UnsetType = msgspec.UNSET
    classes: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    targets: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def standardisation(self) -> Standardisation | None:
        """Mean and deviation of each feature; None if the training rows were not standardised."""
        return Standardisation(self.mean, self.deviation, self.origin) if self.mean else None


class RunRecord(msgspec.Struct, frozen=True):
    """The content of ``config.toml``."""

    settings: TrainSettings
    network: NetworkRecord
    store: StoreRecord

    def __post_init__(self) -> None:
        data, network = self.store, self.network.network()
        width, left = divmod(network.n_features, 2 * data.context + 1)
        if not 0 <= data.context <= MAX_CONTEXT or left:
            raise ValueError(f"{network.n_features} inputs are no frames with {data.context} neighbours on each side")
        for what, given, expected in (
            ("means", data.mean, width),
            ("deviations", data.deviation, width),
            ("features of columns", feature_names(data.columns or ()), width),
            ("names of classes", data.classes, network.n_outputs),
            ("names of targets", data.targets, network.n_outputs),
            ("class weights", data.class_weights, network.n_outputs),
        ):
            if given and len(given) != expected:
                raise ValueError(f"expected {expected} {what} for this network, got {len(given)}")
        if not (math.isfinite(data.scale) and math.isfinite(data.offset)):
            raise ValueError(f"expected a finite scale and offset, got {data.scale} and {data.offset}")
        # It checks means and deviations.
        _ = data.standardisation

    @property
    def settings_digest(self) -> str:
        """Digest of the settings that must not change within a run, and of the network."""
        content = [digested(self.settings), msgspec.to_builtins(self.network)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run, and the operations on them."""

    path: Path

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
        used = [entry for entry in self.path.iterdir() if entry.name != _LOCK and entry.suffix != TEMPORARY]
        if used:
            raise CheckpointError(
                f"{self.path} is not empty (it has {used[0].name}); continue that run with --resume, "
                "or give --run another directory"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the directory, and lock it against other processes that would train in it.

        A directory that was created here is removed again if no run began in it.

        Raises
        ------
        CheckpointError
            If another process trains there, or it cannot be written.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - not needed to read a run

        lock = FileLock(self.path / _LOCK)
        existed = self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise CheckpointError(
                f"another process is training in {self.path}; wait for it, or give --run another directory"
            ) from None
        except OSError as error:
            raise CheckpointError(explain(error, self.path)) from error
        try:
            yield
        finally:
            lock.release()
            if not existed and not self.config.exists():
                shutil.rmtree(self.path, ignore_errors=True)

    def write_config(self, record: RunRecord) -> None:
        """Write ``config.toml``, which can be given to ``--config`` again."""
        text = f"# A run of hfnumba. Its settings can be used again: hfnumba train STORE --config {self.config.name}\n"
        text += toml(
            as_dict(record.settings)
            | {name: msgspec.to_builtins(getattr(record, name)) for name in ("network", "store")}
            | {"versions": installed(_PACKAGES)}
        )
        try:
            write_file(self.config, text.encode())
        except OSError as error:
            raise CheckpointError(explain(error, self.config)) from error

    def record(self) -> RunRecord:
        """Read ``config.toml``.

        Raises
        ------
        CheckpointError
            If this is not the directory of a run, or the file is damaged.
        """
        try:
            document = tomllib.loads(self.config.read_text("utf-8"))
            tables = {name: document.pop(name) for name in ("network", "store", "versions")}
            return RunRecord(
                # An earlier version wrote settings by the names they had then.
                settings=settings_from({RENAMED.get(name, name): value for name, value in document.items()}),
                network=msgspec.convert(tables["network"], NetworkRecord),
                store=msgspec.convert(tables["store"], StoreRecord),
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
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{self.config} is damaged: {error}") from error

    def newest(self) -> Checkpoint:
        """Read the newest checkpoint.

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

    def rewind(self, record: RunRecord) -> Checkpoint | None:
        """Cut the ledger at the newest checkpoint and return that; None for a run that has not begun.

        Raises
        ------
        CheckpointError
            If the checkpoint is missing, damaged, or of other settings or data than ``config.toml`` says.
        """
        checkpoint = newest_checkpoint(self.checkpoints)
        if checkpoint is None:
            if ledger.read(self.ledger):
                raise CheckpointError(
                    f"{self.path} has a ledger but no checkpoint to continue from; restore {self.checkpoints}, "
                    "or start again in another directory"
                )
            return None
        for what, expected, found in (
            ("settings", record.settings_digest, checkpoint.settings_digest),
            ("training data", record.store.digest, checkpoint.store_digest),
        ):
            if expected != found:
                raise CheckpointError(
                    f"the newest checkpoint of {self.path} was written for other {what} "
                    f"({found[:12]}) than its {self.config.name} names ({expected[:12]}); restore that file"
                )
        ledger.cut(self.ledger, checkpoint.ledger_line)
        return checkpoint


def resumed_settings(recorded: TrainSettings, given: Mapping[str, Any]) -> TrainSettings:
    """Return the settings of a resumed run: the recorded ones, with limits and placement as given.

    Raises
    ------
    CheckpointError
        Naming each setting that may not change, with both values.
    """
    merged = settings_from(as_dict(recorded) | dict(given))
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
