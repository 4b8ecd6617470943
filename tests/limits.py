"""Time limits: how long a test waits for what comes at its own pace, on a machine ten times slower than most."""

import time

LIMIT_S = 600
"""Seconds after which what a test waits for has surely failed; none is needed for it to pass."""


def until(holds, running=lambda: True, every_s=0.02):
    """Return what ``holds()`` returns as soon as that is true; an assertion fails if ``running()`` is false before."""
    end = time.monotonic() + LIMIT_S
    while not (found := holds()):
        assert running() and time.monotonic() < end, "what the test waits for does not come"
        time.sleep(every_s)
    return found
