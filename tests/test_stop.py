"""Waiting that a signal or a time limit ends."""

import asyncio
import gc

import pytest

from hfnumba.stop import unless_stopped


def test_a_failure_while_what_is_waited_for_is_cancelled_is_not_logged():
    logged = []

    async def fails_at_its_end():
        try:
            await asyncio.sleep(3600)
        finally:
            raise TimeoutError("connect")

    async def go():
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: logged.append(context["message"]))
        with pytest.raises(TimeoutError, match=r"^$"):
            await unless_stopped(fails_at_its_end(), 0.0)
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(go())
    assert logged == []
