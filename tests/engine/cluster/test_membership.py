"""Replacing workers while a run ends."""

import asyncio
from types import SimpleNamespace

import pytest
from distributed.comm.core import CommClosedError

from hfnumba.engine.cluster.membership import Workers


@pytest.mark.parametrize(("status", "n_warnings"), [("running", 1), ("closing", 0)])
def test_a_restart_that_the_end_of_a_run_cuts_off_is_no_warning(status, n_warnings, caplog):
    async def restart_workers(*_, **__):
        raise CommClosedError("Stream is closed")

    async def go():
        workers = Workers(SimpleNamespace(status=status, restart_workers=restart_workers), 60.0)
        workers.replace("tcp://here:1")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(go())
    assert len(caplog.records) == n_warnings
