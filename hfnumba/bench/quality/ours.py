"""Runs of the methods of this package."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hfnumba.bench.quality.course import Course, RunOver
from hfnumba.bench.quality.meter import CountedObjective
from hfnumba.errors import NumericalError
from hfnumba.optim.methods import Optimizer, optimizer, settings_of


def registered(course: Course) -> None:
    """Run a method of :data:`hfnumba.optim.methods.METHODS` with its default settings, or those of the run.

    Raises
    ------
    RunOver
        At the end.
    """
    note = ""
    with CountedObjective(course.network, course.data.X, course.data.y, course.meter, course.l2) as objective:
        course.meter.start()
        iterations = _method(course).iterate(objective, course.theta, stop=course.is_out_of_time)
        try:
            while True:
                iteration = next(iterations)
                known = None if course.l2 else (iteration.loss, iteration.error)
                course.report(iteration.state.theta, known)
                note = iteration.note
        except StopIteration as end:
            if end.value is not None:
                # Stopped between two steps of an iteration.
                course.report(end.value.theta)
        except NumericalError as error:
            raise RunOver(str(error)) from None
    raise RunOver(note or "the method ended by itself")


def _method(course: Course) -> Optimizer:
    run = course.run
    given = {"seed": run.seed, "batch_rows": run.batch_rows, "learning_rate": run.learning_rate}
    made: Any = optimizer(run.method, **{name: value for name, value in given.items() if value is not None})
    if "record_every" in settings_of(run.method):
        n_batch = min(made.batch_rows or course.arena.n_rows, course.arena.n_rows)
        made = replace(made, record_every=max(1, round(course.interval_rows / n_batch)))
    chosen: Optimizer = made
    return chosen
