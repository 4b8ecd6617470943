"""How long workers are listened for, by a clock that does not depend on the machine."""

import asyncio
import gc
import selectors
import time
from types import SimpleNamespace

import pytest
from distributed.comm.core import CommClosedError

from hfnumba.engine.cluster.greeting import Greetings
from hfnumba.engine.cluster.liveness import await_answers
from hfnumba.engine.cluster.messages import OPERATION, WORKING, Branch, Lost, RoundMessage
from hfnumba.engine.cluster.relay import Supply, ask_below

HERE = "tcp://here:1"
SILENCE_S = 60.0


class Clock(selectors.DefaultSelector):
    """Selector of an event loop that does not wait: its time is set forward instead."""

    now = 0.0

    def select(self, timeout=None):
        self.now += 10_000.0 if timeout is None else timeout
        assert self.now < 10_000.0, "something waits for ever"
        return super().select(0)


def run(function):
    """Run a coroutine function of a clock; return its result and what the event loop reports."""
    clock, reports = Clock(), []
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now
    loop.set_exception_handler(lambda _, context: reports.append(context["message"]))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(function(clock)), reports


class Worker:
    """Calls of one worker whose data are not on the way; it says whether it works."""

    def __init__(self, says):
        self.says, self.n_asked = says, 0

    def moved(self, _):
        return []

    async def works(self, _):
        self.n_asked += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def abort(self, _):
        pass


async def given_up(worker, silence_s, answers_after_s):
    async def present(addresses):
        return addresses

    task = asyncio.ensure_future(asyncio.sleep(answers_after_s))
    found = await await_answers({HERE: task}, present, worker, silence_s)
    task.cancel()
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    return found


@pytest.mark.parametrize(("says", "lost"), [(True, False), (False, True)])
def test_time_in_which_the_client_itself_does_not_run_is_no_silence(says, lost):
    """As after Ctrl-Z and fg, or where a batch system suspends a job."""

    async def go(clock):
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, setattr, clock, "now", 1000.0)
        return await given_up(Worker(says), SILENCE_S, 1500.0)

    found, reports = run(go)
    assert reports == []
    assert set(found) == ({HERE} if lost else set())
    assert all(SILENCE_S < quiet_s < 2 * SILENCE_S for quiet_s in found.values())


def test_a_worker_that_cannot_be_reached_is_given_up_without_a_message_of_asyncio():
    worker = Worker(CommClosedError("no connection"))
    found, reports = run(lambda _: given_up(worker, SILENCE_S, 1500.0))
    assert SILENCE_S < found[HERE] < 2 * SILENCE_S
    assert worker.n_asked > 1 and reports == []


def test_no_worker_is_given_up_before_it_was_asked():
    worker = Worker(True)
    found, _ = run(lambda _: given_up(worker, 0.1, 5.0))
    assert found == {} and worker.n_asked > 1


def test_a_relay_does_not_wait_for_a_scheduler_that_never_answers():
    async def never(**_):
        await asyncio.Event().wait()

    async def no(**_):
        return False

    class Pool:
        def __init__(self):
            self.occupied = {}

        def __call__(self, _):
            return SimpleNamespace(**{OPERATION: never, WORKING: no})

    message = RoundMessage(0, "problem", (), (0,), (), {}, below=(Branch(HERE, (1,)),), silence_s=SILENCE_S)

    async def go(_):
        return await ask_below(message, Supply(None, {}), Pool(), SimpleNamespace(ncores=never))

    (lost,), reports = run(go)
    assert isinstance(lost, Lost) and lost.silent and reports == []


def test_the_first_round_does_not_wait_for_a_worker_that_freezes_while_it_compiles():
    """One that has said that it starts, and then answers nothing more."""
    greetings = Greetings(SimpleNamespace(), SILENCE_S, False)
    greetings._starting.add(HERE)
    assert greetings.expected([HERE]) and not greetings.expected([])
    greetings._unanswered[HERE] = time.monotonic()
    assert greetings.expected([HERE])
    greetings._unanswered[HERE] -= 2 * SILENCE_S
    assert not greetings.expected([HERE])
