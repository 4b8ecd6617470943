import pytest

from hfnumba.engine.cluster import membership
from tests.limits import LIMIT_S


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Processes that replace others take long to start on a busy machine."""
    monkeypatch.setattr(membership, "_NO_WORKER_TIMEOUT_S", LIMIT_S)
