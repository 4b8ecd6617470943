"""Threads that take part in a round, or in a product of the client.

A thread pool of the standard library does the same, but hands over through a future, a lock and two conditions; from
a queue in C a thread starts sooner, which shortens evaluations on few rows.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any

from hfnumba.errors import UsageError
from hfnumba.linux import avoid_processor, current_processor
from hfnumba.processors import available_processors

Task = Callable[[], None]
_BEGINNING = threading.Lock()


class Team:
    """The calling thread and ``n_threads - 1`` others, which end with this object.

    Parameters
    ----------
    n_threads : int
    name : str
        Names of the other threads begin with it.

    Raises
    ------
    UsageError
        If the system does not let this process start as many.
    """

    def __init__(self, n_threads: int, name: str = "hfnumba") -> None:
        self.n_threads, self._name = n_threads, name
        self._begin()

    def _begin(self) -> None:
        """Start the threads; also in a process that was forked, which has none of them."""
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        others = [
            threading.Thread(target=_serve, args=(self._inbox,), name=f"{self._name}-{i}", daemon=True)
            for i in range(1, self.n_threads)
        ]
        for i, thread in enumerate(others):
            try:
                thread.start()
            except RuntimeError as error:
                _dismiss(self._inbox, i)
                raise UsageError(
                    f"expected to start {self.n_threads} threads, but this machine allows this process {i + 1}; "
                    "ask for fewer, ideally one per processor"
                ) from error
        self._others = [thread.native_id for thread in others if thread.native_id is not None]
        self._avoided = -1
        self.close = weakref.finalize(self, _dismiss, self._inbox, self.n_threads - 1)
        # Last: another thread of a forked process that sees it goes on with the new inbox.
        self._process = os.getpid()

    def spread(self, work: Callable[[int, int | None], None], items: Sequence[int]) -> None:
        """Call ``work`` on every item, on all threads; the calling one works too, which saves a change of threads.

        Each thread has a contiguous run; one that has finished its own takes items from the others. ``work`` is called
        with the item and the one that follows in the run. A failure ends all runs.
        """
        n_threads = min(self.n_threads, len(items))
        if n_threads == 1:
            # A forked process needs no threads for this.
            for item, following in itertools.zip_longest(items, items[1:]):
                work(item, following)
            return
        cuts = [i * len(items) // n_threads for i in range(n_threads + 1)]
        runs = [deque(items[start:stop]) for start, stop in itertools.pairwise(cuts)]
        lock = threading.Lock()

        def drain(own: deque[int]) -> None:
            while True:
                with lock:
                    longest = max(runs, key=len)
                    if not longest:
                        return
                    item = own.popleft() if own else longest.pop()
                    following = own[0] if own else None
                try:
                    work(item, following)
                except BaseException:
                    with lock:
                        for run in runs:
                            run.clear()
                    raise

        self.run([partial(drain, run) for run in runs])

    def run(self, tasks: Sequence[Task]) -> None:
        """Run at most ``n_threads`` tasks, the first in this thread; return when all have ended.

        Raises
        ------
        BaseException
            The error of a task; that of this thread first, if several have failed.
        """
        if len(tasks) == 1:
            tasks[0]()
            return
        if self._process != os.getpid():
            with _BEGINNING:
                if self._process != os.getpid():
                    self._begin()
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._avoid_own_processor()
        for task in tasks[1:]:
            self._inbox.put((task, done))
        try:
            tasks[0]()
        finally:
            errors = [done.get() for _ in tasks[1:]]
        for error in errors:
            if error is not None:
                raise error

    def _avoid_own_processor(self) -> None:
        """Let the other threads avoid this thread's processor.

        A virtual machine's Linux takes a processor that has slept for one that its host has taken away, wakes a thread
        on the caller's instead, and moves it milliseconds later.
        """
        here = current_processor()
        if here != self._avoided and 1 < self.n_threads <= available_processors():
            avoid_processor(here, self._others)
            self._avoided = here


def _serve(inbox: SimpleQueue[Any]) -> None:
    # No reference to the team: it would never be collected.
    while (item := inbox.get()) is not None:
        task, done = item
        try:
            task()
        except BaseException as error:
            done.put(error)
        else:
            done.put(None)
        del item, task, done


def _dismiss(inbox: SimpleQueue[Any], n: int) -> None:
    for _ in range(n):
        inbox.put(None)
