"""What ends a scheduler whose client is gone."""

from __future__ import annotations

import asyncio

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import Scheduler


class Lifeline(SchedulerPlugin):
    """Close the scheduler, and with it all workers, when the last client has left it, however it ended."""

    name = "hfnumba-lifeline"

    def __init__(self) -> None:
        self._closing: asyncio.Task[None] | None = None

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Close it if this was the last client; Dask has one of its own that is always there."""
        if not set(scheduler.clients) - {"fire-and-forget"}:
            self._closing = asyncio.ensure_future(scheduler.close())
