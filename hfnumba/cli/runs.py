"""`hfnumba runs`."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hfnumba.cli.common import FAILED, AnyPath, Failure, json_option, print_json
from hfnumba.cli.tables import best_by_validation, number, print_table
from hfnumba.errors import CheckpointError
from hfnumba.metrics import ERROR, described
from hfnumba.path_text import path_text, text_path

if TYPE_CHECKING:
    from hfnumba.run import RunDirectory

_OPTIONAL = ("hidden", "error", "loss")
"""Columns that a narrow terminal has no room for, the last one first."""


@click.command()
@click.argument("directory", type=AnyPath, default=Path("runs"))
@json_option
def runs(directory: Path, as_json: bool) -> None:
    """List the runs in DIRECTORY (by default: runs), or the run DIRECTORY itself, the newest last.

    The date is that of the last start. Those that cannot be read are named on stderr, and the exit status is 1.
    """
    from hfnumba.run.directory import RunDirectory

    found = _configs(directory)
    if not found:
        raise CheckpointError(f"there are no runs in {directory}; `hfnumba train` makes them")
    records, faults = [], []
    for config in found:
        try:
            records.append(_record(RunDirectory(config.parent)))
        except CheckpointError as error:
            faults.append(Failure(str(error), FAILED))
    if as_json:
        print_json(records)
    elif records:
        _print(records)
    for fault in faults[:-1]:
        fault.show()
    if faults:
        raise faults[-1]


def _configs(directory: Path) -> list[Path]:
    """Return the ``config.toml`` of a directory, if it has one, and of those in it, the oldest first."""
    times = {}
    try:
        for folder in (directory, *directory.iterdir()):
            # Another process may remove a run meanwhile; a link to nothing is a run that is damaged.
            with suppress(OSError):
                times[folder / "config.toml"] = (folder / "config.toml").lstat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"there is no directory {directory}; name a run, or a directory with runs") from None
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be read ({error.strerror})") from error
    return sorted(times, key=times.__getitem__)


def _record(run: RunDirectory) -> dict[str, Any]:
    """Return what is known of a run; numbers of its last iteration are None before the first one."""
    from hfnumba import ledger
    from hfnumba.run.scores import completed

    record = run.record()
    lines = completed(ledger.read(run.ledger), record.settings.loss)
    last = lines[-1] if lines else {}
    best = best_by_validation(lines) or {}
    return {
        "run": path_text(run.path),
        "date": datetime.fromtimestamp(run.config.stat().st_mtime).astimezone().isoformat(timespec="seconds"),
        "store": record.store.path,
        "method": record.settings.method,
        "hidden": list(record.settings.hidden),
        "max_iterations": record.settings.max_iterations,
        **{name: last.get(name) for name in ("iteration", "loss", "error", "test_loss", "test_error", "elapsed_s")},
        **{name: last[name] for name in ("rmse", "r2", "test_rmse", "test_r2") if name in last},
        "best_iteration": best.get("iteration"),
        **{name: best[name] for name in ("validation_error", "validation_rmse", "validation_r2") if name in best},
    }


def _measures(record: dict[str, Any], beginning: str = "") -> str:
    """Format as ``4.21 %`` or ``RMSE 46310, R² 0.9750``; a dash where there are no such rows."""
    if record.get(f"{beginning}error") is None:
        return "–"
    found = described(record, beginning)
    return ", ".join(text if metric is ERROR else f"{metric.name} {text}" for metric, text in found)


def _print(records: list[dict[str, Any]]) -> None:
    columns: dict[str, list[str]] = {
        "run": [text_path(one["run"]).absolute().name for one in records],
        "date": [datetime.fromisoformat(one["date"]).strftime("%Y-%m-%d %H:%M") for one in records],
        "store": [text_path(one["store"]).stem for one in records],
        "method": [one["method"] for one in records],
        "hidden": [",".join(map(str, one["hidden"])) for one in records],
        "iterations": [
            f"{'–' if one['iteration'] is None else one['iteration']} of {one['max_iterations']}" for one in records
        ],
        "loss": [number(one["loss"]) for one in records],
        "error": [_measures(one) for one in records],
        "test error": [_measures(one, "test_") for one in records],
    }
    if any(one["best_iteration"] is not None for one in records):
        columns["best validation"] = [_measures(one, "validation_") for one in records]
    print_table(list(columns), list(zip(*columns.values(), strict=True)), optional=_OPTIONAL)
