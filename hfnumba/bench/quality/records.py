"""The file of results: a JSON line for the setting, for the start and end of each run, and for each of its points."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from hfnumba import ledger
from hfnumba.atomic import explain, read_regular
from hfnumba.errors import CheckpointError

_MAX_BYTES = 1 << 30
_BEGINNING = b'{"kind": "setting"'


@dataclass(frozen=True)
class Point:
    """Cost and quality of a run at one of its evaluations.

    Attributes
    ----------
    seconds : float
        Time without evaluations for the record.
    rounds : int
    passes : float
        Rows read by all evaluations of the method, over the training rows.
    gflop : float
    loss, error, test_loss, test_error : float or None
        Over the training rows and the held-out rows; None where not finite.
    """

    seconds: float
    rounds: int
    passes: float
    gflop: float
    loss: float | None
    error: float | None
    test_loss: float | None
    test_error: float | None

    def reaches(self, quantity: str, value: float) -> bool:
        """Whether a quantity is at most a value."""
        found = getattr(self, quantity)
        return found is not None and found <= value


@dataclass(frozen=True)
class Run:
    """What a run is: its method with its settings, and its seed.

    Attributes
    ----------
    method : str
    batch_rows : int or None
        Number of rows of a minibatch; None where the method chooses.
    learning_rate : float or None
        Likewise.
    seed : int
    is_trial : bool
        Whether the run only ranks settings of a grid.
    """

    method: str
    batch_rows: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    is_trial: bool = False

    @property
    def setting(self) -> str:
        """Method and settings, as legends and tables have them."""
        words = [self.method]
        if self.batch_rows is not None:
            words.append(f"{self.batch_rows} rows")
        if self.learning_rate is not None:
            words.append(f"rate {self.learning_rate:g}")
        return ", ".join(words)


@dataclass(frozen=True)
class Result:
    """A run that has ended.

    Attributes
    ----------
    run : Run
    points : tuple of Point
    ending : str
        Reason why it ended.
    others : float
        Share of the processors that other processes took meanwhile: more than little makes its seconds useless.
    """

    run: Run
    points: tuple[Point, ...]
    ending: str
    others: float

    def to(self, quantity: str, value: float) -> Point | None:
        """Return the first point that reaches a quality, None if there is none."""
        return next((point for point in self.points if point.reaches(quantity, value)), None)

    def lowest(self, quantity: str) -> float | None:
        """Return the lowest value of a quantity."""
        values = [found for point in self.points if (found := getattr(point, quantity)) is not None]
        return min(values, default=None)


class Record:
    """Results in a file, each line written as soon as it is there.

    Parameters
    ----------
    path : Path
        File to write; one of the same setting is continued.
    setting : mapping
        Everything that results depend on besides the runs: problem, rows, machine, versions.

    Attributes
    ----------
    results : dict of Run to Result
        Runs that have ended.

    Raises
    ------
    CheckpointError
        If the file cannot be read or written, or is of another setting.
    """

    def __init__(self, path: Path, setting: Mapping[str, Any]) -> None:
        self.path = path
        self.results: dict[Run, Result] = {}
        self._points: list[Point] = []
        lines = read_lines(path)
        if not lines:
            self._write({"kind": "setting", **setting})
            return
        found = {key: value for key, value in lines[0].items() if key != "kind"}
        wrong = [key for key in {**setting, **found} if found.get(key) != setting.get(key)]
        if wrong:
            raise CheckpointError(
                f"{path} has results of another {', '.join(wrong)}; name another file with --json, or move it away"
            )
        # What a stopped process left of a line, and earlier summaries, go; points of a stopped run stay.
        ledger.write(path, [line for line in lines if line["kind"] != "summary"])
        self.results = {result.run: result for result in results_of(lines)}

    def begin(self, run: Run) -> None:
        """Begin a run."""
        self._points = []
        self._write({"kind": "start", **asdict(run)})

    def add(self, point: Point) -> None:
        """Add a point to the run that began last."""
        self._points.append(point)
        self._write({"kind": "point", **asdict(point)})

    def end(self, run: Run, ending: str, others: float) -> None:
        """End the run that began last."""
        self._write({"kind": "end", "ending": ending, "others": others})
        self.results[run] = Result(run, tuple(self._points), ending, others)

    def summarise(self, summary: Mapping[str, Any]) -> None:
        """Write a summary as the last line."""
        self._write({"kind": "summary", **summary})

    def _write(self, line: dict[str, Any]) -> None:
        ledger.append(self.path, line)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a file of results, without a torn last one; empty if there is no file.

    Raises
    ------
    CheckpointError
        If it cannot be read, or has other lines.
    """
    try:
        *complete, torn = read_regular(path, _MAX_BYTES).split(b"\n")
        lines = [json.loads(text) for text in complete]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(explain(error, path, "name another file")) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is no file of results ({error}); name another file") from None
    for line in lines:
        if isinstance(line, dict):
            # The checksum of the line, which the ledger's own reader compares.
            line.pop("crc32", None)
    kinds = [line.get("kind") if isinstance(line, dict) else None for line in lines]
    begins = kinds[0] == "setting" if kinds else _BEGINNING.startswith(torn[: len(_BEGINNING)])
    if not begins or set(kinds) - {"setting", "start", "point", "end", "summary"}:
        raise CheckpointError(f"{path} is no file of results of hfnumba bench quality; name another file")
    return lines


def results_of(lines: Sequence[Mapping[str, Any]]) -> list[Result]:
    """Return the runs that have ended, in their order.

    Raises
    ------
    CheckpointError
        If a line lacks something.
    """
    found: list[Result] = []
    run, points = Run(""), list[Point]()
    try:
        for line in lines:
            values = {key: value for key, value in line.items() if key != "kind"}
            if line["kind"] == "start":
                run, points = msgspec.convert(values, Run), []
            elif line["kind"] == "point":
                points.append(msgspec.convert(values, Point))
            elif line["kind"] == "end":
                found.append(Result(run, tuple(points), str(values["ending"]), float(values["others"])))
    except (msgspec.ValidationError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"the file of results has a line that lacks something ({error}); delete it") from None
    return found
