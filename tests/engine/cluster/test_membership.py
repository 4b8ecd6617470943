"""Names of workers, and replacing them while a run ends."""

import asyncio
from types import SimpleNamespace

import pytest
from distributed.comm.core import CommClosedError

from hfnumba.engine.cluster.membership import Workers
from hfnumba.engine.cluster.messages import GREET, OPERATION, WORKING
from hfnumba.engine.cluster.worker import RoundPlugin, lasting_name


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


def test_a_worker_that_closes_answers_what_it_is_still_asked():
    """Dask logs an operation without a handler with a traceback; its client gets None either way."""
    worker = SimpleNamespace(handlers={"own": print})
    RoundPlugin().teardown(worker)
    for operation, message in {GREET: {"probe": None}, OPERATION: {"request": b""}, WORKING: {"number": 3}}.items():
        assert asyncio.run(worker.handlers[operation](**message)) is None
    assert worker.handlers["own"] is print


@pytest.mark.parametrize(
    ("name", "nanny", "expected"),
    [
        ("tcp://a:1", "tcp://a:9", "tcp://a:9"),
        ("tls://b:1", "tcp://a:9", "tcp://a:9"),
        (None, "tcp://a:9", "tcp://a:9"),
        ("tcp://a:1", None, "tcp://a:1"),
        (3, "tcp://a:9", "3"),
        ("node7", "tcp://a:9", "node7"),
    ],
)
def test_a_worker_without_a_name_is_called_by_its_nanny(name, nanny, expected):
    """The address of its process changes when that is replaced, and losses would be counted anew."""
    worker = SimpleNamespace(name=name, nanny=nanny, address="tcp://a:1", contact_address="tls://b:1")
    assert lasting_name(worker) == expected


def test_a_worker_that_left_before_it_could_be_restarted_is_no_warning(caplog):
    """Dask's answer does not name it then."""

    async def restart_workers(workers, **_):
        return {}[workers[0]]

    async def go():
        workers = Workers(SimpleNamespace(status="running", restart_workers=restart_workers), 60.0)
        workers.replace("tcp://here:1")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(go())
    assert caplog.records == []
