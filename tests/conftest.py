"""Fixtures that several rooms share."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from hfnumba.ingest import write_store
from tests.toy_store import write_toy_store

# No test depends on how fast the machine is. Where changes are judged the examples are the same each time; elsewhere
# new ones are drawn, and one that fails becomes an explicit example.
settings.register_profile(
    "hfnumba",
    deadline=None,
    derandomize=os.environ.get("CI", "") not in ("", "0", "false"),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("hfnumba")


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
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory):
    """The path of a small store."""
    return write_toy_store(tmp_path_factory.mktemp("store") / "toy.zarr")


@pytest.fixture
def arrays():
    """Images of 12 bytes in 3 classes; the first byte of a row is its number."""
    rng = np.random.default_rng(7)

    def split(n):
        X = rng.integers(0, 256, (n, 12), dtype=np.uint8)
        X[:, 0] = np.arange(n) % 256
        return X, rng.integers(0, 3, n)

    return {"train": split(100), "test": split(37)}


@pytest.fixture
def store(tmp_path, arrays):
    return write_store(tmp_path / "s.zarr", arrays, n_partitions=4, seed=3)


def contents(root):
    """Every file of a folder: relative path to bytes."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def read_tree():
    return contents
