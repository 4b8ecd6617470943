"""Scheduler plugin that ends a cluster whose client is gone."""

from __future__ import annotations

import asyncio

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import Scheduler


class Lifeline(SchedulerPlugin):
    """Closes the scheduler, and with it all workers, when the last client has disconnected for any reason."""

    name = "hfnumba-lifeline"

    def __init__(self) -> None:
        self._closing: asyncio.Task[None] | None = None

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Close the scheduler if this was the last client; Dask always has one of its own."""
        if not set(scheduler.clients) - {"fire-and-forget"}:
            self._closing = asyncio.ensure_future(scheduler.close())
