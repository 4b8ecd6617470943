"""The comparison that `hfnumba bench quality` makes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from hfnumba.bench.quality.contest import Contest, carry_out, setting
from hfnumba.bench.quality.course import Arena
from hfnumba.bench.quality.data import Request
from hfnumba.bench.quality.methods import BATCH_ROWS, CONTESTANTS, checked_methods, default_methods
from hfnumba.bench.quality.problems import PROBLEMS, Problem, Target
from hfnumba.bench.quality.records import Record, Result, read_lines, results_of
from hfnumba.bench.quality.summary import TargetSummary, summarise
from hfnumba.errors import CheckpointError, UsageError
from hfnumba.progress import Reporter

_QUICK_MINUTES = 0.1


@dataclass(frozen=True)
class Options:
    """Options of the command; None for defaults.

    Attributes
    ----------
    problem : str
        Name of :data:`hfnumba.bench.quality.problems.PROBLEMS`.
    methods : tuple of str or None
    seeds : int
    minutes : float or None
    batch_rows : int or None
    learning_rate : float or None
        Setting of first-order methods in place of their grids.
    l2 : float
        Factor of the penalty l2/2 · ‖weights‖².
    store : Path or None
    json_file : Path or None
    quick : bool
    """

    problem: str
    methods: tuple[str, ...] | None = None
    seeds: int = 3
    minutes: float | None = None
    batch_rows: int | None = None
    learning_rate: float | None = None
    l2: float = 0.0
    store: Path | None = None
    json_file: Path | None = None
    quick: bool = False


def compare(options: Options, reporter: Reporter) -> tuple[Problem, list[Result], list[TargetSummary]]:
    """Make all runs that the file of results does not have; return its results and their summaries.

    Raises
    ------
    UsageError
        If a problem or a method is unknown, a library is missing, or the penalty is no number of at least 0.
    CheckpointError
        If the file of results cannot be written, or is of another setting.
    """
    if options.problem not in PROBLEMS:
        raise UsageError(f"unknown problem {options.problem!r}; choose from {', '.join(PROBLEMS)}")
    if not 0 <= options.l2 < math.inf:
        raise UsageError(f"expected l2 to be a number of at least 0, got {options.l2}; 0 means no penalty")
    problem = replace(PROBLEMS[options.problem], l2=options.l2)
    methods = checked_methods(default_methods() if options.methods is None else options.methods)
    contest = _contest(options, problem, methods)
    arena = Arena(problem, problem.load(Request(options.store, options.quick, reporter)))
    try:
        reporter.note(
            f"{options.problem}: {len(arena.data.X):,} training and {len(arena.data.X_test):,} held-out rows, network "
            f"{'-'.join(map(str, arena.network.sizes))}"
        )
        path = options.json_file or Path(f"quality-{options.problem}.jsonl")
        record = Record(path, setting(options.problem, contest, arena))
        carry_out(contest, arena, record, reporter)
    finally:
        arena.close()
    results = list(record.results.values())
    summaries = summarise(problem, methods, results)
    record.summarise({"targets": [summary.as_dict() for summary in summaries]})
    return problem, results, summaries


def read_results(path: Path) -> tuple[dict[str, Any], Problem, list[Result]]:
    """Read a file of results: its setting, its problem with the targets that it was run for, and the runs.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is no file of results.
    """
    lines = read_lines(path)
    if not lines or lines[0].get("problem") not in PROBLEMS:
        raise CheckpointError(f"{path} has no results of a known problem; give a file of hfnumba bench quality")
    try:
        targets = msgspec.convert(lines[0].get("targets"), tuple[Target, ...])
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{path} has no targets ({error}); measure again") from None
    problem = replace(PROBLEMS[lines[0]["problem"]], targets=targets, l2=lines[0].get("l2", 0.0))
    return lines[0], problem, results_of(lines)


def _contest(options: Options, problem: Problem, methods: tuple[str, ...]) -> Contest:
    minutes = problem.minutes if options.minutes is None else options.minutes
    batch_rows = BATCH_ROWS if options.batch_rows is None else (options.batch_rows,)
    rates = () if options.learning_rate is None else (options.learning_rate,)
    grids = {
        name: tuple(itertools.product(batch_rows, rates or own)) for name in methods if (own := CONTESTANTS[name].rates)
    }
    if options.quick:
        middle = {name: grid[len(grid) // 2 :][:1] for name, grid in grids.items()}
        return Contest(problem, methods, 1, min(minutes, _QUICK_MINUTES), middle)
    return Contest(problem, methods, options.seeds, minutes, grids)
