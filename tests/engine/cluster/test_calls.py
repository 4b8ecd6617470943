"""Signs of life of a call over a connection of this machine."""

import asyncio
import socket
from types import SimpleNamespace

import pytest
from distributed.comm import connect, listen

from hfnumba.engine.cluster.calls import Calls
from hfnumba.engine.cluster.messages import OPERATION
from hfnumba.linux import transferred


@pytest.mark.parametrize("protocol", ["tcp", "inproc"])
def test_data_that_move_are_seen_where_they_are_counted(protocol):
    async def go():
        got = asyncio.Queue()

        async def receive(comm):
            got.put_nowait(comm)
            while True:
                got.put_nowait(await comm.read())

        async with listen(f"{protocol}://", receive) as listener:
            address = listener.contact_address
            comm = await connect(address)
            comm.name = f"ConnectionPool.{OPERATION}"
            there = await got.get()
            calls = Calls(SimpleNamespace(occupied={address: {comm}}))
            counts = [calls.moved(address)]
            for sender, receiver in ((comm, got.get), (there, comm.read)):
                await sender.write(b"x" * 10_000)
                assert await receiver() == b"x" * 10_000
                # The kernel acknowledges at its own pace.
                while protocol == "tcp" and counts[-1] == calls.moved(address):
                    await asyncio.sleep(0.001)
                counts.append(calls.moved(address))
            assert calls.moved("tcp://another:1") == []
            calls.abort(address)
            assert comm.closed()
            there.abort()
            return counts

    counts = asyncio.run(go())
    if protocol == "inproc":
        assert counts == [None, None, None]
    else:
        (before,), (between,), (after,) = counts
        assert between[0] >= before[0] + 10_000 and after[1] >= between[1] + 10_000


def test_data_within_a_machine_are_not_counted():
    """They are on the way for no time, so that only the worker's word is a sign of life."""
    ours, others = socket.socketpair(socket.AF_UNIX)
    with ours, others:
        ours.send(b"1")
        assert transferred(ours) == (0, 0)
