"""Queues of Dask's nannies without semaphores, which would be files in /dev/shm.

A container may have no /dev/shm that can be written, or a small one; and a process that is killed together with
Python's resource tracker, as MPI does it, would leave its semaphores there until the machine is restarted.
"""

from __future__ import annotations

from multiprocessing import Pipe
from queue import Empty
from types import SimpleNamespace
from typing import Any


class PipeQueue:
    """The part of :class:`multiprocessing.Queue` that a nanny and its worker process use.

    One thread reads, and messages are much shorter than the buffer of a pipe; so no lock is needed.
    """

    def __init__(self) -> None:
        self._reader, self._writer = Pipe(duplex=False)

    def put(self, message: Any) -> None:
        """Send a message.

        Raises
        ------
        ValueError
            If this process has closed the queue.
        """
        try:
            self._writer.send(message)
        except OSError as error:
            raise ValueError(f"the queue is closed: {error}") from error

    def get(self) -> Any:
        """Return the next message, and wait for it."""
        return self._reader.recv()

    def get_nowait(self) -> Any:
        """Return the next message.

        Raises
        ------
        queue.Empty
            If there is none.
        """
        if not self._reader.poll():
            raise Empty
        return self._reader.recv()

    def close(self) -> None:
        """Send nothing more from this process."""
        self._writer.close()

    def join_thread(self) -> None:
        """Return at once: what was put is sent."""


def without_semaphores() -> None:
    """Let the nannies of this process use such queues from now on."""
    from distributed import nanny  # noqa: PLC0415 - slow to import

    nanny.get_mp_context = lambda: SimpleNamespace(Queue=PipeQueue)
