"""Fixtures of the tests with signals."""

import signal

import pytest


@pytest.fixture
def no_nohup():
    """Undo what nohup does, in case the tests run under it: processes inherit it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
