"""Fixtures that several rooms share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_syncing():
    """No test switches the power off, so nothing has to reach the disk; a process of its own still syncs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it are skipped, with this reason, where it is not given."""
    folder = os.environ.get("HFNUMBA_DATA")
    if not folder:
        pytest.skip("HFNUMBA_DATA does not name a folder with the real data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def client():
    """Two real worker processes of one thread each, shared by all tests that do not harm them."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client
